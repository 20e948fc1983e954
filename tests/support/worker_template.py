"""Workers that are forked from a process which has imported torch and the libraries of models already.

The start of a worker is mostly imports, and the tests start a hundred workers. A forked one is a process of its own:
it has its own session, signals, environment, streams and exit status. Only the workers of `LocalServices` are forked.
What tests start with `subprocess` runs in a new interpreter, and so does a worker with variables that a library may
read while it is imported. The workers of another release have another PYTHONPATH, and so a template of their own.
"""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import pytest

from diffedit_worker.local import process_group
from diffedit_worker.local.programs import COMMAND

READ_LATE = ("AWS_", "CHAOS_", "DIFFEDIT_", "OTEL_", "PYTEST_", "no_proxy", "NO_PROXY")
"""Prefixes of variables that are not read before the worker's command runs."""
_SCRIPT = Path(__file__).with_name("forked_program.py")
_PROGRAMS = {
    ("-P", "-c", COMMAND): COMMAND,
    # Unlike -P, -m makes the modules of the current directory importable.
    ("-m", "celery"): """
import os, runpy, sys
sys.path.insert(0, os.getcwd())
runpy.run_module("celery", run_name="__main__", alter_sys=True)
""",
}
"""What a worker's interpreter is told, and the program that does the same in a forked process."""


class ForkedProcess:
    """A child of the template, as `subprocess.Popen` describes a child of this process."""

    def __init__(self, pid: int, stdin: IO[bytes], status: int) -> None:
        self.pid, self.stdin = pid, stdin
        self.returncode: int | None = None
        self._status = status
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        with self._lock:
            if self.returncode is None:
                if not select.select([self._status], [], [], timeout)[0]:
                    raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
                # Without an answer the template has been killed, and the kernel has killed its children.
                answer = os.read(self._status, 4)
                self.returncode = int.from_bytes(answer, "big", signed=True) if answer else -signal.SIGKILL
                os.close(self._status)
            return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class WorkerTemplate:
    """A process that has imported everything. It starts with its first child at the latest."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._lock = threading.Lock()
        self._requests: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._environment = dict(environment)

    def fork(self, code: str, arguments: Sequence[str], environment: Mapping[str, str], output: Any) -> ForkedProcess:
        """Start a process that runs `code` as `python -c` does."""
        program = {"code": code, "arguments": list(arguments), "environment": dict(environment)}
        (stdin, stdin_writer), (status_reader, status) = os.pipe(), os.pipe()
        with self._lock:
            requests = self._requests or self.start()
            streams = [stdin, output.fileno(), output.fileno()]
            socket.send_fds(requests, [json.dumps(program).encode()], [*streams, status])
            pid = int.from_bytes(requests.recv(4), "big")
        os.close(stdin)
        os.close(status)
        return ForkedProcess(pid, os.fdopen(stdin_writer, "wb"), status_reader)

    def stop(self) -> None:
        """End the template, and with it each child that still runs."""
        if self._requests and self._process:
            self._requests.close()
            self._process.wait()

    def start(self) -> socket.socket:
        """Start the template. Does not wait until it has imported everything. Returns the socket for requests."""
        # The path of `python -c` begins with the current directory, or not at all (-P).
        self._requests, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with other:
            command = [sys.executable, "-P", str(_SCRIPT)]
            self._process = subprocess.Popen(command, stdin=other, env=self._environment, start_new_session=True)
        return self._requests


class WorkerTemplates:
    """A template for each PYTHONPATH that workers have.

    Attributes:
        first: the template of workers that import what the tests do.
    """

    def __init__(self) -> None:
        self.first = WorkerTemplate(os.environ)
        self._early = _early(os.environ)
        self._by_path = {os.environ.get("PYTHONPATH"): self.first}
        self._lock = threading.Lock()

    def popen(self, command: Sequence[str], **options: Any) -> "subprocess.Popen[bytes] | ForkedProcess":
        """Start a process as `subprocess.Popen` does."""
        # Before it comes what lets the kernel kill the process with its owner. A template's children have the same.
        start = next((n for n, word in enumerate(command) if n and word == sys.executable), len(command))
        for words, code in _PROGRAMS.items():
            first, end = start + 1, start + 1 + len(words)
            if tuple(command[first:end]) == words and (template := self.of(options["env"])):
                return template.fork(code, command[end:], options["env"], options["stdout"])
        return subprocess.Popen(command, **options)

    def of(self, environment: Mapping[str, str]) -> WorkerTemplate | None:
        """Return the template whose imports are those of a new process with these variables, if there can be one."""
        # A program that measures the lines which run has to start with the interpreter.
        if "COVERAGE_PROCESS_CONFIG" in environment or _early(environment) != self._early:
            return None
        with self._lock:
            return self._by_path.setdefault(environment.get("PYTHONPATH"), WorkerTemplate(environment))

    def prepare(self, environment: Mapping[str, str], output: Path) -> None:
        """Start the template of workers with these variables, and wait until it has imported everything."""
        if sys.platform == "linux" and (template := self.of(environment)):
            with output.open("wb") as file:
                program = template.fork("", (), environment, file)
            with program.stdin:
                assert program.wait() == 0

    def stop(self) -> None:
        """End all templates, and with them each child that still runs."""
        for template in self._by_path.values():
            template.stop()


def _early(environment: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value for name, value in environment.items() if name != "PYTHONPATH" and not name.startswith(READ_LATE)
    }


@contextmanager
def workers_from_templates() -> Iterator[WorkerTemplates]:
    """Let `LocalServices` fork the workers that it starts, while the context lasts."""
    templates = WorkerTemplates()
    with pytest.MonkeyPatch.context() as patch:
        if sys.platform == "linux":
            # At once, because a test may look for child processes that were not there when it began.
            templates.first.start()
            patch.setattr(process_group, "Popen", templates.popen)
        try:
            yield templates
        finally:
            templates.stop()
