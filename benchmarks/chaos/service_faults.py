"""Faults of the services: Valkey and S3 are away, slow, or refuse."""

import signal
import time
from collections.abc import Container, Iterator
from contextlib import contextmanager

from benchmarks.chaos.system import Fault, System
from benchmarks.harness import redis_faults
from benchmarks.harness.fault_proxy import METHODS, Exchange
from diffedit_worker.local.process_group import Process
from diffedit_worker.local.stack import S3, VALKEY

REFUSAL_SECONDS = (2.0, 8.0)
REDIS_REFUSALS = ("READONLY", "NOREPLICAS", "OOM", "MISCONF", "MASTERDOWN")
LATENCY = 0.2


def kill_valkey(system: System, fault: Fault) -> bool:
    with _restarted_afterwards(system, VALKEY) as process:
        process.kill()
        time.sleep(fault.duration)
    return True


def restart_valkey(system: System, fault: Fault) -> bool:
    with _restarted_afterwards(system, VALKEY) as process:
        process.terminate()
    return True


def stop_s3(system: System, fault: Fault) -> bool:
    with _restarted_afterwards(system, S3) as process:
        # The proxy would answer without a server behind it. Nobody answers at an address whose server is stopped.
        system.proxy.down()
        process.terminate()
        time.sleep(fault.duration)
    system.proxy.up()
    return True


@contextmanager
def _restarted_afterwards(system: System, server: str) -> Iterator[Process]:
    """Allow one fault at a time for this server, and start the server again at the end."""
    with system.locks[server]:
        process = system.stack.processes[server]
        yield process
        process.wait()
        (system.stack.start_valkey if server == VALKEY else system.stack.start_s3)()


def freeze(system: System, fault: Fault, server: str) -> bool:
    """Stop the process of a server, so that it takes connections and never answers."""
    with system.locks[server]:
        process = system.stack.processes[server]
        process.send_signal(signal.SIGSTOP)
        time.sleep(fault.duration)
        process.send_signal(signal.SIGCONT)
    return True


def refuse_writes(system: System, fault: Fault) -> bool:
    """Let Valkey answer and refuse, for one reason or another."""
    shortest, longest = REFUSAL_SECONDS
    reason = REDIS_REFUSALS[int(fault.pick * len(REDIS_REFUSALS))]
    with system.locks[VALKEY], redis_faults.refusing(system.redis, reason):
        time.sleep(min(longest, max(shortest, fault.duration)))
    return True


def slow_down(system: System, fault: Fault) -> bool:
    """Let S3 answer each request late, as over a long distance."""
    with system.proxy.always(Exchange.is_slow, seconds=LATENCY):
        time.sleep(fault.duration)
    return True


def refuse(system: System, fault: Fault, methods: Container[str] = METHODS) -> bool:
    """Refuse requests for a few seconds, as S3 does when somebody changes a policy or a key expires."""
    shortest, longest = REFUSAL_SECONDS
    with system.proxy.always(Exchange.fails, methods=methods, status=403, code="AccessDenied"):
        time.sleep(min(longest, max(shortest, fault.duration)))
    return True
