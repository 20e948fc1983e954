"""Log lines that foreign text cannot forge."""

import logging

from diffedit.text import printable


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
