"""The terminal: a job's log lines on standard output, and its status on standard error."""
