"""Log lines that foreign text cannot forge."""

import json
import logging
import os
import sys
from datetime import UTC, datetime
from typing import IO

from celery.apps import worker as celery_worker

from diffedit.logs import json_formatter
from diffedit.text import printable

LIBRARIES = ("diffusers", "transformers")
"""Libraries whose loggers have handlers of their own, which write text."""


class PlainFormatter(logging.Formatter):
    """Formats as another formatter does, then replaces control characters and indents all lines after the first.

    Ids, names and error texts in a log line may come from outside. They must not control the terminal that shows the
    log, and they must not look like a log record of their own.
    """

    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__()
        self._formatter = formatter

    def format(self, record: logging.LogRecord) -> str:
        return "\n    ".join(printable(line) for line in self._formatter.format(record).splitlines())


def format_plainly(logger: logging.Logger) -> None:
    """Give each handler of the logger a PlainFormatter around its own formatter, once."""
    for handler in logger.handlers:
        if not isinstance(handler.formatter, PlainFormatter):
            handler.setFormatter(PlainFormatter(handler.formatter or logging.Formatter()))


def format_as_json(logger: logging.Logger) -> None:
    """Let each handler of the logger write JSON, and Celery say in JSON what it says beside its log.

    Raises:
        InvalidRequest: python-json-logger is not installed.
    """
    for handler in logger.handlers:
        handler.setFormatter(json_formatter())
    logging.captureWarnings(True)
    celery_worker.safe_say = say_as_json


def pass_on_library_logs() -> None:
    """Let the lines of the libraries that models need go to our log. To be called when they are imported."""
    for name in LIBRARIES:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True


def say_as_json(message: str, stream: IO[str] | None = None) -> None:
    """What Celery says in its signal handlers, where nothing can be logged. Written in one call, without a lock."""
    line = {"time": datetime.now(UTC).isoformat(), "level": "INFO", "logger": "celery", "message": message.strip()}
    os.write((stream or sys.__stderr__ or sys.stderr).fileno(), f"{json.dumps(line)}\n".encode())
