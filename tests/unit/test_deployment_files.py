"""The commands of `Procfile` and `docker/` parse, and together their workers read every queue."""

import json
import re
import shlex
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from celery import Celery
from celery.bin.celery import celery
from click import Context, Group
from typer.main import get_command

from diffedit.cli import app
from diffedit.contract.stages import Lane, ModelGroup, queue_name, queue_names

ROOT = Path(__file__).parents[2]
PROGRAMS: dict[str, Group] = {"celery": celery, "diffedit": get_command(app)}


def with_defaults(text: str) -> str:
    """Return the text with each `${NAME:-default}` replaced by its default, as a shell without these variables does."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


def procfile() -> dict[str, list[str]]:
    lines = [line.partition(": ") for line in (ROOT / "Procfile").read_text().splitlines() if line[:1] != "#"]
    return {name: shlex.split(with_defaults(command)) for name, _, command in lines}


def compose() -> dict[str, list[str]]:
    services = yaml.safe_load(with_defaults((ROOT / "docker/compose.yaml").read_text()))["services"]
    return {name: service["command"] for name, service in services.items() if "build" in service}


def dockerfiles() -> dict[str, list[str]]:
    """Return the command of each image that has one."""
    texts = {path.name: path.read_text() for path in (ROOT / "docker").glob("*Dockerfile")}
    commands = {name: re.findall(r"^CMD (\[.*\])$", text, flags=re.MULTILINE) for name, text in texts.items()}
    return {name: json.loads(found[0]) for name, found in commands.items() if found}


def parsed(words: list[str]) -> Context:
    """Parse a command of `PROGRAMS` as its program would, without running it. Raises click.UsageError."""
    while words[0] == "env" or "=" in words[0]:
        words = words[1:]
    program = PROGRAMS[Path(words[0]).name]
    above = program.make_context(words[0], words[1:])
    if program is celery:
        assert find_spec(above.params["app"])
        above.obj = SimpleNamespace(app=Celery(set_as_current=False))  # the worker's options read its defaults
    name, command, rest = program.resolve_command(above, [*above._protected_args, *above.args])
    return command.make_context(name, rest, parent=above)


def queues_of(words: list[str]) -> list[str]:
    """Return the queues that the worker of this command reads."""
    options = parsed(words).params
    if "queues" in options:  # a command of Celery
        return list(options["queues"] or queue_names("tiny"))
    profile, groups, lanes = options["profile"] or "tiny", options["group"] or ModelGroup, options["lane"] or Lane
    return [queue_name(profile, group, lane) for group in groups for lane in lanes]


@pytest.mark.parametrize("words", [*procfile().values(), *compose().values(), *dockerfiles().values()], ids=shlex.join)
def test_each_command_parses(words: list[str]) -> None:
    parsed(words)


@pytest.mark.parametrize("commands", [procfile(), compose()], ids=["Procfile", "compose.yaml"])
def test_the_workers_read_every_queue_once(commands: dict[str, list[str]]) -> None:
    workers = [words for words in commands.values() if "worker" in words]
    assert sorted(queue for words in workers for queue in queues_of(words)) == sorted(queue_names("tiny"))


@pytest.mark.parametrize("commands", [procfile(), compose()], ids=["Procfile", "compose.yaml"])
def test_the_http_api_and_the_sender_of_webhooks_run_beside_the_workers(commands: dict[str, list[str]]) -> None:
    assert {name: parsed(commands[name]).info_name for name in ("web", "webhooks")} == {
        "web": "serve",
        "webhooks": "webhooks",
    }
