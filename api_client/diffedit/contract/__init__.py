"""What client and worker agree on: the stages, the request, the job and its status, and where objects are stored."""
