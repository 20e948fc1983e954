"""Duties that a worker carries out again and again beside its stages, in a thread."""

import logging
import threading
from collections.abc import Callable

from diffedit.errors import ServiceError

log = logging.getLogger(__name__)

Duty = Callable[[], object]


class DutyThread:
    """A daemon thread that carries out duties in turn. An error in one does not prevent the others."""

    def __init__(self, name: str, interval: float, *duties: Duty) -> None:
        """`interval` is the time between two turns, in seconds."""
        self._interval = interval
        self._duties = duties
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run_until_stopped, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Let the thread end after the duty that it carries out now. Does not wait for it."""
        self._stopping.set()

    def run_once(self) -> None:
        """Carry out each duty once."""
        for duty in self._duties:
            if self._stopping.is_set():
                return
            guarded(duty)

    def _run_until_stopped(self) -> None:
        while not self._stopping.wait(self._interval):
            self.run_once()


def guarded(duty: Duty) -> None:
    """Carry out a duty. An error is logged and not raised, because nothing must end these threads."""
    try:
        duty()
    except ServiceError as error:
        log.warning("maintenance is incomplete: %s", error)
    except Exception:
        log.exception("a maintenance duty failed unexpectedly")
