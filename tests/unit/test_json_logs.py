"""A log of JSON objects: one line each, whatever somebody puts into them."""

import json
import logging
import sys
import warnings
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import pytest
from celery import signals
from celery.apps import worker as celery_worker

from diffedit import InvalidRequest, Settings
from diffedit.contract.stages import Lane, Stage
from diffedit.logs import json_formatter, log_to_stderr
from diffedit_worker.app import create_app
from diffedit_worker.runtime import logs
from diffedit_worker.runtime.stage_log import StageLog, fields_of
from diffedit_worker.runtime.stage_report import Outcome, StageReport
from diffedit_worker.settings import WorkerSettings

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture
def logging_restored() -> Iterator[None]:
    """Undo what a program does to the log of its process."""
    root = logging.getLogger()
    handlers, level, say = root.handlers[:], root.level, celery_worker.safe_say
    with warnings.catch_warnings():
        yield
        logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)
    celery_worker.safe_say = say


def a_report(**changes: Any) -> StageReport:
    given = {"job_id": "ab" * 16, "stage": Stage.MASK, "lane": Lane.BATCH, "profile": "tiny", "owner": "ada"}
    given |= {"worker": "w@here", "outcome": Outcome.FAILED, "code": "empty_mask", "traceparent": None, **changes}
    return StageReport(**{field.name: given.get(field.name, 1.23456) for field in fields(StageReport)})


def formatted(message: str, *args: object, exc_info: Any = None, **extra: object) -> dict[str, Any]:
    record = logging.LogRecord("name", logging.WARNING, "file", 1, message, args, exc_info)
    vars(record).update(extra)
    line = json_formatter().format(record)
    assert len(line.splitlines()) == 1 and line.isascii() and line.isprintable()
    return json.loads(line)


def test_a_line_has_time_level_logger_and_message() -> None:
    line = formatted("job %s: %d", "a\nb\x1b[2J\u2028\u202e", 3)
    assert line.pop("time").endswith("+00:00")
    assert line == {"level": "WARNING", "logger": "name", "message": "job a\nb\x1b[2J\u2028\u202e: 3"}


def test_a_traceback_is_one_field() -> None:
    try:
        raise ValueError("line one\nline two")
    except ValueError:
        line = formatted("failed", exc_info=sys.exc_info())
    assert line["message"] == "failed"
    assert line["traceback"].endswith("ValueError: line one\nline two")


def test_what_libraries_add_is_left_out_and_what_is_no_json_is_text() -> None:
    line = formatted("x", color_message="\x1b[1mx", data={"args": "secret"}, more={1, 2}, stage=Stage.MASK)
    assert line.keys() == {"time", "level", "logger", "message", "more", "stage"}
    assert line["stage"] == "mask"


def test_the_line_of_a_stage_has_its_facts_as_fields(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "diffedit_worker.runtime.stage_log")
    report = a_report(traceparent=f"00-{TRACE}-00f067aa0ba902b7-01", waited=None)
    StageLog(lambda profile: pytest.fail("a failed stage has no passes to tell"))(report)
    (record,) = caplog.records
    line = json.loads(json_formatter().format(record))
    assert line["message"] == f"job {'ab' * 16}: mask failed in 1.23 s"
    assert (line["seconds"], line["waited"], line["trace_id"]) == (1.235, None, TRACE)
    assert fields_of(report).items() <= line.items()


@pytest.mark.parametrize("header", [None, "", "x", f"00-{TRACE}", f"00-{TRACE.upper()}-00f067aa0ba902b7-01"])
def test_a_trace_that_cannot_be_read_is_null(header: str | None) -> None:
    assert fields_of(a_report(traceparent=header))["trace_id"] is None


def test_a_program_logs_json_and_warnings_as_well(logging_restored: None, capsys: pytest.CaptureFixture[str]) -> None:
    log_to_stderr("json")
    logging.getLogger("any").info("one")
    warnings.warn("two\nlines", UserWarning, stacklevel=1)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert lines[0]["message"] == "one"
    assert lines[1]["logger"] == "py.warnings" and "UserWarning: two\nlines" in lines[1]["message"]


def test_celery_and_the_libraries_of_models_log_json(logging_restored: None, capfd: pytest.CaptureFixture[str]) -> None:
    create_app(WorkerSettings(profile="tiny", device="cpu", log_format="json"))
    logger, library = logging.Logger("celery"), logging.getLogger("transformers")
    logger.addHandler(logging.StreamHandler(sys.stderr))
    try:
        signals.after_setup_logger.send(sender=None, logger=logger)
        logger.warning("a\nb")
        celery_worker.safe_say("worker: Warm shutdown (MainProcess)", sys.__stdout__)
    finally:
        create_app(WorkerSettings(profile="tiny", device="cpu"))  # text again, for the other tests of this process
    captured = capfd.readouterr()
    assert json.loads(captured.err)["message"] == "a\nb"
    assert json.loads(captured.out)["message"] == "worker: Warm shutdown (MainProcess)"
    handlers, propagate = library.handlers[:], library.propagate
    logs.pass_on_library_logs()
    assert library.propagate and library.handlers == []
    library.handlers[:], library.propagate = handlers, propagate


def test_without_the_package_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pythonjsonlogger.json", None)
    with pytest.raises(InvalidRequest, match=r"pip install 'diffedit-service\[metrics\]'"):
        create_app(WorkerSettings(profile="tiny", device="cpu", log_format="json"))


def test_another_format_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="DIFFEDIT_LOG_FORMAT"):
        Settings.from_env({"DIFFEDIT_LOG_FORMAT": "xml"})
