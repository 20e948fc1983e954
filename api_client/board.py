"""The job record in Redis: the one truth about a job.

One hash per job. Its fields are facts ("stage mask was begun twice", "the outcome is failed"); the state that a user
sees is derived from them (`status_of`). `outcome` is written once: the first ending wins, whoever writes it, and
nothing but that ending is written afterwards. Scripts make each of these one atomic round trip, and their clock is
the server's, so that hosts need not agree on the time.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import ParamSpec, Protocol, TypeVar, cast

import redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.retry import Retry

from api_client.contract import (
    TERMINAL,
    EditRequest,
    ErrorInfo,
    Frozen,
    JobStatus,
    ProfileName,
    Slot,
    Stage,
    State,
)
from api_client.errors import BrokerUnavailable, JobNotFound
from api_client.settings import Settings

P = ParamSpec("P")
R = TypeVar("R")

WORKER_TTL = 20
"""Seconds after its last sign of life at which a worker counts as gone."""

_NOW = """
local time = redis.call('TIME')
local now = string.format('%d.%06d', time[1], time[2])
"""

# KEYS: job, index, idempotency key ("" for none). ARGV: id, request, key prefix of jobs. Answers the id that holds.
_OPEN = (
    _NOW
    + """
if KEYS[3] ~= '' then
  local first = redis.call('GET', KEYS[3])
  if first and redis.call('EXISTS', ARGV[3] .. first) == 1 then return first end
  redis.call('SET', KEYS[3], ARGV[1])
end
redis.call('HSET', KEYS[1], 'request', ARGV[2], 'created', now, 'idempotency', KEYS[3])
redis.call('ZADD', KEYS[2], now, ARGV[1])
return ARGV[1]
"""
)

# KEYS: job. ARGV: field, value, ... Answers "missing", the outcome, or "" (the fields were written).
_WRITE = """
if redis.call('EXISTS', KEYS[1]) == 0 then return 'missing' end
local outcome = redis.call('HGET', KEYS[1], 'outcome')
if outcome then return outcome end
redis.call('HSET', KEYS[1], unpack(ARGV))
return ''
"""

# KEYS: job. ARGV: stage. Answers as _WRITE does.
_BEGIN = (
    _NOW
    + """
if redis.call('EXISTS', KEYS[1]) == 0 then return 'missing' end
local outcome = redis.call('HGET', KEYS[1], 'outcome')
if outcome then return outcome end
redis.call('HSET', KEYS[1], 'stage', ARGV[1], 'step', 0, 'steps', 0)
redis.call('HSETNX', KEYS[1], 'started', now)
redis.call('HINCRBY', KEYS[1], 'attempts:' .. ARGV[1], 1)
return ''
"""
)

# KEYS: job. ARGV: outcome, error ("" for none), retention. Answers "missing", the outcome that won before, or "".
_FINISH = (
    _NOW
    + """
