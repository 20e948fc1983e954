"""`diffedit serve` as a process, for one benchmark."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from benchmarks.harness.environment import Environment
from benchmarks.harness.waiting import wait_until

START = 60.0
"""Seconds that the server has to start."""
PROGRAM = "import sys; from diffedit.cli import app; sys.exit(app())"


@contextmanager
def web_server(env: Environment) -> Iterator[tuple[str, psutil.Process]]:
    """Run the server over the services of `env` on a free port. Gives its URL and its process."""
    log = Path(env.stack.directory) / "serve.log"
    command = [sys.executable, "-P", "-c", PROGRAM, "serve", "--port", "0", "--log-level", "info"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, env={**os.environ, **env.stack.environment}, stdout=output, stderr=output)
    try:
        wait_until(lambda: "running on" in log.read_text() or process.poll() is not None, START)
        found = re.search(r"running on (http://\S+)", log.read_text())
        assert found, log.read_text()
        yield found[1], psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(timeout=30)
