"""The worker's sign of life, from one daemon thread, so that clients know who serves what."""

import logging
import threading

from api_client.board import WORKER_TTL, RedisBoard, WorkerInfo
from api_client.errors import ServiceError
from api_client.settings import Settings

log = logging.getLogger(__name__)


class Keeper:
    """Announces this worker until it stops."""

    def __init__(self, settings: Settings, *, name: str, profile: str, queues: tuple[str, ...]) -> None:
        self._board = RedisBoard(settings)
        self._worker = WorkerInfo(name=name, profile=profile, device=settings.device or "auto", queues=queues)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Take the worker off the list at once, rather than when its last announcement runs out."""
        self._stopping.set()
        try:
            self._board.leave(self._worker.name)
        except ServiceError as error:
            log.warning("could not take leave: %s", error)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._board.announce(self._worker)
            except ServiceError as error:
                log.warning("could not announce this worker: %s", error)
            self._stopping.wait(WORKER_TTL / 4)
