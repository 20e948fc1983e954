"""The log of our programs: lines of text for people, or one JSON object a line for machines."""

import logging
import sys
from typing import Literal, TypeAlias

from diffedit.errors import InvalidRequest

LogFormat: TypeAlias = Literal["text", "json"]

TEXT_FORMAT = "%(asctime)s %(levelname)s %(message)s"
LEFT_OUT = ("color_message", "data")
"""What uvicorn and Celery add to their records: the message in colours, and a task's arguments."""


def json_formatter() -> logging.Formatter:
    """Return a formatter that makes one line of JSON, also of a traceback.

    It has the fields `time` (ISO 8601, UTC), `level`, `logger` and `message`, and whatever the record was given as
    `extra`. A traceback is in `traceback`. All characters but those of ASCII are escaped, so that text from outside can
    neither forge a line nor control a terminal.

    Raises:
        InvalidRequest: python-json-logger is not installed.
    """
    try:
        from pythonjsonlogger.core import RESERVED_ATTRS
        from pythonjsonlogger.json import JsonFormatter
    except ImportError as error:
        command = "pip install 'diffedit-service[metrics]'"
        raise InvalidRequest(f"DIFFEDIT_LOG_FORMAT=json needs python-json-logger: {command} ({error})") from None
    return JsonFormatter(
        "{levelname}{name}{message}",
        style="{",
        timestamp="time",
        rename_fields={"levelname": "level", "name": "logger", "exc_info": "traceback"},
        reserved_attrs=[*RESERVED_ATTRS, *LEFT_OUT],
        json_ensure_ascii=True,
    )


def log_to_stderr(log_format: LogFormat, level: int = logging.INFO) -> None:
    """Log everything from this level on to stderr in this format, warnings of Python as well if it is JSON.

    Raises:
        InvalidRequest: python-json-logger is not installed.
    """
    handler = logging.StreamHandler(sys.stderr)
    is_json = log_format == "json"
    handler.setFormatter(json_formatter() if is_json else logging.Formatter(TEXT_FORMAT))
    logging.basicConfig(handlers=[handler], level=level, force=is_json)
    if is_json:
        logging.captureWarnings(True)
