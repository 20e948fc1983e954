"""The worker processes of a benchmark."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from subprocess import TimeoutExpired

from benchmarks.harness.waiting import wait_until
from diffedit import Client
from diffedit_worker.local.process_group import Process
from diffedit_worker.local.stack import LocalServices
from diffedit_worker.runtime.fitness import UNFIT_EXIT_CODE

READY_TIMEOUT = 120.0
STOP_GRACE = 10.0
"""Seconds between SIGTERM and SIGKILL, as in container runtimes."""


@dataclass(frozen=True)
class _Place:
    """A place for one worker, its present process, and the variables with which each process in it starts."""

    name: str
    process: Process
    environment: Mapping[str, str]


class WorkerPool:
    """The workers of one stack. Each has a name of its own, and so its own log file and its own heartbeat.

    Attributes:
        stopped_on_purpose: the processes that the benchmark itself ended.
        unfit: the names of the workers that ended because they were not fit. `supervise` fills both lists.
        crashes: the names of the workers that ended by themselves in another way.
    """

    def __init__(self, stack: LocalServices, environment: Mapping[str, str] | None = None) -> None:
        """`environment` holds variables of the first workers alone. `renew` replaces them."""
        self._stack = stack
        self._environment = environment or {}
        self._app: str | None = None
        self._started = 0
        self._places: list[_Place] = []
        self._changing = threading.Lock()
        self.stopped_on_purpose: set[Process] = set()
        self.unfit: list[str] = []
        self.crashes: list[str] = []

    @property
    def processes(self) -> list[Process]:
        return [place.process for place in self._places]

    def start(
        self,
        count: int,
        client: Client,
        app: str | None = None,
        **environment: str,
    ) -> None:
        """Start `count` workers and wait until all workers are ready.

        Args:
            client: tells which workers are ready.
            app: the module of another Celery application.
            environment: variables of all workers from now on.

        Raises:
            LocalError: a worker ended during the wait.
            TimeoutError: a worker is not ready after two minutes.
        """
        self._app = app
        self._stack.environment |= environment
        self._places += [self._start_one(self._environment) for _ in range(count)]

        def ready() -> bool:
            self._stack.check()
            return len(client.health().workers) >= len(self._places)

        if not wait_until(ready, READY_TIMEOUT, interval=0.05):
            raise TimeoutError(f"the workers are not ready; see {self._stack.directory / 'logs'}")

    def pick(self, fraction: float) -> tuple[str, Process]:
        """Return the name and the process of one worker, chosen by a number from 0 up to but not including 1."""
        place = self._places[int(fraction * len(self._places))]
        return place.name, place.process

    def renew(self, index: int, environment: Mapping[str, str]) -> None:
        """Stop the worker in this place as a container runtime does. `supervise` starts the next with `environment`."""
        with self._changing:
            place = self._places[index]
            self._places[index] = replace(place, environment=environment)
            self.stopped_on_purpose.add(place.process)
        stop_gracefully(place.process)

    def supervise(self, finished: threading.Event) -> None:
        """Replace each worker that ends, as a supervisor does, until `finished` is set."""
        while not finished.wait(0.1):
            for index, place in enumerate(self._places):
                if place.process.poll() is not None:
                    self._stack.stop(place.process)
                    with self._changing:
                        self.note_end(place.name, place.process)
                        self._places[index] = self._start_one(self._places[index].environment)

    def note_end(self, name: str, process: Process) -> None:
        """Note a worker that has ended, unless the benchmark itself ended it."""
        if process not in self.stopped_on_purpose:
            (self.unfit if process.returncode == UNFIT_EXIT_CODE else self.crashes).append(name)

    def _start_one(self, environment: Mapping[str, str]) -> _Place:
        self._started += 1
        name = f"worker{self._started}"
        return _Place(name, self._stack.start_worker(name, app=self._app, environment=environment), environment)


def stop_gracefully(process: Process) -> None:
    """Send SIGTERM to a worker, and SIGKILL if it still runs after the grace period."""
    process.terminate()
    try:
        process.wait(STOP_GRACE)
    except TimeoutExpired:
        process.kill()
