"""What worker, client and health do at each fault of Redis and S3."""
