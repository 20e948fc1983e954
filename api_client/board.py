"""The job record in Redis: the one truth about a job.

One hash per job. Its fields are facts ("stage mask was begun twice", "the outcome is failed"); the state that a user
sees is derived from them (`status_of`). `outcome` is written once: the first ending wins, whoever writes it, and
nothing but that ending is written afterwards.

A job that has not ended waits or is held by one worker. Messages only say that there may be something to do: what the
record says goes, so that a message may be lost or doubled. Each change is one atomic script (`scripts.py`).
"""

import functools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, ParamSpec, Protocol, TypeVar, cast

import redis
from pydantic import ValidationError
from redis.backoff import ExponentialWithJitterBackoff
from redis.retry import Retry

from api_client import scripts
from api_client.contract import (
    STAGES,
    TERMINAL,
    EditRequest,
    ErrorInfo,
    Family,
    Frozen,
    Job,
    JobStatus,
    ProfileName,
    Slot,
    Stage,
    State,
    Terms,
    explain,
    queue_name,
)
from api_client.errors import BadRecord, BrokerFull, BrokerUnavailable, JobElsewhere, JobNotFound, QueueFull
from api_client.settings import Settings

P = ParamSpec("P")
R = TypeVar("R")

WORKER_LOST = "worker_lost"

_PREFIX = "diffedit:"
_INDEX, _RUNNING, _EXPIRING = (_PREFIX + name for name in ("jobs", "running", "expiring"))
_WORKERS, _LEADER = (_PREFIX + name for name in ("workers", "leader"))
_WAITING, _ALIVE, _MAKING, _PARKED = (_PREFIX + name for name in ("waiting:", "worker:", "making:", "parked:"))
_PAGE = 500


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


class Board(Protocol):
    """What client and worker know of jobs. `RedisBoard` is the real one, `testing.MemoryBoard` its double.

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

    def begin(self, job_id: str, stage: Stage, worker: str) -> State | None:
        """Take a waiting job, and count an attempt at its stage. The job of a dead worker counts as waiting.

        Raises:
            AttemptsSpent: the stage has been begun as often as is allowed.
        """

    def tick(self, job_id: str, step: int, steps: int, worker: str) -> State | None:
        """Report a step of the running stage."""

    def advance(self, job: Job, stage: Stage, seconds: float, hit: bool, worker: str) -> State | None:
        """Record that `stage` is done, with its artifacts in `job`; the job then waits for its next stage, or has
        succeeded after its last."""

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

    def claim(self, key: str, job_id: str, worker: str) -> bool:
        """Whether this worker may make the artifact; else somebody does, and the job is noted as waiting for it."""

    def unclaim(self, key: str, worker: str) -> list[str]:
        """Make the artifact no longer. Returns the jobs that wait for it, and forgets them."""

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


def _readable(records: Mapping[str, Mapping[str, str]]) -> list[JobStatus]:
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
        cache_hits=tuple(stage for stage in done if fields.get(f"hit:{stage.value}") == "1"),
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


def done_fields(job: Job, stage: Stage, seconds: float, hit: bool) -> dict[str, str]:
    """What a finished stage adds to the record."""
    return {
        f"seconds:{stage.value}": f"{seconds:.4f}",
        f"hit:{stage.value}": str(int(hit)),
        **{f"ref:{slot.value}": job.refs[slot] for slot in STAGES[stage].gives},
    }


def undone_fields(job: Job) -> list[str]:
    """What the stages that are left, in running order, had added to the record if they were done before."""
    fields = []
    for stage in job.stages_left:
        slots = [slot for slot in STAGES[stage].gives if slot not in job.refs]
        fields += [f"seconds:{stage.value}", f"hit:{stage.value}", *(f"ref:{slot.value}" for slot in slots)]
    return fields


def _moment(seconds: str) -> datetime:
    return datetime.fromtimestamp(float(seconds), UTC)


def _speaking(method: Callable[P, R]) -> Callable[P, R]:
    """Redis' own errors, as ours; redis-py has retried by then."""

    @functools.wraps(method)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(*args, **kwargs)
        except redis.OutOfMemoryError as error:
            raise BrokerFull from error
        except redis.RedisError as error:
            raise BrokerUnavailable(f"Redis does not serve us ({error}); check DIFFEDIT_REDIS_URL") from error

    return guarded


