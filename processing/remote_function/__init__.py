"""Python functions that run as processing jobs, and their results."""
