"""The job record: the one truth about a job, and what may be done to it.

Its fields are facts ("stage mask was begun twice", "the outcome is failed"); the state that a user sees is derived from
them (`status_of`). `outcome` is written once: the first ending wins, whoever writes it, and nothing but that ending is
written afterwards.

A job that has not ended waits or is held by one worker. Messages only say that there may be something to do: what the
record says goes, so that a message may be lost or doubled.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from enum import StrEnum
from typing import NamedTuple, Protocol

from pydantic import ValidationError

from api_client.contract import (
    STAGES,
    EditRequest,
    ErrorInfo,
    Frozen,
    Job,
    JobStatus,
    ProfileName,
    Slot,
    Stage,
    State,
    Terms,
    explain,
)
from api_client.errors import BadRecord

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


class Claim(StrEnum):
    """The answer to who asks to make some artifacts."""

    GRANTED = ""
    JUST_MADE = "just made"
    """Granted; but somebody has made one of them since, perhaps, it was found missing."""
    TAKEN = "taken"
    """Somebody makes one of them for another job; the job is noted as waiting for that."""


class Advanced(NamedTuple):
    """The outcome, if the job had ended before; else the jobs that wait for what was made, which are forgotten."""

    outcome: State | None
    waiting: Sequence[str] = ()


class Board(Protocol):
    """What client and worker know of jobs. `redis_board.RedisBoard` is the real one, `testing.MemoryBoard` its double.

    `worker` is a worker's id. What a worker does to a job raises JobElsewhere if it does not hold that job, and
    JobNotFound if there is no record; it returns the job's outcome if the job has ended meanwhile, else None.
    """

    def open(self, job: Job, idempotency_key: str | None = None) -> str:
        """Record a new job, which waits for its first stage. Returns its id, or that of the first job with this key.

        Raises:
            QueueFull: `max_queued` jobs wait in the lane of this profile already.
        """

    def discard(self, job_id: str) -> None:
        """Forget a job that never reached the queue."""

    def expire(self, job_id: str) -> State | None:
        """End the job if its time is over; its outcome, if it has one."""

    def overdue(self) -> list[str]:
        """The jobs whose time is over and that nobody has looked at since."""

    def unfinished(self) -> list[JobStatus]:
        """The jobs that wait or are held. Raises BadRecord."""

    def status(self, job_id: str) -> JobStatus:
        """The job's record, in one round trip. Raises JobNotFound, BadRecord."""

    def jobs(self, state: State | None = None, limit: int = 50) -> list[JobStatus]:
        """The newest `limit` jobs (of this state), newest first; without those whose record cannot be read."""

    def begin(self, job_id: str, stage: Stage, worker: str) -> JobStatus:
        """Take a waiting job, and count an attempt at its stage. The job of a dead worker counts as waiting.

        Returns the job's record; if that has an outcome, nothing was begun.

        Raises:
            AttemptsSpent: the stage has been begun as often as is allowed.
            BadRecord: the job was taken all the same.
        """

    def tick(self, job_id: str, step: int, steps: int, worker: str) -> State | None:
        """Report a step of the running stage."""

    def advance(self, job: Job, stage: Stage, seconds: float, made: Sequence[Slot], worker: str) -> Advanced:
        """Record that `stage` is done, with its artifacts in `job`, of which it had to make those of `made`; the job
        then waits for its next stage, or has succeeded after its last. Its claims of these artifacts end."""

    def hand_back(self, job: Job, worker: str | None = None, *, refund: bool = False) -> State | None:
        """Let the job wait again, for the first stage whose artifacts are not in `job`; with `refund`, as if that stage
        had not been begun. Without a worker, only a job that nobody alive holds."""

    def finish(self, job_id: str, outcome: State, error: ErrorInfo | None = None, worker: str | None = None) -> State:
        """End the job. Returns the outcome that holds: this one, or an earlier one. A client names no worker and may
        end any job."""

    def note(self, job_id: str, stage: Stage, cause: str) -> None:
        """Say why this attempt at a stage will not come back."""

    def count_retry(self, job_id: str, worker: str) -> State | None:
        """Count that the running stage waits for a service."""

    def claim(self, keys: Sequence[str], job_id: str, worker: str) -> Claim:
        """Ask to make these artifacts for the job."""

    def unclaim(self, keys: Sequence[str], job_id: str, worker: str) -> list[str]:
        """Make these artifacts no longer, of which none needs to be there. Returns the jobs that wait for one of them,
        and forgets them."""

    def held_by(self, worker: str) -> list[str]:
        """The jobs that this worker holds."""

    def lost(self, grace: float) -> list[str]:
        """The jobs that a dead worker held, and those that have waited for `grace` seconds with no message queued."""

    def lead(self, worker: str, seconds: float) -> bool:
        """Whether this worker is the one that looks after lost jobs, for so long."""

    def announce(self, worker: WorkerInfo) -> None:
        """Say that this worker lives; holds for `worker_ttl` seconds."""

    def leave(self, worker: str) -> None:
        """Say that this worker is gone."""

    def workers(self) -> list[WorkerInfo]:
        """The live workers, by name."""

    def depths(self, queues: Sequence[str]) -> dict[str, int]:
        """How many messages wait in each queue."""

    def ping(self) -> None:
        """Raises BrokerUnavailable if the server does not answer."""


