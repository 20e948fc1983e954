"""The job record: the one truth about a job, and what may be done to it.

Its fields are facts ("stage mask was begun twice", "the outcome is failed"); the state that a user sees is derived from
them (`status_of`). `outcome` is written once: the first ending wins, whoever writes it, and nothing but that ending is
written afterwards.

A job that has not ended waits or is held by one worker. Messages only say that there may be something to do: what the
record says goes, so that a message may be lost or doubled.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol

from diffedit.contract.job import ErrorInfo, Job, JobStatus, State
from diffedit.contract.stages import Artifact, Stage
from diffedit.contract.validation import Frozen, ProfileName

WORKER_LOST = "worker_lost"


class WorkerInfo(Frozen):
    """A live worker.

    `id` is this process's own, `name` Celery's, which its successor inherits. `job` is what it works on, `memory` what
    its process has taken from the system at most, in bytes.
    """

    id: str
    name: str
    profile: ProfileName
    device: str
    queues: tuple[str, ...]
    job: str | None = None
    memory: int = 0


class LockResult(StrEnum):
    """The answer to who asks to make some artifacts."""

    GRANTED = ""
    JUST_MADE = "just made"
    """Granted; but somebody has made one of them since, perhaps, it was found missing."""
    TAKEN = "taken"
    """Somebody makes one of them for another job; the job is noted as waiting for that."""


class StageCompletion(NamedTuple):
    """The outcome, if the job had ended before; else the jobs that wait for what was made, which are forgotten."""

    outcome: State | None
    waiting: Sequence[str] = ()


class JobStore(Protocol):
    """What client and worker know of jobs. `redis_board.RedisBoard` is the real one, `testing.MemoryBoard` its double.

    `worker` is a worker's id. What a worker does to a job raises JobElsewhere if it does not hold that job, and
    JobNotFound if there is no record; it returns the job's outcome if the job has ended meanwhile, else None.
    """

    def create_job(self, job: Job, idempotency_key: str | None = None) -> str:
        """Record a new job, which waits for its first stage. Returns its id, or that of the first job with this key.

        Raises:
            QueueFull: `max_queued` jobs wait in the lane of this profile already.
        """

    def discard_job(self, job_id: str) -> None:
        """Forget a job that never reached the queue."""

    def expire_job(self, job_id: str) -> State | None:
        """End the job if its time is over; its outcome, if it has one."""

    def overdue_jobs(self) -> list[str]:
        """The jobs whose time is over and that nobody has looked at since."""

    def unfinished_jobs(self) -> list[JobStatus]:
        """The jobs that wait or are held. Raises BadRecord."""

    def status(self, job_id: str) -> JobStatus:
        """The job's record, in one round trip. Raises JobNotFound, BadRecord."""

    def list_jobs(self, state: State | None = None, limit: int = 50) -> list[JobStatus]:
        """The newest `limit` jobs (of this state), newest first; without those whose record cannot be read."""

    def start_stage(self, job_id: str, stage: Stage, worker: str) -> JobStatus:
        """Take a waiting job, and count an attempt at its stage. The job of a dead worker counts as waiting.

        Returns the job's record; if that has an outcome, nothing was begun.

        Raises:
            AttemptsSpent: the stage has been begun as often as is allowed.
            BadRecord: the job was taken all the same.
        """

    def report_step(self, job_id: str, step: int, steps: int, worker: str) -> State | None:
        """Report a step of the running stage."""

    def complete_stage(
        self, job: Job, stage: Stage, seconds: float, made: Sequence[Artifact], worker: str
    ) -> StageCompletion:
        """Record that `stage` is done, with its artifacts in `job`, of which it had to make those of `made`; the job
        then waits for its next stage, or has succeeded after its last. Its claims of these artifacts end."""

    def requeue(self, job: Job, worker: str | None = None, *, refund: bool = False) -> State | None:
        """Let the job wait again, for the first stage whose artifacts are not in `job`; with `refund`, as if that stage
        had not been begun. Without a worker, only a job that nobody alive holds."""

    def end_job(self, job_id: str, outcome: State, error: ErrorInfo | None = None, worker: str | None = None) -> State:
        """End the job. Returns the outcome that holds: this one, or an earlier one. A client names no worker and may
        end any job."""

    def record_cause(self, job_id: str, stage: Stage, cause: str) -> None:
        """Say why this attempt at a stage will not come back."""

    def count_retry(self, job_id: str, worker: str) -> State | None:
        """Count that the running stage waits for a service."""

    def acquire_locks(self, keys: Sequence[str], job_id: str, worker: str) -> LockResult:
        """Ask to make these artifacts for the job."""

    def release_locks(self, keys: Sequence[str], job_id: str, worker: str) -> list[str]:
        """Make these artifacts no longer, of which none needs to be there. Returns the jobs that wait for one of them,
        and forgets them."""

    def jobs_held_by(self, worker: str) -> list[str]:
        """The jobs that this worker holds."""

    def orphaned_jobs(self, grace: float) -> list[str]:
        """The jobs that a dead worker held, and those that have waited for `grace` seconds with no message queued."""

    def acquire_leadership(self, worker: str, seconds: float) -> bool:
        """Whether this worker is the one that looks after lost jobs, for so long."""

    def send_heartbeat(self, worker: WorkerInfo) -> None:
        """Say that this worker lives; holds for `worker_ttl` seconds."""

    def unregister(self, worker: str) -> None:
        """Say that this worker is gone."""

    def workers(self) -> list[WorkerInfo]:
        """The live workers, by name."""

    def queue_lengths(self, queues: Sequence[str]) -> dict[str, int]:
        """How many messages wait in each queue."""

    def ping(self) -> None:
        """Raises BrokerUnavailable if the server does not answer."""


class MaxAttemptsExceeded(Exception):
    """A stage was begun as often as is allowed and never came to its end."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause
