"""The connection to Redis or Valkey, the Lua scripts, and the translation of errors."""

import encodings.idna  # noqa: F401 - the first connection needs it; see `independent_celery`
import functools
import json
import re
from collections.abc import Callable
from importlib.resources import files
from typing import Any, ParamSpec, TypeVar, cast

import redis

from diffedit.contract.job import State
from diffedit.errors import (
    BadRecord,
    BrokerDamaged,
    BrokerFull,
    BrokerUnavailable,
    JobElsewhere,
    JobNotFound,
    NewerRecord,
)
from diffedit.forks import PerProcess
from diffedit.jobs import keys
from diffedit.jobs.records import outcome_in
from diffedit.jobs.redis_connection import (
    SOCKET_TIMEOUT,
    Primary,
    ServerRefuses,
    connection_class,
    without_maintenance_notices,
)
from diffedit.retries import BoundedRetry, RedisPolicy
from diffedit.settings import Settings

P = ParamSpec("P")
R = TypeVar("R")

_LUA = files("diffedit.jobs") / "lua"
SHARED = frozenset(
    {"ending", "epoch", "extras", "only_holder", "only_open", "prelude", "queueing"}
    | {"release", "removal", "restart", "workers"}
)
"""Parts of scripts."""
NO_EVICTION = "noeviction"
_FUNCTION = re.compile(r"^local function (\w+)\(.*?^end\n", re.MULTILINE | re.DOTALL)
_MEMBER = re.compile(r"^  function this\.(\w+)\(.*?^  end\n", re.MULTILINE | re.DOTALL)
_INCLUDE = re.compile(r"^-- include (\w+)$", re.MULTILINE)
_COMMENT = re.compile(r"^ *--.*\n", re.MULTILINE)
_DAMAGED = "DAMAGED "
"""How a script says which record of a job it cannot use."""


def is_wrong_type(answer: object) -> bool:
    """Return whether Redis refused a command because the key holds another type."""
    return isinstance(answer, redis.ResponseError) and str(answer).startswith("WRONGTYPE")


def translate_errors(method: Callable[P, R]) -> Callable[P, R]:
    """Raise our errors instead of redis-py's. redis-py has retried before."""

    @functools.wraps(method)
    def translated(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(*args, **kwargs)
        except redis.OutOfMemoryError as error:
            raise BrokerFull from error
        except ServerRefuses as error:
            raise BrokerUnavailable(f"Redis answers, but refuses commands ({error}); check the server") from error
        except redis.RedisError as error:
            if is_wrong_type(error):
                raise BrokerDamaged(str(error)) from error
            raise BrokerUnavailable(f"Redis error: {error}; check DIFFEDIT_REDIS_URL") from error

    return translated


class RedisServer:
    """One server, for any thread. Nothing is connected before the first command."""

    def __init__(self, settings: Settings, policy: RedisPolicy) -> None:
        self._scripted = PerProcess(functools.partial(_Scripted, settings, policy))

    @property
    def connection(self) -> redis.Redis:
        """redis-py's client in this process. Do not keep it: a forked child has another one."""
        return self._scripted().connection

    def run(self, script: str, message: str | None = None, **args: Any) -> object:
        """Run the Lua script of this name as one atomic step. Arguments that are None are left out.

        `message` is what the script puts into a queue. It goes as it is, because Lua need not read it.
        """
        given = {name: value for name, value in args.items() if value is not None}
        texts = [json.dumps(given)] if message is None else [json.dumps(given), message]
        try:
            return self._scripted().scripts[script](args=texts)
        except redis.ResponseError as error:
            if str(error).startswith(_DAMAGED):
                raise BadRecord(str(error).split()[1].removeprefix(keys.JOB), "it does not hold what it must") from None
            raise

    def now(self) -> float:
        """Return the server's time, in seconds."""
        seconds, microseconds = self.connection.time()
        return seconds + microseconds / 1e6

    @translate_errors
    def warnings(self) -> list[str]:
        """Say what to correct in the server's configuration. A user who may not run INFO is told nothing."""
        try:
            policy = self.connection.info("memory").get("maxmemory_policy", NO_EVICTION)
        except redis.exceptions.NoPermissionError:
            return []
        if policy == NO_EVICTION:
            return []
        return [f"maxmemory-policy is {policy}, so Redis deletes jobs when its memory is full; set it to {NO_EVICTION}"]

    def close(self) -> None:
        if scripted := self._scripted.made:
            scripted.connection.close()


class _Scripted:
    """redis-py's client and the scripts that are bound to it.

    Its pool is bounded: a thread that finds all connections in use waits for one.
    """

    def __init__(self, settings: Settings, policy: RedisPolicy) -> None:
        url = settings.redis
        pool = redis.BlockingConnectionPool.from_url(
            url.server,
            max_connections=settings.max_connections,
            timeout=policy.seconds,
            decode_responses=True,
            socket_timeout=SOCKET_TIMEOUT,
            socket_keepalive=True,
            health_check_interval=30,
            retry=BoundedRetry(policy),
            connection_class=connection_class(url.server),
            primary=Primary(url.sentinels) if url.sentinels else None,
            **without_maintenance_notices(),
        )
        self.connection = redis.Redis.from_pool(pool)
        self.scripts = {name: self.connection.register_script(text) for name, text in _scripts().items()}


def outcome_of(job_id: str, answer: object) -> State | None:
    """Return the outcome that a script answered with; "" is none. Raises JobNotFound, JobElsewhere, NewerRecord."""
    if answer == "missing":
        raise JobNotFound(job_id)
    if answer == "elsewhere":
        raise JobElsewhere(job_id)
    if answer == "newer":
        raise NewerRecord(job_id)
    return outcome_in(job_id, cast(str, answer)) if answer else None


@functools.cache
def _scripts() -> dict[str, str]:
    names = {path.name.removesuffix(".lua") for path in _LUA.iterdir() if path.name.endswith(".lua")}
    return {name: _script(name) for name in names - SHARED}


def _script(name: str) -> str:
    """Return a script with its parts in place, without the functions that it does not use, and with the key names.

    Lua makes each function and each table anew whenever the script runs. Twenty functions more in each script cost
    Valkey a tenth more time for each job.
    """
    text = _read(name)
    while (whole := _INCLUDE.sub(lambda part: _read(part[1]), text)) != text:
        text = whole
    text = _COMMENT.sub("", text)  # a comment that names a function does not use it
    while (used := _without_unused_functions(text)) != text:
        text = used
    return re.sub(r"\bkeys\.(\w+)", lambda key: keys.in_lua(key[1]), text)


def _without_unused_functions(text: str) -> str:
    """Remove each function, and each one in a table named `this`, that nothing uses."""

    def called(used: str) -> Callable[[re.Match[str]], str]:
        return lambda found: found[0] if re.search(used.format(found[1]), text) else ""

    text = _MEMBER.sub(called(r"(?<!function this)\.{}\b"), text)
    return _FUNCTION.sub(called(r"(?<!function )(?<![\w.']){}\b(?!')"), text)


def _read(name: str) -> str:
    return (_LUA / f"{name}.lua").read_text(encoding="utf-8")