class AttemptsSpent(Exception):
    """A stage was begun as often as is allowed and never came to its end."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


def status_of(job_id: str, fields: Mapping[str, str]) -> JobStatus:
    """A job's status, derived from the fields of its record. Raises BadRecord."""
    try:
        return _status_of(job_id, fields)
    except ValidationError as error:
        raise BadRecord(job_id, explain(error)) from None
    except (LookupError, ValueError) as error:
        raise BadRecord(job_id, type(error).__name__) from None


def readable(records: Mapping[str, Mapping[str, str]]) -> list[JobStatus]:
    statuses = []
    for job_id, fields in records.items():
        with suppress(BadRecord):
            statuses += [status_of(job_id, fields)] if fields else []
    return statuses


def _status_of(job_id: str, fields: Mapping[str, str]) -> JobStatus:
    request = EditRequest.model_validate_json(fields["request"])
    stages = request.stages
    stage = Stage(fields["stage"]) if "stage" in fields else None
    index = stages.index(stage) if stage in stages else 0
    step, steps = int(fields.get("step", 0)), int(fields.get("steps", 0))
    done = [stage for stage in stages if f"seconds:{stage.value}" in fields]
    made = {stage: tuple(map(Slot, fields[f"made:{stage.value}"].split())) for stage in done}

    if "outcome" in fields:
        state = State(fields["outcome"])
    else:
        state = State.RUNNING if stage else State.QUEUED
    if state is State.SUCCEEDED:
        progress = 1.0
    else:
        # A finished stage stays the current one until the next begins; it must not count twice.
        within = step / steps if steps and stage not in done else 0.0
        progress = (len(done) + within) / len(stages) if stages else 0.0

    return JobStatus(
        id=job_id,
        state=state,
        stages=stages,
        stage=stage,
        stage_index=index,
        step=step,
        steps=steps,
        progress=round(min(progress, 1.0), 4),
        worker=fields.get("worker"),
        retries=int(fields.get("retries", 0)),
        timings={stage: float(fields[f"seconds:{stage.value}"]) for stage in done},
        cache_hits=tuple(stage for stage in done if not made[stage]),
        made=tuple(slot for slots in made.values() for slot in slots),
        attempts={stage: int(fields[name]) for stage in stages if (name := f"attempts:{stage.value}") in fields},
        error=ErrorInfo.model_validate_json(fields["error"]) if "error" in fields else None,
        refs={slot: fields[name] for slot in Slot if (name := f"ref:{slot.value}") in fields},
        request=request,
        terms=Terms.model_validate_json(fields["terms"]),
        created_at=_moment(fields["created"]),
        started_at=_moment(fields["started"]) if "started" in fields else None,
        finished_at=_moment(fields["finished"]) if "finished" in fields else None,
    )


def new_fields(job: Job) -> dict[str, str]:
    """What the record of a new job holds besides times and keys of the board's own."""
    return {"request": job.request.model_dump_json(), "terms": job.terms.model_dump_json()}


def done_fields(job: Job, stage: Stage, seconds: float, made: Sequence[Slot]) -> dict[str, str]:
    """What a finished stage adds to the record."""
    return {
        f"seconds:{stage.value}": f"{seconds:.4f}",
        f"made:{stage.value}": " ".join(slot.value for slot in made),
        **{f"ref:{slot.value}": job.refs[slot] for slot in STAGES[stage].gives},
    }


def undone_fields(job: Job) -> list[str]:
    """What the stages that are left, in running order, had added to the record if they were done before."""
    fields = []
    for stage in job.stages_left:
        slots = [slot for slot in STAGES[stage].gives if slot not in job.refs]
        fields += [f"seconds:{stage.value}", f"made:{stage.value}", *(f"ref:{slot.value}" for slot in slots)]
    return fields


def _moment(seconds: str) -> datetime:
    return datetime.fromtimestamp(float(seconds), UTC)
