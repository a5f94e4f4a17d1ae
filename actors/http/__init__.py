"""HTTP: what the actors that speak it have in common."""
