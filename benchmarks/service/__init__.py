"""What the queue, the job records and the object store cost, with real services and real workers."""
