"""The faults of the matrix. Each is a context manager: it lasts as long as its context."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial

import trustme

from benchmarks.fault_matrix.system import System
from benchmarks.harness import redis_faults
from benchmarks.harness.fault_proxy import Exchange
from diffedit_worker.local.stack import S3, VALKEY

LATENCY = 0.2
"""Seconds that the network takes more for each request."""


@dataclass(frozen=True)
class Fault:
    """One row of the matrix.

    Attributes:
        server: "Redis" or "S3".
        name: what the server answers, or what happens to it.
        cause: when that happens in production.
        replicated: whether it needs Redis with sentinels.
    """

    server: str
    name: str
    cause: str
    lasting: Callable[[System], AbstractContextManager[None]]
    replicated: bool = False


@contextmanager
def _killed(system: System, server: str) -> Iterator[None]:
    process = system.stack.processes[server]
    process.kill()
    process.wait()
    yield
    (system.stack.start_valkey if server == VALKEY else system.stack.start_s3)()
    system.stack.wait_ready()


def _refusing(system: System, fault: str) -> AbstractContextManager[None]:
    return redis_faults.refusing(system.redis, fault)


@contextmanager
def _untrusted(system: System) -> Iterator[None]:
    """Show a certificate of an authority that nobody knows."""
    trustme.CA().issue_cert("127.0.0.1").configure_cert(system.tls)
    system.s3_network.drop_connections()
    yield
    system.authority.issue_cert("127.0.0.1").configure_cert(system.tls)
    system.s3_network.drop_connections()


@contextmanager
def _failing_over(system: System) -> Iterator[None]:
    """Kill the primary. The sentinels make one of the replicas the primary."""
    servers = system.replicated
    assert servers
    former = servers.primary
    # Replication is asynchronous: without this the new primary might not know of the last writes.
    servers.wait_until_replicated()
    servers.kill(former)
    yield
    servers.start_again(former)
    servers.wait_until_redundant()


def _answers(name: str, cause: str, act: Callable[..., None], **how: float | str) -> Fault:
    """Return a fault that S3 gives as its answer to every request."""
    return Fault("S3", name, cause, lambda system: system.s3_proxy.always(partial(act, **how)))


def _refuses(name: str, cause: str) -> Fault:
    return Fault("Redis", name, cause, partial(_refusing, fault=name))


FAULTS: tuple[Fault, ...] = (
    Fault("Redis", "stopped", "crash, restart", partial(_killed, server=VALKEY)),
    Fault("Redis", "packets swallowed", "firewall, lost route", lambda system: system.redis_network.swallowing()),
    Fault("Redis", "200 ms latency", "far region", lambda system: system.redis_network.delaying(LATENCY)),
    _refuses("OOM", "`maxmemory` reached"),
    _refuses("READONLY", "the primary became a replica"),
    _refuses("MASTERDOWN", "a replica without its primary"),
    _refuses("NOREPLICAS", "`min-replicas-to-write` not met"),
    _refuses("MISCONF", "snapshots fail, as on a full disk"),
    _refuses("BUSY", "a script that does not end"),
    Fault("Redis", "fail-over by Sentinel", "the primary crashes", _failing_over, replicated=True),
    Fault("S3", "stopped", "crash, restart", partial(_killed, server=S3)),
    Fault("S3", "packets swallowed", "firewall, lost route", lambda system: system.s3_network.swallowing()),
    Fault("S3", "200 ms latency", "far region", lambda system: system.s3_network.delaying(LATENCY)),
    _answers("403 AccessDenied", "a policy changed", Exchange.fails, status=403, code="AccessDenied"),
    _answers("403 InvalidAccessKeyId", "a key was deleted", Exchange.fails, status=403, code="InvalidAccessKeyId"),
    _answers("403 for missing objects", "no `s3:ListBucket`", Exchange.hides_missing),
    _answers("301 PermanentRedirect", "bucket in another region", Exchange.redirects, region="eu-central-1"),
    _answers("503 SlowDown", "too many requests", Exchange.fails, status=503, code="SlowDown"),
    _answers("507 InsufficientStorage", "disk full", Exchange.fails, status=507, code="InsufficientStorage"),
    _answers("403 RequestTimeTooSkewed", "clock an hour behind", Exchange.is_ahead, seconds=3600),
    Fault("S3", "untrusted certificate", "renewed by another authority", _untrusted),
)
