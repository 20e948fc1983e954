"""Log records that stay what they are, whatever text they carry."""

import logging

from diffedit.text import printable


class PlainFormatter(logging.Formatter):
    """Another formatter's lines, without control characters and with every line after a record's first indented.

    Ids, names and errors in a log line may come from elsewhere. They shall not steer the terminal of whoever reads the
    log, nor look like a record of their own.
    """

    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__()
        self._formatter = formatter

    def format(self, record: logging.LogRecord) -> str:
        return "\n    ".join(printable(line) for line in self._formatter.format(record).splitlines())
