"""What the probes of a worker are told: whether it lives (`/livez`), and whether it is ready for jobs (`/readyz`).

No probe asks a service. An outage of Redis or S3 must not restart a fleet, because no restart would help. So a worker
lives as long as its threads go on. They wait for services, but every call has a limit. The longest duty asks an S3
server three times, which takes up to four minutes if it answers at the last moment; the look-up of a name may take one
without a name server. `STALLED_AFTER` is longer. Outside of its event loop Celery waits for the broker: it is not late.

The length of a stage or of the loading of a model does not matter: those have limits of their own (`heartbeat.py`).
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

from diffedit.status_server import Answer, Page
from diffedit_worker.runtime.duties import DutyThread
from diffedit_worker.runtime.heartbeat_file import INTERVAL, HeartbeatFile
from diffedit_worker.runtime.maintenance import Maintenance

STALLED_AFTER = 300.0
"""Seconds without a turn after which a thread counts as stalled."""
JSON = "application/json"

Obstacle = Callable[[], str | None]
"""Returns why the worker takes no jobs now, in words; None if this does not prevent it."""


class LoopClock:
    """Notes the turns of Celery's event loop.

    Attributes:
        turned_at: when it turned last; None while Celery is outside of it.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.turned_at: float | None = None

    def turned(self) -> None:
        self.turned_at = self._clock()

    def left(self) -> None:
        self.turned_at = None


class Probes:
    """The probes of one worker.

    Args:
        worker_ttl: seconds after which a worker that was not announced counts as dead.
        obstacles: what else may keep it from taking jobs.
        clock: `time.monotonic`.

    Attributes:
        loop: notes the turns of the event loop.
    """

    def __init__(self, worker_ttl: float, *obstacles: Obstacle, clock: Callable[[], float] = time.monotonic) -> None:
        self._worker_ttl = worker_ttl
        self._obstacles = obstacles
        self._clock = clock
        self._maintenance: Maintenance | None = None
        self.loop = LoopClock(clock)

    @property
    def pages(self) -> Mapping[str, Page]:
        """What the status server answers, by path."""
        return {"/livez": self._livez, "/readyz": self._readyz}

    def write_to(self, path: Path | None) -> None:
        """Write the state into this file again and again, if one is named. Raises InvalidRequest if that fails."""
        if path:
            file = HeartbeatFile(path, self.state)
            DutyThread("heartbeat-file", INTERVAL, file.write).start()

    def watch(self, maintenance: Maintenance) -> None:
        """From now on, the worker is ready when it has been announced. Called when all else is."""
        self._maintenance = maintenance

    def state(self) -> dict[str, Any]:
        """Return `live`, `ready`, `why` not, and for each thread the seconds since its last turn, `turned`."""
        ages, stalled = self._ages(), list(self._stalled())
        why = [*stalled, *self._hindrances()]
        return {"live": not stalled, "ready": not why, "why": why, "turned": ages}

    def _livez(self, _: str) -> Answer:
        stalled = list(self._stalled())
        return _answer(not stalled, {"live": not stalled, "why": stalled, "turned": self._ages()})

    def _readyz(self, _: str) -> Answer:
        state = self.state()
        return _answer(state["ready"], {"ready": state["ready"], "why": state["why"]})

    def _ages(self) -> dict[str, float | None]:
        """Return the seconds since the last turn of each thread; None for one that waits for the broker or to begin."""
        threads = self._maintenance.threads if self._maintenance else ()
        turned = {"event loop": self.loop.turned_at, **{thread.name: thread.turned_at for thread in threads}}
        return {name: None if at is None else round(self._clock() - at, 1) for name, at in turned.items()}

    def _stalled(self) -> Iterator[str]:
        for name, age in self._ages().items():
            if age is not None and age > STALLED_AFTER:
                yield f"the thread {name!r} has not turned for {age:.0f} s"
        for thread in self._maintenance.threads if self._maintenance else ():
            if thread.has_died:
                yield f"the thread {thread.name!r} has ended"

    def _hindrances(self) -> Iterator[str]:
        """Yield why the worker takes no jobs."""
        if self._maintenance is None:
            yield "it starts, or loads its models"
            return
        yield from (reason for obstacle in self._obstacles if (reason := obstacle()))
        if self.loop.turned_at is None:
            yield "it has no connection to Redis"
        announced_at = self._maintenance.heartbeat.sent_at
        if announced_at is None or self._clock() - announced_at > self._worker_ttl:
            yield "Redis has not taken its heartbeat lately"


def _answer(good: bool, body: Mapping[str, Any]) -> Answer:
    status = HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE
    return Answer(status, f"{json.dumps(body)}\n".encode(), JSON)
