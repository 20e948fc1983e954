"""The commands that start services and workers: their options reach the code that does it."""

import socket
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from diffedit.contract.stages import Lane, ModelGroup
from diffedit.status_server import ALL_ADDRESSES
from tests.support.cli import Cli

LOCAL, WORKER_COMMAND = "diffedit_worker.local.commands", "diffedit_worker.worker_command"
DEFAULTS = {
    "profile": None,
    "groups": (ModelGroup.LANGUAGE, ModelGroup.DIFFUSION),
    "lanes": (Lane.INTERACTIVE, Lane.BATCH),
    "preload": True,
    "batch_jobs": None,
    "name": None,
    "log_level": "info",
    "extra": (),
}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[tuple[Any, ...], dict[str, Any]]]:
    """The arguments with which each function of the worker package was called last."""
    made: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {}

    def function(name: str, result: object = None) -> Callable[..., object]:
        def call(*args: Any, **kwargs: Any) -> object:
            made[name] = (args, kwargs)
            return result

        return call

    local = SimpleNamespace(up=function("up"), environment=function("env", {"A": "1", "B": "2"}), demo=function("demo"))
    monkeypatch.setitem(sys.modules, LOCAL, local)
    monkeypatch.setitem(sys.modules, WORKER_COMMAND, SimpleNamespace(run=function("worker", 0), leave=sys.exit))
    return made


def test_up(cli: Cli, calls) -> None:
    cli("up")
    assert calls["up"] == ((Path(".diffedit/up"),), {"workers": 1, "profile": None, "web_port": None})
    cli("up", "--dir", "data", "--workers", "0", "--profile", "sd21")
    assert calls["up"] == ((Path("data"),), {"workers": 0, "profile": "sd21", "web_port": None})
    cli("up", "--workers", "17", code=2)


def test_up_with_the_web_server(cli: Cli, calls) -> None:
    cli("up", "--web")
    assert calls["up"][1]["web_port"] == 8000
    cli("up", "--web", "--port", "0")
    assert calls["up"][1]["web_port"] == 0
    calls.clear()
    assert "add --web" in cli("up", "--port", "9000", code=2).stderr
    assert calls == {}


def test_up_without_the_extra_of_the_web_server_starts_nothing(cli: Cli, calls, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "fastapi", None)
    assert "pip install 'diffedit-service[web]'" in cli("up", "--web", code=2).stderr
    assert calls == {}
    cli("up")
    assert "up" in calls


def test_env_prints_one_variable_on_each_line(cli: Cli, calls) -> None:
    assert cli("env").stdout == "A=1\nB=2\n"
    assert calls["env"] == ((Path(".diffedit/up"),), {})
    cli("env", "--dir", "data")
    assert calls["env"] == ((Path("data"),), {})


def test_demo(cli: Cli, calls) -> None:
    cli("demo")
    assert calls["demo"] == ((Path("out"), Path(".diffedit/demo")), {})
    cli("demo", "--out", "pictures", "--dir", "data")
    assert calls["demo"] == ((Path("pictures"), Path("data")), {})


@pytest.mark.parametrize(
    ("words", "changed"),
    [
        ([], {}),
        (["--profile", "sd21"], {"profile": "sd21"}),
        (["--group", "language"], {"groups": (ModelGroup.LANGUAGE,)}),
        (["--group", "diffusion", "--group", "language"], {"groups": (ModelGroup.DIFFUSION, ModelGroup.LANGUAGE)}),
        (["--lane", "batch"], {"lanes": (Lane.BATCH,)}),
        (["--preload"], {}),
        (["--no-preload"], {"preload": False}),
        (["--batch-jobs", "3"], {"batch_jobs": 3}),
        (["--name", "gpu1"], {"name": "gpu1"}),
        (["--log-level", "DEBUG"], {"log_level": "debug"}),
        (["--", "--max-tasks-per-child", "3"], {"extra": ("--max-tasks-per-child", "3")}),
        (["--group", "language", "--", "-E"], {"groups": (ModelGroup.LANGUAGE,), "extra": ("-E",)}),
    ],
)
def test_worker_options_reach_the_worker(cli: Cli, calls, words: list[str], changed: dict[str, Any]) -> None:
    cli("worker", *words)
    assert calls["worker"] == ((), {**DEFAULTS, **changed})


@pytest.mark.parametrize(
    "words", [["--group", "video"], ["--lane", "fast"], ["--log-level", "loud"], ["--concurrency", "2"]]
)
def test_the_worker_refuses_unknown_values(cli: Cli, calls, words: list[str]) -> None:
    cli("worker", *words, code=2)
    assert calls == {}


def test_the_exporter_listens_where_it_is_told(cli: Cli, monkeypatch) -> None:
    given = []
    monkeypatch.setitem(sys.modules, "diffedit.exporter.command", SimpleNamespace(run=lambda **it: given.append(it)))
    cli("exporter")
    cli("exporter", "--host", "127.0.0.1", "--port", "0", "--owners", "5")
    assert given == [
        {"host": ALL_ADDRESSES, "port": 9808, "owners": 100},
        {"host": "127.0.0.1", "port": 0, "owners": 5},
    ]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.undo()
        words = ("exporter", "--host", "127.0.0.1", "--port", taken.getsockname()[1])
        assert "another program uses port" in cli(*words, code=1).stderr


def test_the_worker_ends_with_the_exit_code_of_celery(cli: Cli, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, WORKER_COMMAND, SimpleNamespace(run=lambda **_: 64, leave=sys.exit))
    cli("worker", code=64)


@pytest.mark.parametrize(
    ("command", "module", "extras"),
    [
        ("up", LOCAL, "worker,local"),
        ("env", LOCAL, "worker,local"),
        ("demo", LOCAL, "worker,local"),
        ("worker", WORKER_COMMAND, "worker"),
        ("worker", "torch", "worker"),
        ("webhooks", "standardwebhooks", "web"),
        ("serve", "uvicorn", "web"),
        ("exporter", "prometheus_client", "metrics"),
    ],
)
def test_a_missing_extra_is_named_with_the_command_that_installs_it(
    cli: Cli, calls, monkeypatch, command: str, module: str, extras: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    message = cli(command, code=2).stderr
    assert f"pip install 'diffedit-service[{extras}]'" in message
    assert module in message
    assert calls == {}
