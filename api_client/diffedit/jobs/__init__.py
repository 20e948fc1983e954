"""The job record, the registry of workers, the locks of artifacts, and how a job gets into its Celery queue."""
