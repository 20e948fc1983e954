"""The Redis keys that benchmarks read directly, to measure without the cost of the client."""

RUNNING = "diffedit:running"
"""The hash of the jobs that workers hold."""


def job_key(job_id: str) -> str:
    """Return the key of a job's record, a hash."""
    return f"diffedit:job:{job_id}"


def waiting_key(queue: str) -> str:
    """Return the key of the sorted set of the jobs that wait in `queue`."""
    return f"diffedit:waiting:{queue}"