class RedisBoard:
    """The job record in Redis or Valkey.

    A server that does not answer is asked `retries` times more, with up to a second in between.
    """

    def __init__(self, settings: Settings, retries: int = 4) -> None:
        self._redis = redis.Redis.from_url(
            settings.redis_url.get_secret_value(),
            decode_responses=True,
            socket_timeout=10,
            socket_connect_timeout=5,
            socket_keepalive=True,
            health_check_interval=30,
            retry=Retry(ExponentialWithJitterBackoff(base=0.1, cap=1), retries),
        )
        self._settings = settings
        self._scripts = {
            text: self._redis.register_script(text)
            for text in (
                scripts.OPEN,
                scripts.DISCARD,
                scripts.EXPIRE,
                scripts.BEGIN,
                scripts.WRITE,
                scripts.COUNT_RETRY,
                scripts.ADVANCE,
                scripts.HAND_BACK,
                scripts.FINISH,
                scripts.CLAIM,
                scripts.UNCLAIM,
                scripts.ANNOUNCE,
            )
        }

    @_speaking
    def open(self, job: Job, idempotency_key: str | None = None) -> str:
        idempotency = f"{_PREFIX}idempotency:{idempotency_key}" if idempotency_key else ""
        terms, profile = job.terms, job.request.params.model
        others = [queue_name(profile, family, terms.lane) for family in Family]
        others.remove(job.queue)
        limits = [self._settings.max_queued, terms.start_timeout or "", terms.deadline or ""]
        args = [_job_key(""), *limits, job.stages_left[0].value, job.queue, len(others), *others]
        first = self._run(scripts.OPEN, job.id, None, *args, *_flat(new_fields(job)), keys=[_INDEX, idempotency])
        if first == "full":
            raise QueueFull(terms.lane.value, profile, self._settings.max_queued)
        return cast(str, first)

    @_speaking
    def discard(self, job_id: str) -> None:
        self._run(scripts.DISCARD, job_id, None, keys=[_INDEX])

    @_speaking
    def status(self, job_id: str) -> JobStatus:
        fields = cast(dict[str, str], self._redis.hgetall(_job_key(job_id)))
        if not fields:
            raise JobNotFound(job_id)
        status = status_of(job_id, fields)
        if status.seems_overdue and self.expire(job_id):
            # No worker is there to end it.
            return self.status(job_id)
        return status

    @_speaking
    def expire(self, job_id: str) -> State | None:
        return _outcome(job_id, self._run(scripts.EXPIRE, job_id, None))

    @_speaking
    def overdue(self) -> list[str]:
        return cast(list[str], self._redis.zrangebyscore(_EXPIRING, "-inf", self._now()))

    @_speaking
    def unfinished(self) -> list[JobStatus]:
        ids = set(cast(list[str], self._redis.hkeys(_RUNNING)))
        for queue in cast(set[str], self._redis.smembers(_WAITING + "queues")):
            ids.update(cast(list[str], self._redis.zrange(_WAITING + queue, 0, -1)))
        statuses = [status_of(job_id, fields) for job_id, fields in self._records(sorted(ids)).items() if fields]
        return [status for status in statuses if not status.is_terminal]

    @_speaking
    def jobs(self, state: State | None = None, limit: int = 50) -> list[JobStatus]:
        found: list[JobStatus] = []
        start, page = 0, max(limit, 50)
        while len(found) < limit:
            ids = cast(list[str], self._redis.zrevrange(_INDEX, start, start + page - 1))
            if not ids:
                break
            records = self._records(ids)
            expired = [job_id for job_id, fields in records.items() if not fields]
            if expired:
                self._redis.zrem(_INDEX, *expired)
            statuses = _readable(records)
            found += [status for status in statuses if state is None or status.state is state]
            start += page - len(expired)
        return found[:limit]

    @_speaking
    def begin(self, job_id: str, stage: Stage, worker: str) -> State | None:
        answer = self._run(scripts.BEGIN, job_id, worker, stage.value, self._settings.max_attempts)
        if answer == "spent":
            cause = cast(str | None, self._redis.hget(_job_key(job_id), f"cause:{stage.value}"))
            raise AttemptsSpent(cause or WORKER_LOST)
        return _outcome(job_id, answer)

    @_speaking
    def tick(self, job_id: str, step: int, steps: int, worker: str) -> State | None:
        return _outcome(job_id, self._run(scripts.WRITE, job_id, worker, "step", step, "steps", steps))

    @_speaking
    def advance(self, job: Job, stage: Stage, seconds: float, hit: bool, worker: str) -> State | None:
        then = [job.stages_left[0].value, job.queue] if job.stages_left else ["", ""]
        fields = _flat(done_fields(job, stage, seconds, hit))
        return _outcome(job.id, self._run(scripts.ADVANCE, job.id, worker, *then, *fields))

    @_speaking
    def hand_back(self, job: Job, worker: str | None = None, *, refund: bool = False) -> State | None:
        args = [job.stages_left[0].value, job.queue, int(refund), *undone_fields(job)]
        return _outcome(job.id, self._run(scripts.HAND_BACK, job.id, worker, *args))

    @_speaking
    def finish(self, job_id: str, outcome: State, error: ErrorInfo | None = None, worker: str | None = None) -> State:
        assert outcome in TERMINAL
        args = [outcome.value, error.model_dump_json() if error else ""]
        return _outcome(job_id, self._run(scripts.FINISH, job_id, worker, *args)) or outcome

    @_speaking
    def note(self, job_id: str, stage: Stage, cause: str) -> None:
        self._redis.hset(_job_key(job_id), f"cause:{stage.value}", cause)

    @_speaking
    def count_retry(self, job_id: str, worker: str) -> State | None:
        return _outcome(job_id, self._run(scripts.COUNT_RETRY, job_id, worker))

    @_speaking
    def claim(self, key: str, job_id: str, worker: str) -> bool:
        seconds = math.ceil(max(map(self._settings.timeout_of, Stage)))
        return not self._run(scripts.CLAIM, job_id, worker, seconds, keys=[_MAKING + key, _PARKED + key])

    @_speaking
    def unclaim(self, key: str, worker: str) -> list[str]:
        return cast(list[str], self._run(scripts.UNCLAIM, "", worker, keys=[_MAKING + key, _PARKED + key]))

    @_speaking
    def held_by(self, worker: str) -> list[str]:
        holders = cast(dict[str, str], self._redis.hgetall(_RUNNING))
        return [job_id for job_id, holder in holders.items() if holder == worker]

    @_speaking
    def lost(self, grace: float) -> list[str]:
        holders = cast(dict[str, str], self._redis.hgetall(_RUNNING))
        living = {worker.id for worker in self.workers()}
        found = [job_id for job_id, worker in holders.items() if worker not in living]
        since = self._now() - grace
        for queue in cast(set[str], self._redis.smembers(_WAITING + "queues")):
            overdue = self._missing(queue, since)
            found += sorted(overdue - self._queued(queue)) if overdue else []
        return found

    def _missing(self, queue: str, since: float) -> set[str]:
        """The jobs that have waited for so long, if messages are missing: a long queue alone is no reason to look."""
        with self._redis.pipeline() as pipe:
            pipe.zcard(_WAITING + queue)
            pipe.llen(queue)
            pipe.zrangebyscore(_WAITING + queue, "-inf", since)
            waiting, messages, overdue = pipe.execute()
        return set(overdue) if waiting > messages else set()

    def _queued(self, queue: str) -> set[str]:
        """The jobs whose messages are in the queue."""
        found: set[str] = set()
        start = 0
        while messages := cast(list[str], self._redis.lrange(queue, start, start + _PAGE - 1)):
            found.update(_job_of(message) for message in messages)
            start += _PAGE
        return found

    @_speaking
    def lead(self, worker: str, seconds: float) -> bool:
        milliseconds = int(1000 * seconds)
        if self._redis.set(_LEADER, worker, px=milliseconds, nx=True):
            return True
        return self._redis.get(_LEADER) == worker and bool(self._redis.pexpire(_LEADER, milliseconds))

    @_speaking
    def announce(self, worker: WorkerInfo) -> None:
        args = [worker.model_dump_json(), int(1000 * self._settings.worker_ttl)]
        self._run(scripts.ANNOUNCE, "", worker.id, *args, keys=[_WORKERS, _ALIVE + worker.id])

    @_speaking
    def leave(self, worker: str) -> None:
        self._redis.delete(_ALIVE + worker)

    @_speaking
    def workers(self) -> list[WorkerInfo]:
        ids = sorted(cast(set[str], self._redis.smembers(_WORKERS)))
        if not ids:
            return []
        found = dict(zip(ids, cast(list[str | None], self._redis.mget(_ALIVE + one for one in ids)), strict=True))
        gone = [one for one, text in found.items() if not text]
        if gone:
            self._redis.srem(_WORKERS, *gone)
        workers = [WorkerInfo.model_validate_json(text) for text in found.values() if text]
        return sorted(workers, key=lambda worker: worker.name)

    @_speaking
    def depths(self, queues: Sequence[str]) -> dict[str, int]:
        with self._redis.pipeline(transaction=False) as pipe:
            for queue in queues:
                pipe.llen(queue)
            return dict(zip(queues, pipe.execute(), strict=True))

    @_speaking
    def ping(self) -> None:
        self._redis.ping()

    def _run(self, script: str, job_id: str, worker: str | None, *args: Any, keys: Sequence[str] = ()) -> object:
        """One of the scripts, with what all of them take."""
        common: list[Any] = [job_id, _WAITING, worker or "", _ALIVE, self._settings.retention]
        return self._scripts[script](keys=[_job_key(job_id), _RUNNING, _EXPIRING, *keys], args=[*common, *args])

    def _records(self, ids: Sequence[str]) -> dict[str, dict[str, str]]:
        with self._redis.pipeline(transaction=False) as pipe:
            for job_id in ids:
                pipe.hgetall(_job_key(job_id))
            return dict(zip(ids, pipe.execute(), strict=True))

    def _now(self) -> float:
        seconds, microseconds = self._redis.time()
        return float(seconds) + microseconds / 1e6


def _job_key(job_id: str) -> str:
    return f"{_PREFIX}job:{job_id}"


def _flat(fields: Mapping[str, str]) -> list[str]:
    return [part for pair in fields.items() for part in pair]


def _job_of(message: str) -> str:
    """The id in a queued message, as `dispatch.send` put it there; "" for a message that is not ours."""
    try:
        return str(json.loads(message)["headers"]["argsrepr"])[len("<job ") : -1]
    except (ValueError, KeyError, TypeError):
        return ""


def _outcome(job_id: str, answer: object) -> State | None:
    if answer == "missing":
        raise JobNotFound(job_id)
    if answer == "elsewhere":
        raise JobElsewhere(job_id)
    return State(cast(str, answer)) if answer else None
