"""Other processes in tests: find those of a directory, and run one that owns children."""

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from diffedit_worker.local.state import free_port

PORTS = range(10_000, 18_000)
"""Ports that no process gets without asking for them, and that the product does not choose."""


def children_of(directory: Path) -> list[psutil.Process]:
    """Return every process that works in or below this directory or names it in its command line."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            is_named = any(str(directory) in word for word in process.cmdline())
            is_ours = is_named or Path(process.cwd()).is_relative_to(directory)
            if is_ours and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def unused_port() -> int:
    """Return a port for a program that binds it later."""
    return free_port(random.choice(PORTS), PORTS)


@contextmanager
def owner_of(directory: Path, script: str) -> Iterator[subprocess.Popen[str]]:
    """Run `script` in another process that owns children in this directory; yield once it has printed "begins"."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", script, str(directory)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as it:
        assert it.stdout is not None
        assert it.stdout.readline() == "begins\n"
        try:
            yield it
        finally:
            it.kill()


def is_ready(owner: subprocess.Popen[str]) -> bool:
    """Wait for the owner's next line; return whether it is "ready"."""
    assert owner.stdout is not None
    return owner.stdout.readline() == "ready\n"
