"""One submitted job: its status, its end, its result."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext

from diffedit.contract import versions
from diffedit.contract.job import JobOptions, JobStatus, State
from diffedit.contract.request import EditRequest
from diffedit.deadline import deadline
from diffedit.deletion import delete_job
from diffedit.errors import InvalidRequest, JobCancelled, JobExpired, JobFailed, JobNotFound, NewerRecord
from diffedit.idempotency import checked_key, retry_digest
from diffedit.jobs.store import JobStore
from diffedit.objects.store import ObjectStore
from diffedit.result import EditResult
from diffedit.retries import outage_tolerant
from diffedit.submission_copies import explaining_absence, not_found
from diffedit.waiting import SHORTEST_WAIT, changes

Submit = Callable[[EditRequest, JobOptions, str | None, str], "JobHandle"]
"""Queues a request. Arguments: the request, its options, the idempotency key, and the digest of what the user gave."""


class JobHandle:
    """A submitted job. `client.job(id)` makes the same handle in another process.

    Attributes:
        id: 32 hex digits.
    """

    def __init__(
        self,
        job_id: str,
        job_store: JobStore,
        object_store: ObjectStore,
        submit: Submit,
        owner: str | None = None,
    ) -> None:
        """Use `Client.edit` or `Client.job` to get a handle.

        `submit` queues a request again. With `owner`, the jobs of others do not exist.
        """
        self.id = job_id
        self._owner = owner
        self._job_store = job_store
        self._object_store = object_store
        self._submit = submit

    def __repr__(self) -> str:
        return f"JobHandle({self.id!r})"

    def status(self, timeout: float = 0, *, queue: bool = False) -> JobStatus:
        """Return the status of the job, in one round trip.

        If the server does not answer, ask again for up to `timeout` seconds, and for at most 30.

        Args:
            timeout: seconds, 0 by default.
            queue: look for the job's place in the queue, too: `position`, and `eta` while it waits. It costs the server
                more, so ask for it seldom, such as once a second.

        Raises:
            JobNotFound: there is no record of this job. JobLost: because the server has lost its data.
            BadRecord: the record cannot be read.
            BrokerUnavailable: the server does not answer.
        """
        # A server that takes connections and never answers must not outlast the caller's timeout.
        with (
            self._explaining_absence(),
            deadline(max(timeout, SHORTEST_WAIT)) if timeout > 0 else nullcontext(),
        ):
            ask = self._job_store.queue_status if queue else self._job_store.status
            status: JobStatus = outage_tolerant(timeout)(ask, self.id)
            return self._own(status)

    def watch(self, timeout: float = 600, heartbeat: float | None = None) -> Iterator[JobStatus]:
        """Yield the status now and at every change, up to and including the terminal one.

        The job is polled: every 0.05 s after a change, then less and less often, down to once a second. The thread is
        occupied meanwhile: a server that shows many jobs at once uses `AsyncClient`.

        Args:
            timeout: seconds, 600 by default.
            heartbeat: seconds after which the last status (the same object) is yielded again if nothing has changed, so
                that a program notices whether anybody still listens. Default: never.

        Raises:
            JobTimeout: the job has not ended after `timeout` seconds.
            JobNotFound: there is no record of this job.
            BadRecord: the record cannot be read.
            BrokerUnavailable: the server has not answered for 30 seconds, or until `timeout`.
            InvalidRequest: `timeout` is NaN, or `heartbeat` is not positive.
        """
        return changes([self], timeout, heartbeat)

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
        raise_unless_succeeded(status)
        return status

    def preview(self) -> bytes | None:
        """Return a small picture of the edit as it forms: a WebP file in the proportions of the picture, about 1 KB.

        Ask again and again, every second for example: a worker makes previews only while somebody asks for them. It
        makes them in the stage edit, at most two in a second, and each is kept for a minute. None if there is none yet.

        A job that does not exist, or has been deleted, has none.

        Raises:
            JobNotFound: the handle is of a client for one owner, and there is no such job of this owner.
            BrokerUnavailable: the server does not answer.
            BrokerFull: its memory is full.
        """
        self._require_own()
        return self._job_store.preview(self.id)

    def result(self, timeout: float = 600) -> EditResult:
        """Wait until the job has succeeded, and return its result. Arguments and errors as for `wait`."""
        return self._result_of(self.wait(timeout))

    def result_so_far(self) -> EditResult:
        """Return what the job has made so far, without waiting for more. An edit shows its mask while it runs.

        The original is there from the beginning. What is not made yet, and is asked for, raises ArtifactError.

        Raises:
            JobNotFound, BadRecord, BrokerUnavailable: as `status`.
        """
        return self._result_of(self.status())

    def cancel(self) -> bool:
        """Cancel the job. A queued job never starts, and a running job stops within one step.

        No worker has to be running.

        Returns:
            True if the job is cancelled now, False if it had ended in another way before.
        """
        self._require_own()
        with self._explaining_absence():
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

    def delete(self) -> None:
        """Delete the job at once: its record, and the pictures, artifacts and results that no other job uses.

        A job that has not ended is cancelled first. Its `idempotency_key` is free again. Left to the next garbage
        collection (`Client.collect_garbage`) is what depends on texts only, such as the embeddings of the prompts, and
        everything if more than a thousand jobs have the same picture.

        Do not submit the same picture of the same owner meanwhile: that job may find it missing.

        Raises:
            JobNotFound: there is no record of this job.
            BrokerUnavailable, StoreUnavailable: a service does not answer. The record may be deleted already; then
                garbage collection deletes the rest.
        """
        self._require_own()
        with self._explaining_absence():
            delete_job(self._job_store, self._object_store, self.id)

    def resend_webhook(self) -> None:
        """Send the last event of the job to its webhook again, whatever became of it before.

        Raises:
            InvalidRequest: the job has no webhook, or has not started.
            JobNotFound: there is no record of this job.
        """
        self._require_own()
        with self._explaining_absence():
            has_event = self._job_store.resend_webhook(self.id)
        if not has_event:
            raise InvalidRequest(f"job {self.id} has no event to send: it has no webhook, or has not started")

    def _require_own(self) -> None:
        """Raise JobNotFound if the job is another owner's."""
        if self._owner is not None:
            self.status()

    def _explaining_absence(self) -> AbstractContextManager[None]:
        return explaining_absence(self.id, self._job_store, self._object_store, self._owner)

    def _absence(self) -> JobNotFound:
        """Return the error that says why there is no record of the job. It asks the bucket."""
        return not_found(self.id, self._job_store, self._object_store, self._owner)

    def _own(self, status: JobStatus) -> JobStatus:
        if self._owner not in (None, status.owner):
            raise JobNotFound(self.id)
        return status

    def _result_of(self, status: JobStatus) -> EditResult:
        return EditResult(status, self._object_store, self._job_store.contents_of)


def raise_unless_succeeded(status: JobStatus) -> None:
    """Raise JobFailed, JobCancelled or JobExpired if the job has ended in such a way."""
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
