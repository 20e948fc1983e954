"""The fault of a sick worker that works beside the healthy ones for a while."""

import logging
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

from benchmarks.chaos.sickness import FALLS_SICK, LIFELONG, OF_THE_STORE, SICKNESS, WELL_STAGES, Sickness
from benchmarks.chaos.system import Fault, System
from benchmarks.harness.waiting import wait_until
from benchmarks.harness.worker_pool import READY_TIMEOUT, stop_gracefully
from diffedit.errors import ServiceError
from diffedit_worker.local.process_group import Process
from diffedit_worker.models.profiles import BUILT_IN

log = logging.getLogger(__name__)

APP = "benchmarks.chaos.sick_worker"
RESTART_AFTER = 2.0
"""Seconds after which a supervisor starts a worker again that has ended by itself."""
MOST_WELL_STAGES = 4
MOST_WELL_SECONDS = 30.0
"""How long to wait until a worker falls sick."""
MOST_SICK_SECONDS = 6.0
STORE_SECONDS = 16.0
"""Seconds more for a worker that falls sick of S3: it takes about as long until it gives up."""


def bring(system: System, fault: Fault, sickness: Sickness) -> bool:
    """Let a sick worker take jobs for some seconds, and start it again if it ends by itself.

    Half of them are sick from the start. The others run up to four stages well before, so that no check at the start
    can find anything. Half of them load their models before they take a job. There is one sick worker at a time: a job
    may fail after three workers could not run a stage of it.
    """
    late = sickness not in LIFELONG and fault.pick >= 0.5
    well_stages = 1 + int((fault.pick - 0.5) * 2 * MOST_WELL_STAGES) if late else 0
    seconds = min(MOST_SICK_SECONDS, fault.duration) + STORE_SECONDS * (late and sickness in OF_THE_STORE)
    with system.locks["sick worker"]:
        # Late in a run all jobs may be done before it is this one's turn.
        if not wait_until(lambda: system.observer.unfinished_jobs, MOST_SICK_SECONDS):
            return False
        system.sick_workers += 1
        name = f"{sickness.name.lower().replace('_', '-')}{system.sick_workers}"
        log.info("%s is sick after %d stages", name, well_stages)
        variables = {SICKNESS: sickness, WELL_STAGES: str(well_stages), **_surroundings(system, sickness)}
        worker = _SickWorker(system, name, {**variables, "DIFFEDIT_PRELOAD": str(int(fault.pick * 100) % 2)})
        worker.start()
        if late:
            worker.stay_until_sick(MOST_WELL_SECONDS)
        worker.stay(seconds)
        worker.stop()
        return True


class _SickWorker:
    def __init__(self, system: System, name: str, environment: Mapping[str, str]) -> None:
        self._system = system
        self._name = name
        self._environment = environment
        self._log = system.stack.directory / "logs" / f"{name}.log"
        self._process: Process

    def start(self) -> None:
        """Start the process, and wait until it has announced itself or has ended."""
        self._process = self._system.stack.start_worker(self._name, app=APP, environment=self._environment)
        wait_until(lambda: self._process.poll() is not None or self._is_announced(), READY_TIMEOUT)

    def stay_until_sick(self, timeout: float) -> None:
        wait_until(lambda: self._supervise() and FALLS_SICK in self._log.read_text(errors="replace"), timeout)

    def stay(self, seconds: float) -> None:
        wait_until(lambda: not self._supervise(), seconds)

    def stop(self) -> None:
        if self._process.poll() is None:
            self._system.workers.stopped_on_purpose.add(self._process)
            stop_gracefully(self._process)
        self._note_end()
        self._system.stack.stop(self._process)

    def _supervise(self) -> bool:
        """Start the worker again if it has ended, as a supervisor does. Always true."""
        if self._process.poll() is not None:
            self._note_end()
            time.sleep(RESTART_AFTER)
            self.start()
        return True

    def _note_end(self) -> None:
        log.info("%s ended with status %s", self._name, self._process.returncode)
        self._system.workers.note_end(self._name, self._process)

    def _is_announced(self) -> bool:
        try:
            return self._name in {worker.name.partition("@")[0] for worker in self._system.worker_registry.workers()}
        except ServiceError:
            return False


def _surroundings(system: System, sickness: Sickness) -> dict[str, str]:
    """Prepare what the sick worker finds, and return the variables that lead it there."""
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
