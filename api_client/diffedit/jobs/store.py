"""What client and worker know of jobs: the interface of the job store. `index.py` has the part of it that is
about many jobs, `workers.py` the two other interfaces.

The record of a job holds facts ("stage mask was started twice", "the outcome is failed"). The state that a user sees is
derived from them (`records.status_of`). `outcome` is written once: the first ending holds, whoever writes it, and
nothing but that ending is written afterwards, unless an administrator lets the job start over (`revive_job`).

A job that has not ended either waits for a stage or is run by one worker. A message only says that there may be
something to do; the record decides. So a message may be lost or doubled.

`redis_backend` and `memory_backend` in `backend.py` make the real implementation and its double.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, TypeAlias

from diffedit.contract.job import ErrorInfo, Job, JobStatus, State
from diffedit.contract.stages import Artifact, Stage
from diffedit.errors import BadRecord, JobNotFound
from diffedit.jobs.administration import JobAdministration
from diffedit.jobs.index import JobIndex
from diffedit.jobs.queues import QueueStore
from diffedit.jobs.steps import StepStore
from diffedit.jobs.submissions import SubmissionStore

WORKER_LOST = "worker_lost"
PARKED_FOR = 600
"""Seconds for which a parked job needs no message. Then it is tried: a worker of 0.2.0 sends none when a job ends."""

StatusOrError: TypeAlias = JobStatus | JobNotFound | BadRecord
"""The status of a job, or why it has none."""


class StatusReading(NamedTuple):
    """What was read of a job.

    Attributes:
        answer: its status, or why it has none.
        record: what the answer was derived from, to be compared only.
    """

    answer: StatusOrError
    record: object


class RecentStages(NamedTuple):
    """What came of the stages that workers started in the last ten minutes.

    Attributes:
        done: how many are done.
        refused: how often a worker could not run a stage for a reason of its own.
    """

    done: int
    refused: int


class StageCompletion(NamedTuple):
    """What `complete_stage` found.

    Attributes:
        outcome: the outcome if the job had ended before, else None.
        waiters: the jobs that waited for one of the artifacts. They are forgotten; the caller sends them.
    """

    outcome: State | None
    waiters: Sequence[str] = ()


class Refusal(NamedTuple):
    """What `refuse_stage` found.

    Attributes:
        outcome: the outcome if the job has ended, now or before, else None.
        others: whether a live worker reads the queue that has not refused the stage yet.
    """

    outcome: State | None
    others: bool = False


class MaxAttemptsExceeded(Exception):
    """A stage was started as often as allowed and never finished.

    Attributes:
        cause: the recorded cause of the last attempt's failure, "worker_lost" if none was recorded.
    """

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


class RefusedBefore(Exception):
    """This worker refused the stage before, and another live worker has not tried it yet. The job waits for it."""


class OwnerBusy(Exception):
    """As many jobs of the owner have started as may run at the same time. The job waits until one has ended."""


class QueuePaused(Exception):
    """The queue of the job is paused. The job waits."""


class MustRunAlone(Exception):
    """The stage may be what ended an earlier worker, so no other stage should run beside it."""


class JobStore(JobIndex, JobAdministration, QueueStore, StepStore, SubmissionStore, Protocol):
    """The records of jobs.

    `worker` is a worker's id. A method that takes one raises JobElsewhere if this worker does not run the job, and
    JobNotFound if there is no record. It returns the outcome if the job has ended meanwhile, else None.
    """

    def create_job(
        self,
        job: Job,
        idempotency_key: str | None = None,
        request_digest: str | None = None,
        *,
        pixels: int | None = None,
        send: bool = False,
    ) -> str:
        """Record a new job, which waits for its first stage.

        Args:
            job: the job. If it is recorded already, nothing happens: the answer to the first call was lost.
            idempotency_key: names the first job that is created with it, as long as the record of that job exists.
            request_digest: what two calls with one key must have in common. A call without it, and a job that was
                recorded without it, agree with every other.
            pixels: those of its picture, for the limit of its owner; None if they were checked before.
            send: put the message of a new job into its queue, in the same step.

        Returns:
            Its id, or the id of the job that the idempotency key names.

        Raises:
            IdempotencyConflict: the key names a job with another digest.
            QueueFull: `max_queued` jobs already wait in this lane of the profile.
            OwnerLimit: the job would exceed a limit of its owner.
        """

    def discard_job(self, job_id: str) -> None:
        """Delete a job that never reached its queue."""

    def expire_job(self, job_id: str) -> State | None:
        """End the job if its time is over. Returns its outcome, if it has one."""

    def overdue_jobs(self) -> list[str]:
        """Return the jobs whose time is over and that have not been ended yet."""

    def keys_in_use(self) -> set[str]:
        """Return the keys of all objects that the records of unfinished jobs mention, readable or not."""

    def status(self, job_id: str) -> JobStatus:
        """Return the status of a job, in one round trip. Raises JobNotFound, BadRecord."""

    def statuses(self, jobs: Mapping[str, StatusReading | None]) -> dict[str, StatusReading]:
        """Return the status of each of these jobs, or the error that `status` raises, in one round trip for all.

        Args:
            jobs: the ids, each with what was read of the job before, if anything was. If its record is still the same,
                so is the answer, because most of the time goes into deriving a status from its record.
        """

    def queue_status(self, job_id: str) -> JobStatus:
        """Return the status of a job with its position in the queue, in one round trip. Raises JobNotFound, BadRecord.

        It costs the server more than `status`.
        """

    def start_stage(self, job_id: str, stage: Stage, worker: str, *, alone: bool = True) -> JobStatus:
        """Let the worker run this stage of a waiting job, and count an attempt.

        The job of a dead worker counts as waiting. `alone` is whether the worker runs no other stage meanwhile.

        Returns:
            The status of the job. If it has an outcome, nothing was started.

        Raises:
            MaxAttemptsExceeded: the stage was started as often as allowed.
            RefusedBefore: another worker should try the stage first.
            MustRunAlone: it is not `alone`, and the stage was started before and not finished, or only one attempt is
                allowed. If the worker is lost, each of its stages has lost an attempt, whichever was the cause.
            QueuePaused: the queue of the stage is paused.
            OwnerBusy: no stage of the job was started, and its owner has as many others as may run at the same time.
            NewerRecord: only a worker of a newer contract can run the job.
            BadRecord: the record cannot be read. The stage counts as started.
        """

    def park_job(self, job: Job) -> State | None:
        """Let a job wait without a message until there is room for it among those of its owner; then send one.

        If its queue is paused, the message is held back. It does not count as one without a message for ten minutes.
        """

    def complete_stage(
        self,
        job: Job,
        stage: Stage,
        seconds: float,
        created: Sequence[Artifact],
        worker: str,
        *,
        device_seconds: float = 0.0,
        send: bool = False,
    ) -> StageCompletion:
        """Record that `stage` is done and that `job` holds its artifacts; `created` are those that had to be made.

        The job then waits for its next stage; after the last stage it has succeeded. Its locks are released.
        `device_seconds` are added to what its owner has used (`usage`).
        With `send`, the message for the next stage goes into its queue in the same step.
        """

    def contents_of(self, artifact_keys: Sequence[str]) -> dict[str, str]:
        """Return what was last stored at these keys of artifacts, as far as it is known (`contract.content`).

        It is known for as long as a record is kept, from the last time that a job made or found the artifact.
        """

    def record_contents(self, contents: Mapping[str, str]) -> None:
        """Record what is stored at these keys of artifacts, by a worker that no longer runs the job."""

    def requeue(
        self,
        job: Job,
        worker: str | None = None,
        *,
        count_attempt: bool = True,
        attempt: int | None = None,
        waited: float | None = None,
    ) -> State | None:
        """Let the job wait for the first stage whose artifacts are not in `job`.

        Args:
            worker: the worker that runs the job. Without it, only a job that no live worker runs is requeued. After a
                time in which no worker could send a heartbeat, every worker counts as live for a while.
            count_attempt: if False, the last start of that stage is not counted.
            attempt: how often that stage was started when the caller looked. Raises JobElsewhere if it was started
                since, or if another one is next.
            waited: seconds for which a job must have waited if no worker runs it. Raises JobElsewhere if it has not.
        """

    def refuse_stage(self, job: Job, stage: Stage, worker: str, error: ErrorInfo) -> Refusal:
        """Record that this worker cannot run the stage for a reason of its own, and let the job wait again.

        The start of the stage is not counted. The job fails with this error if enough different workers have refused,
        or if the first refusal was longer ago than the patience and no other live worker can try.
        """

    def refused_jobs(self, patience: float) -> list[str]:
        """Return the jobs of which a worker refused a stage `patience` seconds ago or earlier, and that still wait."""

    def end_refused(self, job_id: str) -> State | None:
        """Fail the job with the last refusal's error if all live workers of its queue are paused."""

    def recent_stages(self) -> RecentStages:
        """Return what came of the stages that workers started in the last ten minutes."""

    def end_job(self, job_id: str, outcome: State, error: ErrorInfo | None = None, worker: str | None = None) -> State:
        """End the job. A client names no worker and may end any job.

        Returns:
            The outcome that holds: this one, or an earlier one.
        """

    def record_cause(self, job_id: str, stage: Stage, cause: str) -> State | None:
        """Record why the current attempt at a stage fails, if the job has not ended."""

    def resend_webhook(self, job_id: str) -> bool:
        """Put the last event of a job into the outbox again. False if it has no webhook or no event. JobNotFound."""

    def count_retry(self, job_id: str, worker: str) -> State | None:
        """Count that the running stage waits for a service."""

    def jobs_held_by(self, worker: str) -> list[str]:
        """Return the jobs that this worker runs."""

    def abandoned_jobs(self) -> list[str]:
        """Return the jobs that a worker without a heartbeat runs. `requeue` tells whether the worker is dead."""

    def jobs_without_message(self, waited: float) -> list[str]:
        """Return the jobs that have waited for so many seconds, and that no message in a queue names."""

    def damaged_keys(self) -> list[str]:
        """Return the names of keys that were found in the last hour to hold what cannot be read; at most 1000."""

    def now(self) -> float:
        """Return the server's time, in seconds since 1970."""

    def ping(self) -> None:
        """Raise BrokerUnavailable if the server does not answer."""
