"""Faults of a Redis or Valkey that goes on answering: it refuses what writes, or everything."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

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


def _without_snapshots(server: redis.Redis) -> Callable[[], object]:
    """Let snapshots fail, as on a full disk: a directory lies where the file goes."""
    configured = server.config_get("dir") | server.config_get("dbfilename") | server.config_get("save")
    place = Path(configured["dir"] or "") / (configured["dbfilename"] or "")
    place.unlink(missing_ok=True)
    place.mkdir()
    server.config_set("save", "3600 1")
    _save(server, "err")

    def end() -> None:
        place.rmdir()
        _save(server, "ok")
        server.config_set("save", configured["save"] or "")

    return end


def _save(server: redis.Redis, result: str) -> None:
    """Save in the background until the result is this."""
    while server.info("persistence")["rdb_last_bgsave_status"] != result:
        with suppress(redis.ResponseError):  # it is saving
            server.bgsave()
        time.sleep(0.05)


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
    "MISCONF": _without_snapshots,
    "BUSY": _busy,
}
"""Starts each fault and returns what ends it."""


def _loading(server: redis.Redis) -> Callable[[], object]:
    """It loads its data again, slowly, as after a restart with many jobs."""
    filling = {f"filling:{number}": os.urandom(4096) for number in range(LOADING_KEYS)}
    server.mset(filling)
    server.config_set("loading-process-events-interval-bytes", 1024)
    server.config_set("key-load-delay", int(LOADING_SECONDS / LOADING_KEYS * 1e6))
    known = server.get_connection_kwargs()
    connection = redis.Redis(**{name: known[name] for name in ("host", "port", "password")}, socket_timeout=120)

    def reload() -> None:
        with suppress(redis.RedisError):
            connection.execute_command("DEBUG", "RELOAD")  # type: ignore[no-untyped-call]

    thread = threading.Thread(target=reload, daemon=True)
    thread.start()
    while not _is_loading(server):
        time.sleep(0.02)

    def end() -> None:
        thread.join()
        server.config_set("key-load-delay", 0)
        server.delete(*filling)

    return end


def _is_loading(server: redis.Redis) -> bool:
    try:
        server.ping()
    except redis.BusyLoadingError:
        return True
    return False


LOADING_KEYS = 500
LOADING_SECONDS = 10.0
"""A worker repeats a command for longer, a client for less."""

FAULTS_OF_A_SERVER_FOR_TESTS: dict[str, Callable[[redis.Redis], Callable[[], object]]] = {
    "LOADING": _loading,
}
"""They need `enable-debug-command`."""


@contextmanager
def refusing(server: redis.Redis, fault: str) -> Iterator[None]:
    """Let the server refuse as `fault` says while the context lasts."""
    end = {**FAULTS, **FAULTS_OF_A_SERVER_FOR_TESTS}[fault](server)
    try:
        yield
    finally:
        end()
