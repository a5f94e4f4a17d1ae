"""What runs a stage: the worker, its lease and presence, and the one Serve deployment class."""
