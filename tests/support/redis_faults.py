"""Faults of a Redis or Valkey that goes on answering: it refuses what writes, or everything."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import redis


def _full(server: redis.Redis) -> Callable[[], object]:
    server.config_set("maxmemory", 1)
    return lambda: server.config_set("maxmemory", 0)


def _replica(server: redis.Redis) -> Callable[[], object]:
    server.replicaof("127.0.0.1", 1)
    return lambda: server.replicaof("NO", "ONE")


def _replica_without_data(server: redis.Redis) -> Callable[[], object]:
    server.config_set("replica-serve-stale-data", "no")
    server.replicaof("127.0.0.1", 1)

    def end() -> None:
        server.replicaof("NO", "ONE")
        server.config_set("replica-serve-stale-data", "yes")

    return end


def _without_replicas(server: redis.Redis) -> Callable[[], object]:
    server.config_set("min-replicas-to-write", 1)
    return lambda: server.config_set("min-replicas-to-write", 0)


def _busy(server: redis.Redis) -> Callable[[], object]:
    server.config_set("busy-reply-threshold", 50)
    known = server.get_connection_kwargs()
    connection = redis.Redis(**{name: known[name] for name in ("host", "port", "password")}, socket_timeout=120)
    threading.Thread(target=_run_for_ever, args=(connection,), daemon=True).start()
    while True:
        try:
            server.ping()
        except redis.ResponseError:
            return server.script_kill
        time.sleep(0.05)


def _run_for_ever(connection: redis.Redis) -> None:
    with suppress(redis.RedisError):
        connection.eval("while true do end", 0)


FAULTS: dict[str, Callable[[redis.Redis], Callable[[], object]]] = {
    "OOM": _full,
    "READONLY": _replica,
    "MASTERDOWN": _replica_without_data,
    "NOREPLICAS": _without_replicas,
    "BUSY": _busy,
}
"""Starts each fault and returns what ends it."""


@contextmanager
def refusing(server: redis.Redis, fault: str) -> Iterator[None]:
    """Let the server refuse as `fault` says while the context lasts."""
    end = FAULTS[fault](server)
    try:
        yield
    finally:
        end()
