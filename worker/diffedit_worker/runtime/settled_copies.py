"""The deletion of the copies of submissions whose jobs have ended (`diffedit/submission_copies.py`)."""

import time
from collections.abc import Callable

from diffedit.contract.object_keys import submission_key
from diffedit.errors import StoreUnavailable
from diffedit.jobs.store import JobStore
from diffedit.objects.store import ObjectStore

BATCH = 1000
"""Copies of one turn: what S3 deletes in one request."""
PAUSE = 60.0
"""Seconds until the next try after S3 has not answered, or has refused."""
FORGOTTEN_AFTER = 7 * 86400.0
"""Seconds after which a copy that cannot be deleted is left to garbage collection, so that the list does not grow."""


class SettledCopies:
    """Deletes the copies of ended jobs, if this worker is the leader."""

    def __init__(self, job_store: JobStore, object_store: ObjectStore, is_leader: Callable[[], bool]) -> None:
        self._job_store = job_store
        self._object_store = object_store
        self._is_leader = is_leader
        self._not_before = 0.0

    def delete(self) -> None:
        """Delete up to a thousand copies, in one request. It may be repeated: the copies need not exist."""
        if not self._is_leader() or time.monotonic() < self._not_before:
            return
        settled = self._job_store.settled_jobs(BATCH)
        if not settled:
            return
        try:
            self._object_store.delete_all([submission_key(job_id) for job_id in settled])
        except StoreUnavailable:
            self._not_before = time.monotonic() + PAUSE
            oldest = self._job_store.now() - FORGOTTEN_AFTER
            self._job_store.forget_settled([job_id for job_id, since in settled.items() if since < oldest])
            raise
        self._job_store.forget_settled(list(settled))
