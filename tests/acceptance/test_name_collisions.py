"""The commands work in a folder whose modules have the names of ours, of an older version of ours, and of our
dependencies. Each of these modules raises when it is imported."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from diffedit import Client, Settings, State
from diffedit_worker.local.stack import LocalServices
from tests.support.factories import PEAR, PICTURE, QUICK
from tests.support.services import client_of
from tests.support.waiting import until

PROGRAMS = Path(sys.executable).parent
PROJECT = ("worker.py", "api_client/__init__.py", "tasks.py", "settings.py", "app.py")
"""What a user's own project may contain."""
DEPENDENCIES = (
    "celery.py",
    "redis.py",
    "boto3.py",
    "kombu/__init__.py",
    "torch.py",
    "PIL/__init__.py",
    "diffusers/__init__.py",
    "numpy.py",
    "pydantic.py",
    "typer.py",
)
"""Names of packages that we import."""


def folder_with(directory: Path, *files: str) -> Path:
    """Return a new folder with these modules, each of which leaves a trace and raises when it is imported."""
    folder = directory / "project"
    for name in files:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        trace = str(folder / "imported.txt")
        file.write_text(f"print({name!r}, file=open({trace!r}, 'a'))\nraise RuntimeError('{name} is imported')\n")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return folder_with(tmp_path, *PROJECT, *DEPENDENCIES)


@contextmanager
def running(program: str, *words: str, cwd: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program in this folder and interrupt it at the end."""
    with open(cwd / "output.txt", "wb") as output:
        process = subprocess.Popen(
            [PROGRAMS / program, *words],
            cwd=cwd,
            env={**os.environ, **environment},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield process
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=20)
    finally:
        process.kill()
        process.wait()


def assert_edit_succeeds(client: Client, cwd: Path) -> None:
    until(lambda: client.health().workers, "a ready worker")
    job = client.edit(PICTURE, **PEAR, **QUICK)
    assert job.wait(timeout=60).state is State.SUCCEEDED, (cwd / "output.txt").read_text()
    assert not (cwd / "imported.txt").exists()


def test_demo(folder: Path) -> None:
    done = subprocess.run([PROGRAMS / "diffedit", "demo"], cwd=folder, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "succeeded" in done.stdout
    assert not (folder / "imported.txt").exists()


def test_up(folder: Path) -> None:
    with running("diffedit", "up", cwd=folder, environment={}):
        until(lambda: "ready" in (folder / "output.txt").read_text(), "a ready worker")
        lines = subprocess.run(
            [PROGRAMS / "diffedit", "env"], cwd=folder, capture_output=True, text=True, check=True
        ).stdout.splitlines()
        client = Client(Settings.from_env(dict(line.split("=", 1) for line in lines)))
        assert_edit_succeeds(client, folder)


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServices]:
    with LocalServices(tmp_path_factory.mktemp("services")) as services:
        yield services


def until_no_worker(client: Client) -> None:
    until(lambda: not client.health().workers, "the end of the worker")


def test_worker(services: LocalServices, folder: Path) -> None:
    client = client_of(services)
    with running("diffedit", "worker", cwd=folder, environment=services.environment) as worker:
        assert_edit_succeeds(client, folder)
    assert worker.returncode == 0
    until_no_worker(client)


def test_plain_celery_command(services: LocalServices, tmp_path: Path) -> None:
    """`celery -A` puts the current folder first on the import path, so only names that we do not import are free."""
    folder = folder_with(tmp_path, *PROJECT)
    client = client_of(services)
    words = ["-A", "diffedit_worker.app", "worker", "--without-gossip", "--without-mingle"]
    with running("celery", *words, cwd=folder, environment=services.environment) as worker:
        assert_edit_succeeds(client, folder)
    assert worker.returncode == 0
    until_no_worker(client)
