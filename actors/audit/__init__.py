"""The audit: whether the log of facts is whole, and what it says."""
