"""Text from outside cannot forge a log record, nor control the terminal that shows the log."""

import logging
import re
import sys

import pytest

from diffedit_worker.runtime.logs import PlainFormatter, format_plainly

PLAIN = PlainFormatter(logging.Formatter("[%(levelname)s] %(message)s"))


def formatted(message: str, *args: object, exc_info=None) -> str:
    return PLAIN.format(logging.LogRecord("name", logging.INFO, "file", 1, message, args, exc_info))


def test_a_plain_line_stays_as_it_is() -> None:
    assert formatted("job %s: mask made in %.2f s", "ab", 0.5) == "[INFO] job ab: mask made in 0.50 s"
    assert formatted("ein Bild einer Schüssel Äpfel 🍎") == "[INFO] ein Bild einer Schüssel Äpfel 🍎"


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r", "\x0b", "\x0c", "\x85", "\u2028", "\u2029"])
def test_all_lines_after_the_first_are_indented(line_end: str) -> None:
    assert formatted("first%s[INFO] forged", line_end) == "[INFO] first\n    [INFO] forged"


@pytest.mark.parametrize("text", ["\x1b[2J", "\x1b]0;title\x07", "\x9b1m", "\u202e", "\x00", "\x7f", "\x08"])
def test_control_characters_are_replaced(text: str) -> None:
    assert not re.search("[\x00-\x1f\x7f-\x9f\u202a-\u202e]", formatted("before%safter", text))


def test_a_traceback_is_kept_and_indented() -> None:
    try:
        raise ValueError("line one\nline two")
    except ValueError:
        lines = formatted("failed", exc_info=sys.exc_info()).splitlines()
    assert lines[0] == "[INFO] failed"
    assert lines[-2:] == ["    ValueError: line one", "    line two"]
    assert all(line.startswith("    ") for line in lines[1:])


def test_each_handler_of_a_logger_keeps_its_own_format_and_is_changed_once() -> None:
    logger, own, bare = logging.Logger("test"), logging.StreamHandler(), logging.StreamHandler()
    own.setFormatter(logging.Formatter("own: %(message)s"))
    logger.handlers = [own, bare]
    format_plainly(logger)
    formatters = [own.formatter, bare.formatter]
    format_plainly(logger)
    assert [own.formatter, bare.formatter] == formatters
    record = logging.LogRecord("name", logging.INFO, "file", 1, "a\nb", (), None)
    assert [handler.format(record) for handler in logger.handlers] == ["own: a\n    b", "a\n    b"]
