"""The heartbeat file of a worker: what its probes would be told, for `diffedit alive`, which needs no port."""

import json
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from diffedit.errors import InvalidRequest

log = logging.getLogger(__name__)

INTERVAL = 5.0
"""Seconds between two writes. `diffedit.alive.MAX_AGE` is several of them."""


class HeartbeatFile:
    """Writes what `state` returns. A reader finds the whole file of one moment, or none."""

    def __init__(self, path: Path, state: Callable[[], dict[str, Any]]) -> None:
        """Write the file for the first time.

        Raises:
            InvalidRequest: it cannot be written.
        """
        self._path = path
        self._state = state
        self._failed = False
        try:
            self._write()
        except OSError as error:
            raise InvalidRequest(f"DIFFEDIT_HEARTBEAT_FILE: {path} cannot be written ({error.strerror})") from None

    def write(self) -> None:
        """Write it again. A disk that is full must not end a worker; probes notice that the file is old."""
        try:
            self._write()
        except OSError as error:
            if not self._failed:
                log.error("the heartbeat file %s cannot be written: %s", self._path, error.strerror)
            self._failed = True
        else:
            self._failed = False

    def _write(self) -> None:
        text = json.dumps({"pid": os.getpid(), "written_at": time.monotonic(), **self._state()})
        new = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        new.write_text(f"{text}\n")
        new.replace(self._path)
