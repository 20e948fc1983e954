"""Faults of healthy workers, which are killed, stopped and frozen, and of the senders of webhooks."""

import logging
import signal
import time
from contextlib import suppress
from subprocess import TimeoutExpired

from benchmarks.chaos.observer import WorkerFault
from benchmarks.chaos.system import Fault, System
from benchmarks.harness.worker_pool import STOP_GRACE
from diffedit.errors import ServiceError
from diffedit_worker.local.process_group import Process

log = logging.getLogger(__name__)


def kill_worker(system: System, fault: Fault) -> bool:
    return _signal_worker(system, fault, signal.SIGKILL) is not None


def stop_worker(system: System, fault: Fault) -> bool:
    process = _signal_worker(system, fault, signal.SIGTERM)
    if process:
        with suppress(TimeoutExpired):
            process.wait(STOP_GRACE)
        process.kill()
    return process is not None


def freeze_worker(system: System, fault: Fault) -> bool:
    process = _signal_worker(system, fault, signal.SIGSTOP)
    if process:
        time.sleep(fault.duration)
        process.send_signal(signal.SIGCONT)
    return process is not None


def kill_sender(system: System, fault: Fault) -> bool:
    system.webhooks.kill_sender(fault.pick)
    return True


def _signal_worker(system: System, fault: Fault, number: signal.Signals) -> Process | None:
    """Send a signal to a worker, and let the observer watch the job that it holds."""
    name, process = system.workers.pick(fault.pick)
    if process.poll() is not None:
        return None
    if number != signal.SIGSTOP:
        system.workers.stopped_on_purpose.add(process)
    worker_id, held = "", []
    with suppress(ServiceError):
        worker_id = "".join(
            worker.id for worker in system.worker_registry.workers() if worker.name.partition("@")[0] == name
        )
        held = system.job_store.jobs_held_by(worker_id)
    process.send_signal(number)
    for job_id in held:
        log.info("%s held job %s", name, job_id)
        with suppress(ServiceError):
            frozen = system.job_store.status(job_id) if number == signal.SIGSTOP else None
            system.observer.worker_faults.append(WorkerFault(job_id, worker_id, time.monotonic(), frozen))
    return process
