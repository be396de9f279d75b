"""Reading of log lines from CloudWatch Logs (`reader`), and their selection (`filters`)."""
