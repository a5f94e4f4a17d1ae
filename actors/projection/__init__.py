"""The read model: a table of all jobs, made from the log alone, and never asked for a decision."""
