"""`diffedit serve` as a process, and an application of the tests' own in a thread, both with real connections."""

import contextlib
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import uvicorn

from tests.support.waiting import until

PROGRAM = "import sys; from diffedit.cli import app; sys.exit(app())"
ADDRESS = re.compile(r"(?:[Rr]unning on|server at) (http://[\w.:\[\]-]+)")
"""What the log of a server says once it listens."""


class Served:
    """A running server.

    Attributes:
        url: where it listens.
        process: the process, if it is one.
    """

    def __init__(self, url: str, process: "subprocess.Popen[bytes] | None" = None, log: Path | None = None) -> None:
        self.url = url
        self.process = process
        self._log = log

    @property
    def log(self) -> str:
        """Everything that the process has printed."""
        assert self._log
        return self._log.read_text()


@contextlib.contextmanager
def served_process(environment: Mapping[str, str], folder: Path, *options: str) -> Iterator[Served]:
    """Run `diffedit serve` on a free port while the context lasts."""
    command = [sys.executable, "-P", "-c", PROGRAM, "serve", "--port", "0", *options]
    with served_program(command, environment, folder) as server:
        yield server


@contextlib.contextmanager
def served_program(
    command: Sequence[str], environment: Mapping[str, str], folder: Path, cwd: Path | None = None
) -> Iterator[Served]:
    """Run a command that serves with uvicorn, Flask or Django while the context lasts."""
    log = folder / "serve.log"
    with started_program(command, environment, log, cwd) as process:
        until(lambda: ADDRESS.search(log.read_text()) or process.poll() is not None, "the server", timeout=60)
        found = ADDRESS.search(log.read_text())
        assert found, log.read_text()
        yield Served(found[1], process, log)


@contextlib.contextmanager
def started_program(
    command: Sequence[str], environment: Mapping[str, str], log: Path, cwd: Path | None = None
) -> "Iterator[subprocess.Popen[bytes]]":
    """Run a command, whose output goes to a file, while the context lasts."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, env={**os.environ, **environment}, cwd=cwd, stdout=output, stderr=output)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(timeout=30)


@contextlib.contextmanager
def served_app(app: Any) -> Iterator[Served]:
    """Run an application in a thread of this process while the context lasts, so that a test can change its limits."""
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started, "the server")
        port = server.servers[0].sockets[0].getsockname()[1]
        yield Served(f"http://127.0.0.1:{port}")
    finally:
        server.should_exit = True
        thread.join(timeout=30)
