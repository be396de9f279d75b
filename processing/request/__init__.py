"""From what the user gave to one valid CreateProcessingJob request: names, S3 URIs, building, checking."""
