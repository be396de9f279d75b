"""One stream of events for a job, from its status and its logs, and the plain way to show it."""
