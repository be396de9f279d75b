"""Building and validating one CreateProcessingJob request: job names, S3 URIs, the request itself, its findings."""
