"""Child processes that do not outlive their owner.

An owner that ends stops its children. On Linux the children of an owner that is killed are killed by the kernel. If
children are left in spite of that, the next owner of the directory kills them.
"""

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from subprocess import Popen
from typing import Any, Self

from diffedit.errors import LocalError
from diffedit_worker.local.child_thread import ChildThread
from diffedit_worker.local.signals import signals_ignored

GRACE = 3.0
"""Seconds that a child has to end before it is killed."""

DIE_WITH_OWNER = """
import ctypes, os, signal, sys
owner, *command = sys.argv[1:]
PR_SET_PDEATHSIG = 1
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
if os.getppid() == int(owner):
    os.execv(command[0], command)
"""
"""Becomes `command`, which the kernel kills when its owner ends. A `preexec_fn` could deadlock among threads."""

Process = Popen[bytes]


class ProcessGroup:
    """Child processes of this process, in a directory that no other process uses at the same time.

    Attributes:
        processes: the children by name, from their start until `end`.
        cleared: a sentence for each leftover process of a killed owner that was killed.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.processes: dict[str, Process] = {}
        self.cleared: list[str] = []
        self._registry = directory / "processes.json"
        self._directory_lock: int | None = None

    def __enter__(self) -> Self:
        """Lock the directory for this process, and kill the processes that a killed owner left behind.

        Raises:
            LocalError: the directory is in use.
        """
        # One thread starts and stops all children. It receives no signal, so none can interrupt between the start of a
        # child and its registration. It must live as long as they do, because PDEATHSIG follows the starting thread.
        self._thread = ChildThread()
        try:
            self._thread.call(self._take_over)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with signals_ignored():
            # The list is made in the other thread, which may be starting a child at this moment.
            self._thread.call(lambda: self._end(list(self.processes.values()), GRACE))
            self._thread.stop()
            if self._directory_lock is not None:
                self._registry.unlink(missing_ok=True)
                os.close(self._directory_lock)
                self._directory_lock = None

    def start(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        cwd: Path | None = None,
        stdin: str = "",
    ) -> Process:
        """Start a child with this environment and no other variables. Its output is appended to logs/`name`.log.

        Raises:
            LocalError: a child of this name is running.
        """
        return self._thread.call(self._spawn, name, command, environment, cwd, stdin)

    def end(self, processes: Sequence[Process], grace: float) -> None:
        """Terminate these children, and kill those that run after `grace` seconds."""
        self._thread.call(self._end, processes, grace)

    def check(self) -> None:
        """Raise LocalError, with the last lines of its log, if a child ended by itself."""
        for name, process in self.processes.items():
            if process.poll() is not None:
                raise LocalError(f"{name} ended with status {process.returncode}.{self.log_tail(name)}")

    def log_tail(self, name: str) -> str:
        """Return the last ten lines of a child's log, with a heading."""
        log = self.directory / "logs" / f"{name}.log"
        return "\n".join([f" The end of {log}:", *log.read_text(errors="replace").splitlines()[-10:]])

    def _take_over(self) -> None:
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            (self.directory / "logs").mkdir(exist_ok=True)
        except OSError as error:
            raise LocalError(f"cannot use {self.directory}: {error.strerror}; choose another --dir") from error
        descriptor = os.open(self.directory, os.O_RDONLY)
        try:
            self._lock(descriptor)
            self._clear_leftovers()
            self._register()
        except BaseException:
            os.close(descriptor)
            raise
        self._directory_lock = descriptor

    def _lock(self, descriptor: int) -> None:
        try:
            # The kernel releases the lock when the owner ends. A check whether the owner lives would leave a gap.
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = read_json(self._registry).get("owner", "(just started)")
            message = f"{self.directory} is in use by process {owner}; stop it or choose another --dir"
            raise LocalError(message) from None

    def _clear_leftovers(self) -> None:
        registered = read_json(self._registry)
        for child in registered.get("children", []):
            if _kill(child["pid"], child["created"]):
                leftover = f"{child['name']} (process {child['pid']})"
                owner = registered["owner"]
                self.cleared.append(f"Stopped {leftover}, left behind by process {owner}, which ended without it.")

    def _register(self) -> None:
        """Write down the children that the next owner must kill if this process is killed."""
        import psutil  # from the extra `local`

        children = []
        for name, process in self.processes.items():
            with suppress(psutil.NoSuchProcess):  # it may end at this moment
                if process.poll() is None:
                    created = psutil.Process(process.pid).create_time()
                    children.append({"name": name, "pid": process.pid, "created": created})
        write_json(self._registry, {"owner": os.getpid(), "children": children})

    def _spawn(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], cwd: Path | None, stdin: str
    ) -> Process:
        if name in self.processes and self.processes[name].poll() is None:
            raise LocalError(f"{name} is already running as process {self.processes[name].pid}")
        if sys.platform == "linux":
            command = [sys.executable, "-I", "-S", "-c", DIE_WITH_OWNER, str(os.getpid()), *command]
        with open(self.directory / "logs" / f"{name}.log", "ab", buffering=0) as log:
            log.write(f"--- {name} starts, {time.strftime('%F %T')} ---\n".encode())
            process = Popen(
                command,
                cwd=cwd,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C in the terminal reaches only the owner, which stops all in order
            )
        self.processes = self.processes | {name: process}
        self._register()
        assert process.stdin is not None
        with suppress(BrokenPipeError), process.stdin:
            process.stdin.write(stdin.encode())
        return process

    def _end(self, processes: Sequence[Process], grace: float) -> None:
        for process in processes:
            process.terminate()
        deadline = time.monotonic() + grace
        for process in processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
            process.kill()
            process.wait()
        self.processes = {name: process for name, process in self.processes.items() if process not in processes}


def _kill(pid: int, created: float) -> bool:
    """Kill the process that was created at this time, and no later one with the same pid. False if it has ended."""
    import psutil

    try:
        process = psutil.Process(pid)
        # Creation times are computed from the time of boot, which shifts when the clock is set.
        if process.status() == psutil.STATUS_ZOMBIE or abs(process.create_time() - created) > 1:
            return False
        process.kill()
    except (psutil.NoSuchProcess, psutil.AccessDenied):  # a process of another user is not a child of ours
        return False
    deadline = time.monotonic() + GRACE
    with suppress(psutil.NoSuchProcess):
        # In a container without an init process nothing reaps orphans, so the killed process stays a zombie.
        while process.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
            time.sleep(0.01)
    return True


def read_json(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file, {} if there is no such file."""
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise LocalError(f"{path} is damaged, delete it: {error}") from None
    return content


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Replace a JSON file in one step. Only the owner of the file may read it."""
    new = path.with_suffix(".new")
    new.touch(mode=0o600)
    new.write_text(json.dumps(content, indent=2))
    new.replace(path)
