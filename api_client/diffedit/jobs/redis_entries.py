"""Reading keys of Redis or Valkey, whatever somebody has put into them.

A key of another type reads as an empty one. It is noted in `diffedit:damaged`, which `diffedit health` shows. The
scripts do the same, and delete it if they have to write there (`lua/prelude.lua`).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, cast

import redis

from diffedit.jobs import keys
from diffedit.jobs.redis_server import RedisServer, is_wrong_type

SHOWN_FOR = 3600
"""Seconds for which a damaged key is shown after it was last seen."""
MOST_SHOWN = 1000
_EMPTY: Mapping[str, Callable[[], Any]] = {
    "get": lambda: None,
    "hget": lambda: None,
    "hkeys": list,
    "hgetall": dict,
    "hlen": int,
    "llen": int,
    "lrange": list,
    "smembers": set,
    "zcard": int,
    "zcount": int,
    "zrange": list,
    "zrangebyscore": list,
    "zrevrange": list,
}
"""What each command returns for a key that does not exist."""

Command = tuple[Any, ...]
"""The name of a command as redis-py spells it, the key, and further arguments."""


class RedisEntries:
    """Reads keys. Nothing that they hold is an error."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server

    def read(self, name: str, key: str, *args: Any) -> Any:
        """Return the answer to one command."""
        return self.read_all([(name, key, *args)])[0]

    def read_all(self, commands: Sequence[Command]) -> list[Any]:
        """Return the answers to these commands, in one round trip."""
        answers = self._answers(commands)
        return [
            _EMPTY[name]() if answer is None else answer for (name, *_), answer in zip(commands, answers, strict=True)
        ]

    def records(self, ids: Sequence[str]) -> dict[str, dict[str, str] | None]:
        """Return the records of these jobs: {} if there is none, None if it is not a hash."""
        answers = self._answers([("hgetall", keys.job_key(job_id)) for job_id in ids])
        return dict(zip(ids, answers, strict=True))

    def note(self, damaged: Iterable[str]) -> None:
        """Note keys that hold what cannot be read."""
        names = sorted(damaged)
        if names:
            with suppress(redis.RedisError):  # what was asked for matters more
                now, connection = self._server.now(), self._server.connection
                connection.zadd(keys.DAMAGED, dict.fromkeys(names, now))
                connection.expire(keys.DAMAGED, SHOWN_FOR)

    def damaged(self) -> list[str]:
        """Return the keys that were noted in the last hour, those that were noted last first."""
        since = self._server.now() - SHOWN_FOR
        seen = cast(list[tuple[str, float]], self.read("zrevrange", keys.DAMAGED, 0, -1, True))
        if old := [name for name, at in seen if at < since] + [name for name, _ in seen[MOST_SHOWN:]]:
            self._server.connection.zrem(keys.DAMAGED, *old)
        return [name for name, at in seen[:MOST_SHOWN] if at >= since]

    def _answers(self, commands: Sequence[Command]) -> list[Any]:
        """Return the answers, None for each key of another type."""
        with self._server.connection.pipeline(transaction=False) as pipe:
            for name, *args in commands:
                getattr(pipe, name)(*args)
            answers = pipe.execute(raise_on_error=False)
        wrong = [is_wrong_type(answer) for answer in answers]
        for answer, is_wrong in zip(answers, wrong, strict=True):
            if isinstance(answer, Exception) and not is_wrong:
                raise answer
        self.note({str(key) for (_, key, *_), is_wrong in zip(commands, wrong, strict=True) if is_wrong})
        return [None if is_wrong else answer for answer, is_wrong in zip(answers, wrong, strict=True)]
