"""One call to AWS: retries, rate limits, responses that were cut off, the server's time and S3's checksums."""
