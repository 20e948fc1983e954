"""Duties that a worker carries out again and again beside its stages, in a thread."""

import logging
import threading
import time
from collections.abc import Callable

from diffedit.errors import ServiceError

log = logging.getLogger(__name__)

Duty = Callable[[], object]


class DutyThread:
    """A daemon thread that carries out duties in turn. An error in one does not prevent the others.

    Attributes:
        name: the name of the thread.
        turned_at: when it began or ended a duty or a pause, by `time.monotonic`; None before it starts.
    """

    def __init__(self, name: str, interval: float, *duties: Duty) -> None:
        """`interval` is the time between two turns, in seconds."""
        self._interval = interval
        self._duties = duties
        self._stopping = threading.Event()
        self.name = name
        self.turned_at: float | None = None
        self._thread = threading.Thread(target=self._run_until_stopped, name=name, daemon=True)

    @property
    def has_died(self) -> bool:
        """Whether the thread has ended although nobody stopped it."""
        return self.turned_at is not None and not self._stopping.is_set() and not self._thread.is_alive()

    def start(self) -> None:
        self._thread.start()
        self._turn()

    def stop(self) -> None:
        """Let the thread end after the duty that it carries out now. Does not wait for it."""
        self._stopping.set()

    def run_once(self) -> None:
        """Carry out each duty once."""
        for duty in self._duties:
            if self._stopping.is_set():
                return
            self._turn()
            guarded(duty)
            self._turn()

    def _run_until_stopped(self) -> None:
        while not self._stopping.wait(self._interval):
            self.run_once()

    def _turn(self) -> None:
        self.turned_at = time.monotonic()


def guarded(duty: Duty) -> None:
    """Carry out a duty. An error is logged and not raised, because nothing must end these threads."""
    try:
        duty()
    except ServiceError as error:
        log.warning("maintenance is incomplete: %s", error)
    except Exception:
        log.exception("a maintenance duty failed unexpectedly")
