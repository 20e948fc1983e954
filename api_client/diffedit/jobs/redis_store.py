"""The job record in Redis or Valkey: one hash a job, and each change one atomic script (`scripts.py`)."""

import functools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar, cast

import redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.retry import Retry

from diffedit.contract.job import TERMINAL, ErrorInfo, Job, JobStatus, State
from diffedit.contract.stages import Artifact, ModelGroup, Stage, queue_name
from diffedit.errors import BrokerFull, BrokerUnavailable, JobElsewhere, JobNotFound, QueueFull
from diffedit.jobs import scripts
from diffedit.jobs.records import done_fields, new_fields, readable, status_of, undone_fields
from diffedit.jobs.store import WORKER_LOST, LockResult, MaxAttemptsExceeded, StageCompletion, WorkerInfo
from diffedit.settings import Settings

P = ParamSpec("P")
R = TypeVar("R")

_PREFIX = "diffedit:"
_INDEX, _RUNNING, _EXPIRING = (_PREFIX + name for name in ("jobs", "running", "expiring"))
_WORKERS, _LEADER = (_PREFIX + name for name in ("workers", "leader"))
_WAITING, _ALIVE, _MAKING, _PARKED = (_PREFIX + name for name in ("waiting:", "worker:", "making:", "parked:"))
_PAGE = 500


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


