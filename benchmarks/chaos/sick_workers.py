"""The fault of a sick worker that works beside the healthy ones for a while."""

import logging
import shutil
import time
from pathlib import Path

from benchmarks.chaos.sickness import LIFELONG, OF_THE_STORE, OTHER_BUCKET, SICKNESS, WELL_STAGES, Sickness
from benchmarks.chaos.system import Fault, System
from benchmarks.harness.waiting import wait_until
from benchmarks.harness.worker_pool import READY_TIMEOUT, stop_gracefully
from diffedit.errors import ServiceError
from diffedit_worker.local.process_group import Process
from diffedit_worker.local.stack import S3
from diffedit_worker.models.profiles import BUILT_IN

log = logging.getLogger(__name__)

APP = "benchmarks.chaos.sick_worker"
RESTART_AFTER = 2.0
"""Seconds after which a supervisor starts a worker again that has ended by itself."""
MOST_WELL_STAGES = 4
LONGEST = 6.0
"""Seconds for which a sick worker works, at most."""
STORE_SECONDS = 16.0
"""Seconds more for one whose trouble is S3: it takes about as long until it gives up."""


def bring(system: System, fault: Fault, sickness: Sickness) -> bool:
    """Let a sick worker take jobs for some seconds, and start it again if it ends by itself.

    Half of them are sick from the start. The others run up to four stages well before, so that no check at the start
    can find anything. Half of them load their models before they take a job. There is one sick worker at a time: a job
    may fail after three workers could not run a stage of it.
    """
    with system.locks["sick worker"]:
        # Late in a run all jobs may be done before it is this one's turn.
        if not wait_until(lambda: system.observer.unfinished_jobs, LONGEST):
            return False
        name = f"{sickness.name.lower().replace('_', '-')}{len(system.sick_workers) + 1}"
        system.sick_workers.append(name)
        well_stages = 0
        if sickness not in LIFELONG and fault.pick >= 0.5:
            well_stages = 1 + int((fault.pick - 0.5) * 2 * MOST_WELL_STAGES)
        environment = {
            SICKNESS: sickness,
            WELL_STAGES: str(well_stages),
            "DIFFEDIT_PRELOAD": str(int(fault.pick * 100) % 2),
            **_surroundings(system, sickness),
        }
        log.info("%s is sick after %d stages", name, well_stages)

        def start() -> Process:
            process = system.stack.start_worker(name, app=APP, environment=environment)
            wait_until(lambda: process.poll() is not None or _is_announced(system, name), READY_TIMEOUT)
            return process

        process, until = start(), time.monotonic() + _seconds(fault, sickness, well_stages)
        while time.monotonic() < until:
            if process.poll() is not None:
                system.workers.note_end(name, process)
                log.info("%s ended with status %s", name, process.returncode)
                time.sleep(RESTART_AFTER)
                process = start()
            time.sleep(0.1)
        if process.poll() is None:
            system.workers.stopped_on_purpose.add(process)
            stop_gracefully(process)
        system.workers.note_end(name, process)
        system.stack.stop(process)
        return True


def _seconds(fault: Fault, sickness: Sickness, well_stages: int) -> float:
    """Return how long the worker stays."""
    return min(LONGEST, fault.duration) + STORE_SECONDS * (well_stages > 0 and sickness in OF_THE_STORE)


def _is_announced(system: System, name: str) -> bool:
    try:
        return name in {worker.name.partition("@")[0] for worker in system.worker_registry.workers()}
    except ServiceError:
        return False


def _surroundings(system: System, sickness: Sickness) -> dict[str, str]:
    """Prepare what the sick worker finds, and return the variables that lead it there."""
    if sickness is Sickness.OTHER_BUCKET:
        (system.stack.directory / S3 / OTHER_BUCKET).mkdir(exist_ok=True)
    if sickness is Sickness.CHECKPOINT:
        return {"DIFFEDIT_PROFILES": str(_broken_profile(system.stack.directory / "broken"))}
    return {}


def _broken_profile(directory: Path) -> Path:
    """Return a file of profiles whose "tiny" has a UNet of which half is missing, as after a full disk."""
    profiles = directory / BUILT_IN.name
    if not directory.exists():
        shutil.copytree(BUILT_IN.with_name("tiny"), directory / "tiny")
        (weights,) = (directory / "tiny" / "diffusion" / "unet").glob("*.safetensors")
        weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
        shutil.copy(BUILT_IN, profiles)
    return profiles
