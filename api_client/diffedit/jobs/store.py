"""What client and worker know of jobs, as three interfaces: job store, worker registry and artifact locks.

The record of a job holds facts ("stage mask was started twice", "the outcome is failed"). The state that a user sees is
derived from them (`records.status_of`). `outcome` is written once: the first ending holds, whoever writes it, and
nothing but that ending is written afterwards.

A job that has not ended either waits for a stage or is run by one worker. A message only says that there may be
something to do; the record decides. So a message may be lost or doubled.

`redis_backend` and `memory_backend` in `backend.py` make the real implementation and its double.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

from pydantic import ConfigDict, Field

from diffedit.contract.job import ErrorInfo, Job, JobStatus, State
from diffedit.contract.stages import Artifact, Stage
from diffedit.contract.validation import Frozen, ProfileName

WORKER_LOST = "worker_lost"


class WorkerInfo(Frozen):
    """A live worker.

    Attributes:
        id: unique to this process.
        name: Celery's node name. A worker that is started again has the same name.
        device: where its models run, such as "cuda:0"; "unknown" until they are imported.
        queues: the queues that it reads.
        job: the job that it works on, if any.
        memory: the largest resident size of its process so far, in bytes.
        profile_params: the parameter defaults of its profile.
    """

    # A newer worker may announce more than this client knows.
    model_config = ConfigDict(extra="ignore")

    id: str
    name: str
    profile: ProfileName
    device: str
    queues: tuple[str, ...]
    job: str | None = None
    memory: int = 0
    profile_params: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True)
class WorkerLimits:
    """What the workers of a fleet agree on.

    Attributes:
        max_attempts: how often a stage of a job is started before the job fails.
        worker_ttl: seconds without a heartbeat after which a worker counts as dead.
        lock_timeout: seconds after which the lock of an artifact expires. No stage runs longer.
    """

    max_attempts: int = 3
    worker_ttl: float = 20
    lock_timeout: float = 1800


class StageCompletion(NamedTuple):
    """What `complete_stage` found.

    Attributes:
        outcome: the outcome if the job had ended before, else None.
        waiters: the jobs that waited for one of the artifacts. They are forgotten; the caller sends them.
    """

    outcome: State | None
    waiters: Sequence[str] = ()


class LockResult(StrEnum):
    """The answer to a worker that wants to make some artifacts."""

    ACQUIRED = "acquired"
    RECENTLY_RELEASED = "recently_released"
    """Acquired, but another job held one of the locks in the last hour: check again whether the artifact exists."""
    LOCKED = "locked"
    """Another job is making one of the artifacts. This job is noted as a waiter."""


class MaxAttemptsExceeded(Exception):
    """A stage was started as often as allowed and never finished.

    Attributes:
        cause: the recorded cause of the last attempt's failure, "worker_lost" if none was recorded.
    """

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


class JobStore(Protocol):
    """The records of jobs.

    `worker` is a worker's id. A method that takes one raises JobElsewhere if this worker does not run the job, and
    JobNotFound if there is no record. It returns the outcome if the job has ended meanwhile, else None.
    """

    def create_job(self, job: Job, idempotency_key: str | None = None, request_digest: str | None = None) -> str:
        """Record a new job, which waits for its first stage.

        Args:
            job: the job. If it is recorded already, nothing happens: the answer to the first call was lost.
            idempotency_key: names the first job that is created with it, as long as the record of that job exists.
            request_digest: what two calls with one key must have in common. A call without it, and a job that was
                recorded without it, agree with every other.

        Returns:
            Its id, or the id of the job that the idempotency key names.

        Raises:
            IdempotencyConflict: the key names a job with another digest.
            QueueFull: `max_queued` jobs already wait in this lane of the profile.
        """

    def discard_job(self, job_id: str) -> None:
        """Delete a job that never reached its queue."""

    def expire_job(self, job_id: str) -> State | None:
        """End the job if its time is over. Returns its outcome, if it has one."""

    def overdue_jobs(self) -> list[str]:
        """Return the jobs whose time is over and that have not been ended yet."""

    def unfinished_jobs(self) -> list[JobStatus]:
        """Return the jobs that wait or run. Raises BadRecord."""

    def status(self, job_id: str) -> JobStatus:
        """Return the status of a job, in one round trip. Raises JobNotFound, BadRecord."""

    def list_jobs(self, state: State | None = None, limit: int = 50) -> list[JobStatus]:
        """Return the newest `limit` jobs (of this state), newest first. Unreadable records are left out."""

    def start_stage(self, job_id: str, stage: Stage, worker: str) -> JobStatus:
        """Let the worker run this stage of a waiting job, and count an attempt.

        The job of a dead worker counts as waiting.

        Returns:
            The status of the job. If it has an outcome, nothing was started.

        Raises:
            MaxAttemptsExceeded: the stage was started as often as allowed.
            BadRecord: the record cannot be read. The stage counts as started.
        """

    def report_step(self, job_id: str, step: int, steps: int, worker: str) -> State | None:
        """Record the progress of the running stage."""

    def complete_stage(
        self, job: Job, stage: Stage, seconds: float, created: Sequence[Artifact], worker: str
    ) -> StageCompletion:
        """Record that `stage` is done and that `job` holds its artifacts; `created` are those that had to be made.

        The job then waits for its next stage; after the last stage it has succeeded. Its locks are released.
        """

    def requeue(self, job: Job, worker: str | None = None, *, count_attempt: bool = True) -> State | None:
        """Let the job wait for the first stage whose artifacts are not in `job`.

        Without `count_attempt` the last start of that stage is not counted. Without a worker, only a job that no live
        worker runs is requeued.
        """

    def end_job(self, job_id: str, outcome: State, error: ErrorInfo | None = None, worker: str | None = None) -> State:
        """End the job. A client names no worker and may end any job.

        Returns:
            The outcome that holds: this one, or an earlier one.
        """

    def record_cause(self, job_id: str, stage: Stage, cause: str) -> State | None:
        """Record why the current attempt at a stage fails, if the job has not ended."""

    def count_retry(self, job_id: str, worker: str) -> State | None:
        """Count that the running stage waits for a service."""

    def jobs_held_by(self, worker: str) -> list[str]:
        """Return the jobs that this worker runs."""

    def orphaned_jobs(self, grace: float) -> list[str]:
        """Return the jobs of dead workers, and jobs that waited for `grace` seconds without a message in a queue."""

    def queue_lengths(self, queues: Sequence[str]) -> dict[str, int]:
        """Return the number of messages in each queue."""

    def ping(self) -> None:
        """Raise BrokerUnavailable if the server does not answer."""


class WorkerRegistry(Protocol):
    """The live workers, and which of them is the leader."""

    def send_heartbeat(self, worker: WorkerInfo) -> None:
        """Announce a live worker. It counts as dead when no heartbeat comes for its TTL."""

    def unregister(self, worker: str) -> None:
        """Remove a worker at once."""

    def workers(self) -> list[WorkerInfo]:
        """Return the live workers, by name."""

    def acquire_leadership(self, worker: str, seconds: float) -> bool:
        """Return whether this worker is the leader for the next `seconds`. There is one leader at a time."""

    def profile_params(self, profile: str) -> dict[str, Any]:
        """Return the parameter defaults that a worker last announced for this profile; {} if none ever did."""


class ArtifactLocks(Protocol):
    """Locks, so that only one job at a time makes an artifact. A lock is void when its worker is dead."""

    def acquire(self, keys: Sequence[str], job_id: str, worker: str) -> LockResult:
        """Lock these artifacts for the job, all or none."""

    def release(self, keys: Sequence[str], job_id: str, worker: str) -> list[str]:
        """Release these locks. Returns the jobs that wait for one of the artifacts; they are forgotten."""
