"""What travels between processes: envelopes, events, subjects, and the pure rules over them."""
