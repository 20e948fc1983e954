"""Child processes that do not outlive their owner.

An owner that ends stops its children; an owner that is killed takes them along (on Linux); and whatever is left all the
same is cleared away by the next owner of the directory.
"""

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from diffedit.errors import DiffEditError

GRACE = 3.0

UNTIL_OWNER_ENDS = """
import ctypes, os, signal, sys
owner, *command = sys.argv[1:]
PR_SET_PDEATHSIG = 1
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
if os.getppid() == int(owner):
    os.execv(command[0], command)
"""
"""Becomes `command`, which the kernel kills as its owner ends. Not a `preexec_fn`: among threads that may deadlock."""

Process = subprocess.Popen[bytes]


class LocalError(DiffEditError):
    """The embedded services cannot be started, or one of them ended."""

    code = "local_services"


class ProcessGroup:
    """Child processes of this one, in a directory that no other process uses meanwhile.

    Attributes:
        processes: those that were started and not yet ended, by name.
        cleared: a sentence for each leftover of a killed owner that was cleared away.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.processes: dict[str, Process] = {}
        self.cleared: list[str] = []
        self._registry = directory / "processes.json"
        self._claim: int | None = None

    def __enter__(self) -> Self:
        """Takes the directory for this process, and clears away what a killed owner left in it.

        Raises:
            LocalError: the directory is in use.
        """
        # One thread starts and stops all children. No signal reaches it, so none comes between the start of a child
        # and its registration; and it lives as long as they do, for PDEATHSIG means the end of the starting thread.
        self._hands = ThreadPoolExecutor(1, "children")
        # Started by yet another thread: an interrupt while this one starts it would make the pool lose track of it.
        aside = threading.Thread(target=self._hands.submit, args=(int,))
        aside.start()
        aside.join()
        try:
            self._hands.submit(self._take_over).result()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with undisturbed():
            # Listed by the hands as well, which may be starting one at this moment.
            self._hands.submit(lambda: self._end(list(self.processes.values()), GRACE)).result()
            self._hands.shutdown()
            if self._claim is not None:
                self._registry.unlink(missing_ok=True)
                os.close(self._claim)
                self._claim = None

    def start(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        cwd: Path | None = None,
        stdin: str = "",
    ) -> Process:
        """Starts a child that sees this environment and no other. What it prints is appended to logs/`name`.log.

        Raises:
            LocalError: a child of this name is running.
        """
        return self._hands.submit(self._spawn, name, command, environment, cwd, stdin).result()

    def end(self, processes: Sequence[Process], grace: float) -> None:
        """Asks these children to end, and kills them after `grace` seconds."""
        self._hands.submit(self._end, processes, grace).result()

    def check(self) -> None:
        """Raises LocalError if a child ended that nobody stopped, with the last lines of its log."""
        for name, process in self.processes.items():
            if process.poll() is not None:
                raise LocalError(f"{name} ended with status {process.returncode}.{self.log_tail(name)}")

    def log_tail(self, name: str) -> str:
        log = self.directory / "logs" / f"{name}.log"
        return "\n".join([f" The end of {log}:", *log.read_text(errors="replace").splitlines()[-10:]])

    def _take_over(self) -> None:
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.directory / "logs").mkdir(exist_ok=True)
        claim = os.open(self.directory, os.O_RDONLY)
        try:
            self._lock(claim)
            self._clear_away()
            self._register()
        except BaseException:
            os.close(claim)
            raise
        self._claim = claim

    def _lock(self, claim: int) -> None:
        try:
            # Rather than a look whether the owner lives: a lock ends with its owner, and nobody comes in between.
            fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = read_json(self._registry).get("owner", "(just started)")
            message = f"{self.directory} is in use by process {owner}; stop it or choose another --dir"
            raise LocalError(message) from None

    def _clear_away(self) -> None:
        left = read_json(self._registry)
        for child in left.get("children", []):
            if _kill(child["pid"], child["created"]):
                what = f"{child['name']} (process {child['pid']})"
                self.cleared.append(f"Stopped {what}, left behind by process {left['owner']}, which ended without it.")

    def _register(self) -> None:
        """Writes down who has to be cleared away if this process is killed."""
        import psutil  # from the extra `local`

        children = []
        for name, process in self.processes.items():
            with suppress(psutil.NoSuchProcess):  # it ends just now
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
            command = [sys.executable, "-I", "-S", "-c", UNTIL_OWNER_ENDS, str(os.getpid()), *command]
        with open(self.directory / "logs" / f"{name}.log", "ab", buffering=0) as log:
            log.write(f"--- {name} starts, {time.strftime('%F %T')} ---\n".encode())
            process = subprocess.Popen(
                command,
                cwd=cwd,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C in the terminal is for the owner, which stops the others in order
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
    """Kills this very process, and not another one that has its pid by now. False if it has ended already."""
    import psutil

    try:
        process = psutil.Process(pid)
        # Roughly equal, for creation is reckoned from the time of boot, which shifts when the clock is set.
        if process.status() == psutil.STATUS_ZOMBIE or abs(process.create_time() - created) > 1:
            return False
        process.kill()
    except (psutil.NoSuchProcess, psutil.AccessDenied):  # our own would not deny it
        return False
    deadline = time.monotonic() + GRACE
    with suppress(psutil.NoSuchProcess):
        # Where nobody reaps orphans, as in a container without an init, it stays a zombie.
        while process.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
            time.sleep(0.01)
    return True


def read_json(path: Path) -> dict[str, Any]:
    """The content of a JSON file, empty if there is none."""
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise LocalError(f"{path} is damaged, delete it: {error}") from None
    return content


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """All or nothing, and for the owner's eyes only."""
    new = path.with_suffix(".new")
    new.touch(mode=0o600)
    new.write_text(json.dumps(content, indent=2))
    new.replace(path)


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
INSIST = 0.5
"""Seconds after which an interrupt that nobody minded comes again."""


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """SIGTERM raises KeyboardInterrupt inside, so that `kill` ends things as tidily as Ctrl-C. Main thread only.

    Both are raised until they take effect: what is raised while Python runs the callback of a weak reference, as it
    does all the time when it imports, is printed and forgotten.
    """

    def interrupt(number: int, frame: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, INSIST)
        raise KeyboardInterrupt

    previous = {number: signal.signal(number, interrupt) for number in SIGNALS}
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def undisturbed() -> Iterator[None]:
    """No Ctrl-C and no SIGTERM inside. For what ends by itself soon."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.signal(number, signal.SIG_IGN) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
