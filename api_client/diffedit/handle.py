"""One submitted job: its status, its end, its result."""

import time
from collections.abc import Callable, Iterator

from diffedit.contract.job import JobOptions, JobStatus, State
from diffedit.contract.request import EditRequest
from diffedit.errors import BrokerUnavailable, InvalidRequest, JobCancelled, JobExpired, JobFailed, JobTimeout
from diffedit.jobs.store import JobStore
from diffedit.objects.store import ObjectStore
from diffedit.result import EditResult

Submit = Callable[[EditRequest, JobOptions], "JobHandle"]

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0
"""Seconds between two looks at a job: short at first and after every change, longer while nothing happens."""
PATIENCE = 30.0
"""Seconds for which a wait goes on while the server does not answer: enough for its restart."""


class JobHandle:
    """A submitted job, by its id. `client.job(id)` makes the same handle in another process."""

    def __init__(self, job_id: str, job_store: JobStore, object_store: ObjectStore, submit: Submit) -> None:
        self.id = job_id
        self._job_store = job_store
        self._object_store = object_store
        self._submit = submit

    def __repr__(self) -> str:
        return f"JobHandle({self.id!r})"

    def status(self, timeout: float = 0) -> JobStatus:
        """Where the job stands, in one round trip. A server that restarts is waited for, if `timeout` allows.

        Raises:
            JobNotFound: no record of this job.
            BrokerUnavailable: the server does not answer, or not within `timeout` seconds, of which 30 count.
        """
        deadline = time.monotonic() + min(timeout, PATIENCE)
        while True:
            try:
                return self._job_store.status(self.id)
            except BrokerUnavailable:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(FIRST_PAUSE)

    def watch(self, timeout: float = 600) -> Iterator[JobStatus]:
        """Yield the status now and at every change, up to and including the terminal one.

        Raises:
            JobTimeout: the job has not ended after `timeout` seconds.
            JobNotFound: no record of this job.
            BrokerUnavailable: the server has not answered for 30 seconds, or until `timeout`.
        """
        deadline = time.monotonic() + timeout
        seen, pause = None, FIRST_PAUSE
        while True:
            status = self.status(timeout=deadline - time.monotonic())
            if status != seen:
                yield status
                seen, pause = status, FIRST_PAUSE
            if status.is_terminal:
                return
            left = deadline - time.monotonic()
            if left <= 0:
                raise JobTimeout(self.id, f"still {status.state.value} after {timeout:g} s; wait again or cancel it")
            time.sleep(min(pause, left))
            pause = min(pause * 1.5, LONGEST_PAUSE)

    def wait(self, timeout: float = 600, progress: bool = False) -> JobStatus:
        """Wait until the job has succeeded; with `progress`, behind a live bar on stderr.

        Raises:
            JobFailed, JobCancelled, JobExpired: it ended otherwise.
            JobTimeout, JobNotFound, BrokerUnavailable: as `watch`.
        """
        if progress:
            from diffedit.progress import follow

            (status,) = follow([self], timeout)
        else:
            *_, status = self.watch(timeout)
        _raise_unless_succeeded(status)
        return status

    def result(self, timeout: float = 600) -> EditResult:
        """Wait until the job has succeeded and return its result. Raises as `wait` does."""
        return EditResult(self.wait(timeout), self._object_store)

    def cancel(self) -> bool:
        """Cancel the job. Returns whether it is cancelled now; False if it had ended otherwise before.

        Holds with no worker up, too: a queued job never starts, a running one stops within a step.
        """
        return self._job_store.end_job(self.id, State.CANCELLED) is State.CANCELLED

    def retry(self) -> "JobHandle":
        """Submit the same request again, as a new job that goes on from the artifacts that this one made.

        Raises:
            InvalidRequest: the job has not ended.
        """
        status = self.status()
        if not status.is_terminal:
            raise InvalidRequest(f"job {self.id} is {status.state.value}; only a job that has ended can be retried")
        return self._submit(status.request, status.options)


def _raise_unless_succeeded(status: JobStatus) -> None:
    if status.state is State.FAILED:
        error = status.error
        raise JobFailed(
            status.id,
            stage=error.stage and error.stage.value if error else None,
            failure=error.code if error else "unknown",
            message=error.message if error else "no reason was recorded",
        )
    if status.state is State.CANCELLED:
        raise JobCancelled(status.id)
    if status.state is State.EXPIRED:
        limits = {"start_timeout": None if status.started_at else status.options.start_timeout}
        limits["deadline"] = status.options.deadline
        told = [(seconds, name) for name, seconds in limits.items() if seconds is not None]
        raise JobExpired(status.id, *[f"its {name} of {seconds:g} s" for seconds, name in sorted(told)[:1]])