class RedisJobStore:
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
        texts = [text for name, text in vars(scripts).items() if name.isupper() and not name.startswith("_")]
        self._scripts = {text: self._redis.register_script(text) for text in texts}

    @_speaking
    def create_job(self, job: Job, idempotency_key: str | None = None) -> str:
        keys = [_INDEX, f"{_PREFIX}idempotency:{idempotency_key}"] if idempotency_key else [_INDEX]
        options, profile = job.options, job.request.params.profile
        others = [queue_name(profile, group, options.lane) for group in ModelGroup]
        others.remove(job.queue)
        limits = [self._settings.max_queued, options.start_timeout or "", options.deadline or ""]
        args = [_job_key(""), *limits, job.stages_left[0].value, job.queue, len(others), *others]
        first = self._run(scripts.OPEN, job.id, None, *args, *_flat(new_fields(job)), keys=keys)
        if first == "full":
            raise QueueFull(options.lane.value, profile, self._settings.max_queued)
        return cast(str, first)

    @_speaking
    def discard_job(self, job_id: str) -> None:
        self._run(scripts.DISCARD, job_id, None, keys=[_INDEX])

    @_speaking
    def status(self, job_id: str) -> JobStatus:
        fields = cast(dict[str, str], self._redis.hgetall(_job_key(job_id)))
        if not fields:
            raise JobNotFound(job_id)
        status = status_of(job_id, fields)
        if status.is_overdue and self.expire_job(job_id):
            # No worker is there to end it.
            return self.status(job_id)
        return status

    @_speaking
    def expire_job(self, job_id: str) -> State | None:
        return _outcome(job_id, self._run(scripts.EXPIRE, job_id, None))

    @_speaking
    def overdue_jobs(self) -> list[str]:
        return cast(list[str], self._redis.zrangebyscore(_EXPIRING, "-inf", self._now()))

    @_speaking
    def unfinished_jobs(self) -> list[JobStatus]:
        ids = set(cast(list[str], self._redis.hkeys(_RUNNING)))
        for queue in cast(set[str], self._redis.smembers(_WAITING + "queues")):
            ids.update(cast(list[str], self._redis.zrange(_WAITING + queue, 0, -1)))
        statuses = [status_of(job_id, fields) for job_id, fields in self._records(sorted(ids)).items() if fields]
        return [status for status in statuses if not status.is_terminal]

    @_speaking
    def list_jobs(self, state: State | None = None, limit: int = 50) -> list[JobStatus]:
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
            statuses = readable(records)
            found += [status for status in statuses if state is None or status.state is state]
            start += page - len(expired)
        return found[:limit]

    @_speaking
    def start_stage(self, job_id: str, stage: Stage, worker: str) -> JobStatus:
        answer = self._run(scripts.BEGIN, job_id, worker, stage.value, self._settings.max_attempts)
        if answer == "spent":
            cause = cast(str | None, self._redis.hget(_job_key(job_id), f"cause:{stage.value}"))
            raise MaxAttemptsExceeded(cause or WORKER_LOST)
        if isinstance(answer, list):
            return status_of(job_id, dict(zip(answer[::2], answer[1::2], strict=True)))
        _outcome(job_id, answer)
        return self.status(job_id)

    @_speaking
    def report_step(self, job_id: str, step: int, steps: int, worker: str) -> State | None:
        return _outcome(job_id, self._run(scripts.WRITE, job_id, worker, "step", step, "steps", steps))

    @_speaking
    def complete_stage(
        self, job: Job, stage: Stage, seconds: float, made: Sequence[Artifact], worker: str
    ) -> StageCompletion:
        then = [job.stages_left[0].value, job.queue] if job.stages_left else ["", ""]
        fields = _flat(done_fields(job, stage, seconds, made))
        claims = _claims([job.artifact_keys[artifact] for artifact in stage.gives])
        answer = self._run(scripts.ADVANCE, job.id, worker, *then, *fields, keys=claims)
        return StageCompletion(None, answer) if isinstance(answer, list) else StageCompletion(_outcome(job.id, answer))

    @_speaking
    def requeue(self, job: Job, worker: str | None = None, *, refund: bool = False) -> State | None:
        args = [job.stages_left[0].value, job.queue, int(refund), *undone_fields(job)]
        return _outcome(job.id, self._run(scripts.HAND_BACK, job.id, worker, *args))

    @_speaking
    def end_job(self, job_id: str, outcome: State, error: ErrorInfo | None = None, worker: str | None = None) -> State:
        assert outcome in TERMINAL
        args = [outcome.value, error.model_dump_json() if error else ""]
        return _outcome(job_id, self._run(scripts.FINISH, job_id, worker, *args)) or outcome

    @_speaking
    def record_cause(self, job_id: str, stage: Stage, cause: str) -> None:
        self._redis.hset(_job_key(job_id), f"cause:{stage.value}", cause)

    @_speaking
    def count_retry(self, job_id: str, worker: str) -> State | None:
        return _outcome(job_id, self._run(scripts.COUNT_RETRY, job_id, worker))

    @_speaking
    def acquire_locks(self, keys: Sequence[str], job_id: str, worker: str) -> LockResult:
        seconds = math.ceil(max(map(self._settings.timeout_of, Stage)))
        return LockResult(cast(str, self._run(scripts.CLAIM, job_id, worker, seconds, keys=_claims(keys))))

    @_speaking
    def release_locks(self, keys: Sequence[str], job_id: str, worker: str) -> list[str]:
        return cast(list[str], self._run(scripts.UNCLAIM, job_id, worker, keys=_claims(keys)))

    @_speaking
    def jobs_held_by(self, worker: str) -> list[str]:
        holders = cast(dict[str, str], self._redis.hgetall(_RUNNING))
        return [job_id for job_id, holder in holders.items() if holder == worker]

    @_speaking
    def orphaned_jobs(self, grace: float) -> list[str]:
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
    def acquire_leadership(self, worker: str, seconds: float) -> bool:
        milliseconds = int(1000 * seconds)
        if self._redis.set(_LEADER, worker, px=milliseconds, nx=True):
            return True
        return self._redis.get(_LEADER) == worker and bool(self._redis.pexpire(_LEADER, milliseconds))

    @_speaking
    def send_heartbeat(self, worker: WorkerInfo) -> None:
        args = [worker.model_dump_json(), int(1000 * self._settings.worker_ttl)]
        self._run(scripts.ANNOUNCE, "", worker.id, *args, keys=[_WORKERS, _ALIVE + worker.id])

    @_speaking
    def unregister(self, worker: str) -> None:
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
    def queue_lengths(self, queues: Sequence[str]) -> dict[str, int]:
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


def _claims(artifacts: Sequence[str]) -> list[str]:
    return [prefix + artifact for artifact in artifacts for prefix in (_MAKING, _PARKED)]


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
