"""Local code and data to S3 and back: sources, bundles, pending uploads, and the package's only S3 transfer."""
