"""Workers that are forked from a process which has imported torch and the libraries of models already.

The start of a worker is mostly imports, and the tests start a hundred workers. A forked one is a process of its own:
it has its own session, signals, environment, streams and exit status. Only the workers of `LocalServices` are forked.
What tests start with `subprocess` runs in a new interpreter, and so does a worker with variables that a library may
read while it is imported.
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

READ_LATE = ("AWS_", "CHAOS_", "DIFFEDIT_", "PYTEST_", "no_proxy", "NO_PROXY")
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
    """The process that has imported everything. It starts with the first worker at the latest."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._environment = dict(os.environ)

    def popen(self, command: Sequence[str], **options: Any) -> "subprocess.Popen[bytes] | ForkedProcess":
        """Start a process as `subprocess.Popen` does."""
        # Before it comes what lets the kernel kill the process with its owner. The template's children have the same.
        start = next((n for n, word in enumerate(command) if n and word == sys.executable), len(command))
        for words, code in _PROGRAMS.items():
            first, end = start + 1, start + 1 + len(words)
            if tuple(command[first:end]) == words and self.has_imported_with(options["env"]):
                return self.fork(code, command[end:], options["env"], options["stdout"])
        return subprocess.Popen(command, **options)

    def has_imported_with(self, environment: Mapping[str, str]) -> bool:
        """Return whether the imports of a new process with these variables would be the same."""
        # A program that measures the lines which run has to start with the interpreter.
        return "COVERAGE_PROCESS_CONFIG" not in environment and _early(environment) == _early(self._environment)

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


def _early(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if not name.startswith(READ_LATE)}


@contextmanager
def workers_from_template() -> Iterator[WorkerTemplate]:
    """Let `LocalServices` fork the workers that it starts, while the context lasts."""
    template = WorkerTemplate()
    with pytest.MonkeyPatch.context() as patch:
        if sys.platform == "linux":
            # At once, because a test may look for child processes that were not there when it began.
            template.start()
            patch.setattr(process_group, "Popen", template.popen)
        try:
            yield template
        finally:
            template.stop()
