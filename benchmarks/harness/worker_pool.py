"""The worker processes of a benchmark."""

import threading

from benchmarks.harness.waiting import wait_until
from diffedit import Client
from diffedit_worker.local.process_group import Process
from diffedit_worker.local.stack import Stack

READY_TIMEOUT = 120.0


class WorkerPool:
    """The workers of one stack. Each has a name of its own, and so its own log file and its own heartbeat.

    Attributes:
        stopped_on_purpose: the processes that the benchmark itself ended.
        crashes: the names of the workers that ended by themselves. `supervise` fills it.
    """

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._app = "diffedit_worker.app"
        self._started = 0
        self._workers: list[tuple[str, Process]] = []
        self.stopped_on_purpose: set[Process] = set()
        self.crashes: list[str] = []

    @property
    def processes(self) -> list[Process]:
        return [process for _, process in self._workers]

    def start(self, count: int, client: Client, app: str = "diffedit_worker.app", **environment: str) -> None:
        """Start `count` workers that run the Celery application `app`, and wait until all workers are ready.

        Raises:
            LocalError: a worker ended during the wait.
            TimeoutError: a worker is not ready after two minutes.
        """
        self._app = app
        self._stack.environment |= environment
        self._workers += [self._start_one() for _ in range(count)]

        def ready() -> bool:
            self._stack.check()
            return len(client.health().workers) >= len(self._workers)

        if not wait_until(ready, READY_TIMEOUT, interval=0.05):
            raise TimeoutError(f"the workers are not ready; see {self._stack.directory / 'logs'}")

    def pick(self, fraction: float) -> tuple[str, Process]:
        """Return the name and the process of one worker, chosen by a number from 0 up to but not including 1."""
        return self._workers[int(fraction * len(self._workers))]

    def supervise(self, finished: threading.Event) -> None:
        """Replace each worker that ends, as a supervisor does, until `finished` is set."""
        while not finished.wait(0.1):
            for index, (name, process) in enumerate(self._workers):
                if process.poll() is None:
                    continue
                if process not in self.stopped_on_purpose:
                    self.crashes.append(name)
                self._stack.stop(process)
                self._workers[index] = self._start_one()

    def _start_one(self) -> tuple[str, Process]:
        self._started += 1
        name = f"worker{self._started}"
        return name, self._stack.start_worker(name, app=self._app)