if redis.call('EXISTS', KEYS[1]) == 0 then return 'missing' end
if redis.call('HSETNX', KEYS[1], 'outcome', ARGV[1]) == 0 then return redis.call('HGET', KEYS[1], 'outcome') end
redis.call('HSET', KEYS[1], 'finished', now)
if ARGV[2] ~= '' then redis.call('HSET', KEYS[1], 'error', ARGV[2]) end
redis.call('EXPIRE', KEYS[1], ARGV[3])
local idempotency = redis.call('HGET', KEYS[1], 'idempotency')
if idempotency and idempotency ~= '' then redis.call('EXPIRE', idempotency, ARGV[3]) end
return ''
"""
)


class WorkerInfo(Frozen):
    """A live worker: its name, the profile and device that it serves with, and the queues that it reads."""

    name: str
    profile: ProfileName
    device: str
    queues: tuple[str, ...]


class Board(Protocol):
    """What client and worker know of jobs. `RedisBoard` is the real one, `testing.MemoryBoard` its double."""

    def open(self, job_id: str, request: EditRequest, idempotency_key: str | None = None) -> str:
        """Record a new job. Returns its id, or the id of the first job that was opened with the same key."""

    def discard(self, job_id: str) -> None:
        """Forget a job that never reached the queue."""

    def status(self, job_id: str) -> JobStatus:
        """The job's record, in one round trip. Raises JobNotFound."""

    def jobs(self, state: State | None = None, limit: int = 50) -> list[JobStatus]:
        """The newest `limit` jobs (of this state), newest first."""

    def begin(self, job_id: str, stage: Stage) -> State | None:
        """Count an attempt at `stage`. Returns the job's outcome if it has ended, else None. Raises JobNotFound."""

    def tick(self, job_id: str, step: int, steps: int) -> State | None:
        """Report a step of the running stage. Returns and raises as `begin` does."""

    def advance(self, job_id: str, stage: Stage, refs: Mapping[Slot, str], seconds: float, hit: bool) -> State | None:
        """Record that `stage` is done and where its artifacts lie. Returns and raises as `begin` does."""

    def finish(self, job_id: str, outcome: State, error: ErrorInfo | None = None) -> State:
        """End the job. Returns the outcome that holds: this one, or an earlier one. Raises JobNotFound."""

    def announce(self, worker: WorkerInfo) -> None:
        """Say that this worker lives; holds for WORKER_TTL seconds."""

    def leave(self, name: str) -> None:
        """Say that this worker is gone."""

    def workers(self) -> list[WorkerInfo]:
        """The live workers, by name."""

    def depths(self, queues: Sequence[str]) -> dict[str, int]:
        """How many messages wait in each queue."""

    def ping(self) -> None:
        """Raises BrokerUnavailable if the server does not answer."""


def status_of(job_id: str, fields: Mapping[str, str]) -> JobStatus:
    """A job's status, derived from the fields of its record."""
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
        timings={stage: float(fields[f"seconds:{stage.value}"]) for stage in done},
        cache_hits=tuple(stage for stage in done if fields.get(f"hit:{stage.value}") == "1"),
        attempts={stage: int(fields[name]) for stage in stages if (name := f"attempts:{stage.value}") in fields},
        error=ErrorInfo.model_validate_json(fields["error"]) if "error" in fields else None,
        refs={slot: fields[name] for slot in Slot if (name := f"ref:{slot.value}") in fields},
        request=request,
        created_at=_moment(fields["created"]),
        started_at=_moment(fields["started"]) if "started" in fields else None,
        finished_at=_moment(fields["finished"]) if "finished" in fields else None,
    )


def done_fields(stage: Stage, refs: Mapping[Slot, str], seconds: float, hit: bool) -> dict[str, str]:
    """What a finished stage adds to the record."""
    return {
        f"seconds:{stage.value}": f"{seconds:.4f}",
        f"hit:{stage.value}": str(int(hit)),
        **{f"ref:{slot.value}": key for slot, key in refs.items()},
    }


def _moment(seconds: str) -> datetime:
    return datetime.fromtimestamp(float(seconds), UTC)


def _speaking(method: Callable[P, R]) -> Callable[P, R]:
    """Redis' own errors, as ours; redis-py has retried by then."""

    @functools.wraps(method)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(*args, **kwargs)
        except redis.RedisError as error:
            raise BrokerUnavailable(f"Redis does not serve us ({error}); check DIFFEDIT_REDIS_URL") from error

    return guarded


