"""Local code and data to S3 and back: what is there, what has to move, and the one S3 transfer of the package."""
