"""Exit codes, the form of errors, and the help."""

import json
import signal
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from pydantic import BaseModel, field_serializer
from pydantic_core import PydanticSerializationError
from typer.main import get_command

from diffedit import State
from diffedit.cli import app
from diffedit.cli.exit_codes import EXIT_CODES, exit_code_of
from diffedit.contract.request import EditParams
from diffedit.errors import (
    ArtifactError,
    BadPicture,
    BadRecord,
    BrokerFull,
    BrokerUnavailable,
    DiffEditError,
    EmptyMask,
    InvalidRequest,
    JobCancelled,
    JobExpired,
    JobNotFound,
    JobTimeout,
    QueueFull,
    ServiceError,
    StoreRefused,
    StoreUnavailable,
    UnknownPreset,
    UnknownProfile,
)
from tests.support.cli import Cli

ID = "ab" * 16


def tree(error: type[DiffEditError] = DiffEditError) -> Iterator[type[DiffEditError]]:
    yield error
    for each in error.__subclasses__():
        yield from tree(each)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ArtifactError("x"), 1),
        (BadRecord(ID, "x"), 1),
        (EmptyMask("x"), 1),
        (InvalidRequest("x"), 2),
        (BadPicture("x"), 2),
        (UnknownPreset("tiny", "x", ()), 2),
        (UnknownProfile("x"), 2),
        (ServiceError("x"), 3),
        (BrokerUnavailable("x"), 3),
        (BrokerFull(), 3),
        (StoreUnavailable("x"), 3),
        (StoreRefused("x"), 3),
        (JobNotFound(ID), 4),
        (JobTimeout(ID, "x"), 5),
        (JobCancelled(ID), 6),
        (JobExpired(ID), 6),
        (QueueFull("batch", "tiny", 2), 8),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_ends_the_command_with_its_exit_code(cli: Cli, monkeypatch, error: DiffEditError, code: int) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr("diffedit.cli.main.make_client", fail)
    result = cli("jobs", code=code)
    assert result.stdout == ""
    assert result.stderr == f"{error.code}: {error}\n"
    about_job = {"job_id": ID} if hasattr(error, "job_id") else {}
    assert (
        cli.error("jobs", code=code)
        == {"error": error.code, "message": str(error), "retryable": error.retryable} | about_job
    )


def test_each_error_class_has_an_exit_code_of_the_table() -> None:
    codes = {row.code for row in EXIT_CODES}
    assert len(codes) == len(EXIT_CODES)
    assert {exit_code_of(kind.__new__(kind)) for kind in tree()} <= codes


def test_an_interrupt_ends_the_command(cli: Cli, monkeypatch) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("diffedit.cli.main.make_client", interrupt)
    assert cli("jobs", code=130).stderr == "interrupted\n"


class Interrupted(BaseModel):
    """A record whose serialization is interrupted. pydantic turns the interrupt into an error of its own."""

    value: int

    @field_serializer("value")
    def interrupt(self, value: int) -> int:
        signal.raise_signal(signal.SIGINT)
        return value


def test_an_interrupt_that_a_library_replaces_ends_the_command(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PydanticSerializationError):
        Interrupted(value=1).model_dump_json()
    monkeypatch.setattr("diffedit.cli.main.make_client", Interrupted(value=1).model_dump_json)
    assert cli("jobs", code=130).stderr == "interrupted\n"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_command_that_ignores_interrupts_goes_on(cli: Cli) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        cli("jobs")
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_full_queue(use: Callable[[Cli], Cli], image: Path) -> None:
    cli = use(Cli(max_queued=1))
    cli.submit()
    assert cli.error("edit", image, "--target", "a pear", code=8)["error"] == "queue_full"


@pytest.mark.parametrize(("end", "code"), [("cancelled", 6), ("expired", 6), ("failed", 1)])
def test_a_job_that_did_not_succeed(cli: Cli, end: str, code: int) -> None:
    job = cli.submit()
    cli.job_store.end_job(job.id, State(end))
    assert job.id in cli("watch", job.id, code=code).stderr
    lines = cli("watch", job.id, "--json", code=code).stderr.splitlines()
    assert json.loads(lines[-1])["error"] == f"job_{end}"


def test_the_environment_is_checked(monkeypatch) -> None:
    monkeypatch.setenv("DIFFEDIT_REDIS_URL", "nonsense")
    assert "DIFFEDIT_REDIS_URL" in Cli()("jobs", code=2).stderr


@pytest.mark.parametrize("words", [["edit"], ["nonsense"], ["status"], ["edit", "image.png", "--nonsense"]])
def test_a_wrong_command_line_is_a_usage_error(cli: Cli, words: list[str]) -> None:
    assert "Usage" in cli(*words, code=2).stderr


@pytest.mark.parametrize("width", [80, 120])
def test_the_help_lists_the_exit_codes(cli: Cli, width: int) -> None:
    lines = [line.strip() for line in cli("--help", width=width).stdout.splitlines()]
    for row in EXIT_CODES:
        assert f"{row.code}  {row.meaning}" in lines


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("command", get_command(app).commands)
def test_the_help_of_a_command_fits_the_terminal(cli: Cli, command: str, width: int) -> None:
    shown = cli(command, "--help", width=width).stdout
    assert f"Usage: diffedit {command}" in shown
    assert max(map(len, shown.splitlines())) <= width
    assert "…" not in shown, "a name is cut off"


def test_the_help_of_an_edit_lists_each_parameter(cli: Cli) -> None:
    names = [line.strip().partition("=")[0] for line in cli("edit", "--help").stdout.splitlines()]
    assert set(EditParams.model_fields) <= set(names)


def test_without_arguments_the_help_is_printed(cli: Cli) -> None:
    assert "Exit codes" in cli(code=2).output


def test_the_version(cli: Cli) -> None:
    assert cli("--version").stdout == f"diffedit {version('diffedit-service')}\n"