class RedisBoard:
    """The job record in Redis or Valkey."""

    def __init__(self, settings: Settings) -> None:
        self._redis = redis.Redis.from_url(
            settings.redis_url.get_secret_value(),
            decode_responses=True,
            socket_timeout=10,
            socket_connect_timeout=5,
            socket_keepalive=True,
            health_check_interval=30,
            retry=Retry(ExponentialWithJitterBackoff(base=0.1, cap=1), 4),
        )
        self._retention = settings.retention
        self._open, self._write, self._begin, self._finish = (
            self._redis.register_script(script) for script in (_OPEN, _WRITE, _BEGIN, _FINISH)
        )

    @_speaking
    def open(self, job_id: str, request: EditRequest, idempotency_key: str | None = None) -> str:
        idempotency = f"diffedit:idempotency:{idempotency_key}" if idempotency_key else ""
        keys = [_job_key(job_id), "diffedit:jobs", idempotency]
        return cast(str, self._open(keys=keys, args=[job_id, request.model_dump_json(), _job_key("")]))

    @_speaking
    def discard(self, job_id: str) -> None:
        with self._redis.pipeline() as pipe:
            pipe.delete(_job_key(job_id))
            pipe.zrem("diffedit:jobs", job_id)
            pipe.execute()

    @_speaking
    def status(self, job_id: str) -> JobStatus:
        fields = cast(dict[str, str], self._redis.hgetall(_job_key(job_id)))
        if not fields:
            raise JobNotFound(job_id)
        return status_of(job_id, fields)

    @_speaking
    def jobs(self, state: State | None = None, limit: int = 50) -> list[JobStatus]:
        found: list[JobStatus] = []
        start, page = 0, max(limit, 50)
        while len(found) < limit:
            ids = cast(list[str], self._redis.zrevrange("diffedit:jobs", start, start + page - 1))
            if not ids:
                break
            with self._redis.pipeline(transaction=False) as pipe:
                for job_id in ids:
                    pipe.hgetall(_job_key(job_id))
                records = dict(zip(ids, pipe.execute(), strict=True))
            expired = [job_id for job_id, fields in records.items() if not fields]
            if expired:
                self._redis.zrem("diffedit:jobs", *expired)
            statuses = [status_of(job_id, fields) for job_id, fields in records.items() if fields]
            found += [status for status in statuses if state is None or status.state is state]
            start += page - len(expired)
        return found[:limit]

    @_speaking
    def begin(self, job_id: str, stage: Stage) -> State | None:
        return _answer(job_id, self._begin(keys=[_job_key(job_id)], args=[stage.value]))

    @_speaking
    def tick(self, job_id: str, step: int, steps: int) -> State | None:
        return _answer(job_id, self._write(keys=[_job_key(job_id)], args=["step", step, "steps", steps]))

    @_speaking
    def advance(self, job_id: str, stage: Stage, refs: Mapping[Slot, str], seconds: float, hit: bool) -> State | None:
        fields = [part for pair in done_fields(stage, refs, seconds, hit).items() for part in pair]
        return _answer(job_id, self._write(keys=[_job_key(job_id)], args=fields))

    @_speaking
    def finish(self, job_id: str, outcome: State, error: ErrorInfo | None = None) -> State:
        assert outcome in TERMINAL
        args = [outcome.value, error.model_dump_json() if error else "", self._retention]
        return _answer(job_id, self._finish(keys=[_job_key(job_id)], args=args)) or outcome

    @_speaking
    def announce(self, worker: WorkerInfo) -> None:
        with self._redis.pipeline() as pipe:
            pipe.sadd("diffedit:workers", worker.name)
            pipe.set(_worker_key(worker.name), worker.model_dump_json(), ex=WORKER_TTL)
            pipe.execute()

    @_speaking
    def leave(self, name: str) -> None:
        self._redis.delete(_worker_key(name))

    @_speaking
    def workers(self) -> list[WorkerInfo]:
        names = sorted(cast(set[str], self._redis.smembers("diffedit:workers")))
        if not names:
            return []
        found = dict(zip(names, cast(list[str | None], self._redis.mget(map(_worker_key, names))), strict=True))
        gone = [name for name, text in found.items() if not text]
        if gone:
            self._redis.srem("diffedit:workers", *gone)
        return [WorkerInfo.model_validate_json(text) for text in found.values() if text]

    @_speaking
    def depths(self, queues: Sequence[str]) -> dict[str, int]:
        with self._redis.pipeline(transaction=False) as pipe:
            for queue in queues:
                pipe.llen(queue)
            return dict(zip(queues, pipe.execute(), strict=True))

    @_speaking
    def ping(self) -> None:
        self._redis.ping()


def _job_key(job_id: str) -> str:
    return f"diffedit:job:{job_id}"


def _worker_key(name: str) -> str:
    return f"diffedit:worker:{name}"


def _answer(job_id: str, answer: object) -> State | None:
    if answer == "missing":
        raise JobNotFound(job_id)
    return State(cast(str, answer)) if answer else None
