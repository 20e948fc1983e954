"""One submitted job: its status, its end, its result."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext

from diffedit.contract import versions
from diffedit.contract.job import JobOptions, JobStatus, State
from diffedit.contract.request import EditRequest
from diffedit.deadline import deadline
from diffedit.errors import InvalidRequest, JobCancelled, JobExpired, JobFailed, NewerRecord
from diffedit.idempotency import checked_key, retry_digest
from diffedit.jobs.store import JobStore
from diffedit.objects.store import ObjectStore
from diffedit.result import EditResult
from diffedit.retries import outage_tolerant
from diffedit.waiting import changes

SHORTEST_WAIT = 1.0
"""Seconds that a server has for its answer at least, however little is left of a caller's timeout."""

Submit = Callable[[EditRequest, JobOptions, str | None, str], "JobHandle"]
"""Queues a request. Arguments: the request, its options, the idempotency key, and the digest of what the user gave."""


class JobHandle:
    """A submitted job. `client.job(id)` makes the same handle in another process.

    Attributes:
        id: 32 hex digits.
    """

    def __init__(self, job_id: str, job_store: JobStore, object_store: ObjectStore, submit: Submit) -> None:
        """Use `Client.edit` or `Client.job` to get a handle. `submit` queues a request again."""
        self.id = job_id
        self._job_store = job_store
        self._object_store = object_store
        self._submit = submit

    def __repr__(self) -> str:
        return f"JobHandle({self.id!r})"

    def status(self, timeout: float = 0) -> JobStatus:
        """Return the status of the job, in one round trip.

        If the server does not answer, ask again for up to `timeout` seconds, and for at most 30.

        Raises:
            JobNotFound: there is no record of this job.
            BadRecord: the record cannot be read.
            BrokerUnavailable: the server does not answer.
        """
        # A server that takes connections and never answers must not outlast the caller's timeout.
        with deadline(max(timeout, SHORTEST_WAIT)) if timeout > 0 else nullcontext():
            status: JobStatus = outage_tolerant(timeout)(self._job_store.status, self.id)
        return status

    def watch(self, timeout: float = 600) -> Iterator[JobStatus]:
        """Yield the status now and at every change, up to and including the terminal one.

        The job is polled: every 0.05 s after a change, then less and less often, down to once a second.

        Args:
            timeout: seconds, 600 by default.

        Raises:
            JobTimeout: the job has not ended after `timeout` seconds.
            JobNotFound: there is no record of this job.
            BrokerUnavailable: the server has not answered for 30 seconds, or until `timeout`.
        """
        return changes([self], timeout)

    def wait(self, timeout: float = 600, progress: bool = False) -> JobStatus:
        """Wait until the job has succeeded, and return its status.

        Args:
            timeout: seconds, 600 by default, with and without `progress`.
            progress: show a live bar on stderr.

        Raises:
            JobFailed, JobCancelled, JobExpired: the job ended in another way.
            JobTimeout: the job has not ended after `timeout` seconds. It goes on.
            JobNotFound, BrokerUnavailable: as `watch`.
        """
        if progress:
            # Importing rich takes a while, and a server never needs it.
            from diffedit.progress import follow

            (status,) = follow([self], timeout)
        else:
            *_, status = self.watch(timeout)
        _raise_unless_succeeded(status)
        return status

    def preview(self) -> bytes | None:
        """Return a small picture of the edit as it forms: a WebP file in the proportions of the picture, about 1 KB.

        Ask again and again, every second for example: a worker makes previews only while somebody asks for them. It
        makes them in the stage edit, at most two in a second, and each is kept for a minute. None if there is none yet.

        Raises:
            BrokerUnavailable: the server does not answer.
        """
        return self._job_store.preview(self.id)

    def result(self, timeout: float = 600) -> EditResult:
        """Wait until the job has succeeded, and return its result. Arguments and errors as for `wait`."""
        return EditResult(self.wait(timeout), self._object_store, self._job_store.contents_of)

    def cancel(self) -> bool:
        """Cancel the job. A queued job never starts, and a running job stops within one step.

        No worker has to be running.

        Returns:
            True if the job is cancelled now, False if it had ended in another way before.
        """
        return self._job_store.end_job(self.id, State.CANCELLED) is State.CANCELLED

    def retry(self, *, idempotency_key: str | None = None) -> "JobHandle":
        """Submit the same request again as a new job. It reuses the artifacts that this job made.

        Args:
            idempotency_key: 1 to 200 printable characters. A second retry of this job with the same key queues nothing
                and returns the job of the first one. It is not the key of this job: that key names this job.

        Raises:
            InvalidRequest: the job has not ended.
            IdempotencyConflict: the key names a job of another call.
            NewerRecord: a newer version has submitted the job, and this one does not know all of its request.
            QueueFull, BrokerUnavailable: as `Client.edit`.
        """
        key = checked_key(idempotency_key)
        status = self.status()
        if not status.is_terminal:
            raise InvalidRequest(f"job {self.id} is {status.state.value}; only a job that has ended can be retried")
        if status.contract > versions.CONTRACT:
            raise NewerRecord(self.id)  # what this version does not know of the request would be lost
        return self._submit(status.request, status.options, key, retry_digest(self.id))


def _raise_unless_succeeded(status: JobStatus) -> None:
    if status.state is State.FAILED:
        error = status.error
        raise JobFailed(
            status.id,
            stage=error.stage and error.stage.value if error else None,
            error_code=error.code if error else "unknown",
            message=error.message if error else "no reason was recorded",
        )
    if status.state is State.CANCELLED:
        raise JobCancelled(status.id)
    if status.state is State.EXPIRED:
        raise JobExpired(status.id, *_limit_of(status))


def _limit_of(status: JobStatus) -> list[str]:
    """Return the time limit that an expired job has exceeded: the shorter one, if there are two."""
    limits = {"deadline": status.options.deadline}
    if not status.started_at:
        limits["start_timeout"] = status.options.start_timeout
    shortest = sorted((seconds, name) for name, seconds in limits.items() if seconds is not None)[:1]
    return [f"its {name} of {seconds:g} s" for seconds, name in shortest]
