"""`diffedit alive`: what it says of a heartbeat file, and what it costs."""

import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from diffedit.alive import MAX_AGE, check, quick_arguments, why_not
from tests.support.cli import Cli


def written(path: Path, age: float = 0, **changes: object) -> str:
    """Write a heartbeat file of this age, in seconds. Returns its path."""
    state = {"written_at": time.monotonic() - age, "live": True, "ready": True, "why": []}
    path.write_text(json.dumps({**state, **changes}))
    return str(path)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "worker"


def test_a_worker_lives_if_it_says_so(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(written(file, ready=False, why=["it is paused"])) == 0
    assert capsys.readouterr().out == "alive\n"
    assert check(written(file), ready=True) == 0
    assert capsys.readouterr().out == "ready\n"


@pytest.mark.parametrize(
    ("age", "changes", "ready", "reason"),
    [
        (
            0,
            {"live": False, "ready": False, "why": ["a thread has ended", "it stops"]},
            False,
            "a thread has ended; it",
        ),
        (0, {"ready": False, "why": ["it is paused"]}, True, "it is paused"),
        (MAX_AGE + 1, {}, False, "has not written"),
        (-1000, {}, False, "is of an earlier start"),
        (0, {"live": "yes"}, False, "the worker says so"),
        (0, {"written_at": None}, False, "is not the heartbeat file"),
        (0, {"written_at": math.nan}, False, "is of an earlier start"),
    ],
)
def test_a_worker_does_not_live_for_a_reason(
    file: Path, capsys: pytest.CaptureFixture[str], age: float, changes: dict[str, object], ready: bool, reason: str
) -> None:
    assert check(written(file, age, **changes), ready=ready) == 1
    shown = capsys.readouterr()
    assert shown.out == "" and len(shown.err.splitlines()) == 1
    assert shown.err.startswith("not ready: " if ready else "not alive: ") and reason in shown.err


@pytest.mark.parametrize("content", ["", "[]", "{}", "null", "\x00"])
def test_another_file_is_no_heartbeat(file: Path, content: str) -> None:
    file.write_text(content)
    assert "is not the heartbeat file" in str(why_not(str(file), MAX_AGE, ready=False))


def test_a_missing_file_and_a_missing_name_are_reasons(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "cannot be read" in str(why_not(str(file), MAX_AGE, ready=False))
    monkeypatch.delenv("DIFFEDIT_HEARTBEAT_FILE", raising=False)
    assert check() == 1
    monkeypatch.setenv("DIFFEDIT_HEARTBEAT_FILE", written(file))
    assert check() == 0


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], (None, MAX_AGE, False)),
        (["--ready", "--file", "/run/a", "--max-age=5"], ("/run/a", 5, True)),
        (["--file=/run/a", "--max-age", "7.5"], ("/run/a", 7.5, False)),
        *(
            (words, None)
            for words in (
                ["--help"],
                ["--file"],
                ["--max-age", "x"],
                ["--max-age", "nan"],
                ["--max-age", "0"],
                ["--ready=1"],
                ["more"],
            )
        ),
    ],
)
def test_the_short_reader_leaves_to_the_command_what_it_does_not_know(words: list[str], expected: object) -> None:
    assert quick_arguments(words) == expected


@pytest.mark.parametrize("words", [[], ["--ready"], ["--max-age", "0.001"], ["--ready", "--max-age=100"]])
def test_both_ways_into_the_command_say_the_same(file: Path, words: list[str]) -> None:
    # An age that the time between the two processes does not change.
    path = written(file, 1e25 if "0.001" in words else 1, ready=False, why=["it is paused"])
    arguments = ["--file", path, *words]
    quick = subprocess.run(
        [sys.executable, "-m", "diffedit", "alive", *arguments], capture_output=True, text=True, check=False
    )
    whole = Cli()("alive", *arguments, code=quick.returncode)
    assert (quick.stdout, quick.stderr) == (whole.stdout, whole.stderr)


def test_the_command_imports_nothing_of_third_parties_and_next_to_nothing_of_ours(file: Path) -> None:
    """Its time is that of its imports."""
    code = """
import sys
before = set(sys.modules)
sys.argv = ["diffedit", "alive"]
from diffedit.__main__ import main
try:
    main()
finally:
    print(*sorted(set(sys.modules) - before), file=sys.stderr)
"""
    environment = {**os.environ, "DIFFEDIT_HEARTBEAT_FILE": written(file)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "alive\n"
    names = [name for name in done.stderr.split() if name.partition(".")[0] not in sys.stdlib_module_names]
    assert names == ["diffedit", "diffedit.__main__", "diffedit.alive"]


@pytest.mark.parametrize("why", [5, None, ["\x1b[31m red"]])
def test_what_another_program_wrote_is_no_traceback_and_steers_no_terminal(
    file: Path, capsys: pytest.CaptureFixture[str], why: object
) -> None:
    assert check(written(file, live=False, why=why)) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("not alive: ") and "\x1b" not in shown


def test_a_pipe_and_a_device_are_no_heartbeat_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (str(tmp_path / "pipe"), "/dev/zero"):
        assert why_not(path, MAX_AGE, ready=False) == f"{path} is not the heartbeat file of a worker"
