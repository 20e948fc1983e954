"""Redis servers and sentinels of Debian's packages, as child processes."""

import shutil
import socket
import uuid
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import redis

from benchmarks.harness.waiting import wait_until
from diffedit_worker.local.process_group import Process, ProcessGroup

PACKAGES = ("redis-server", "redis-sentinel")
"""Each holds a program of the same name."""
PASSWORD = "p@ss/w:rd%"  # noqa: S105 - what a URL needs to quote
SENTINEL_PASSWORD = "s e&=?n#"  # noqa: S105
PRIMARY = "Images.eu-1"
"""What the sentinels call the primary."""


def missing_packages() -> list[str]:
    """Return the packages whose programs are not there."""
    return [name for name in PACKAGES if not shutil.which(name)]


class RedisProcesses:
    """Servers and sentinels in one directory. They end with the context."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._group = ProcessGroup(directory)
        self._ports: dict[str, int] = {}

    def __enter__(self) -> Self:
        self._group.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._group.__exit__()

    def start(self, name: str, *lines: str, program: str = "redis-server", port: int | None = None) -> Process:
        """Start a server with these lines in its configuration, on a free port unless another one is given."""
        self._ports[name] = port or free_port()
        (self.directory / name).mkdir(exist_ok=True)
        config = self.directory / name / "redis.conf"
        config.write_text("\n".join(["bind 127.0.0.1", f"port {self._ports[name]}", "dir .", *lines, ""]))
        return self.start_again(name, program)

    def start_again(self, name: str, program: str = "redis-server") -> Process:
        """Start a server with the configuration and the data that it had when it ended."""
        path = shutil.which(program)
        assert path, f"{program} is not installed"
        return self._group.start(name, [path, "redis.conf"], environment={}, cwd=self.directory / name)

    def kill(self, name: str) -> None:
        """Kill a server with SIGKILL and reap it."""
        process = self._group.processes[name]
        process.kill()
        self._group.end([process], 0)

    def process(self, name: str) -> Process:
        return self._group.processes[name]

    def port(self, name: str) -> int:
        return self._ports[name]

    def url(self, name: str, database: int = 0) -> str:
        """Return what `DIFFEDIT_REDIS_URL` is for a server alone."""
        return f"redis://:{quote(PASSWORD, safe='')}@127.0.0.1:{self.port(name)}/{database}"

    def connect(self, name: str, password: str | None = PASSWORD) -> redis.Redis:
        return redis.Redis(port=self.port(name), password=password, decode_responses=True)

    def wait_for(self, name: str, password: str | None = PASSWORD) -> redis.Redis:
        """Wait until a server answers; return a connection to it."""
        server = self.connect(name, password)
        if not wait_until(lambda: answers(server), 30):
            raise TimeoutError(f"{name} does not answer")
        return server


SERVER = ("appendonly yes", 'save ""', f"requirepass {PASSWORD}")
"""A server that keeps what it is told."""


class ReplicatedRedis(RedisProcesses):
    """A primary and two replicas, watched by three sentinels.

    Attributes:
        sentinel_url: what `DIFFEDIT_REDIS_URL` is for them, without the number of the database.
    """

    servers = ("one", "two", "three")
    sentinels = ("sentinel-1", "sentinel-2", "sentinel-3")

    def __enter__(self) -> Self:
        super().__enter__()
        # The last two lines are those of the guide: a primary that its replicas have left takes no more writes.
        replica = (
            f"masterauth {PASSWORD}",
            "repl-diskless-sync-delay 0",
            "min-replicas-to-write 1",
            "min-replicas-max-lag 10",
        )
        for name in self.servers:
            follows = [f"replicaof 127.0.0.1 {self.port('one')}"] if name != "one" else []
            self.start(name, *SERVER, *replica, *follows)
        for name in self.sentinels:
            self.start(
                name,
                f'requirepass "{SENTINEL_PASSWORD}"',
                f"sentinel monitor {PRIMARY} 127.0.0.1 {self.port('one')} 2",
                f"sentinel auth-pass {PRIMARY} {PASSWORD}",
                f"sentinel down-after-milliseconds {PRIMARY} 1000",
                f"sentinel failover-timeout {PRIMARY} 3000",
                program="redis-sentinel",
            )
        self.wait_until_redundant()
        return self

    @property
    def sentinel_url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{self.port(name)}" for name in self.sentinels)
        return f"redis+sentinel://:{quote(PASSWORD, safe='')}@{hosts}/{PRIMARY}"

    @property
    def url_options(self) -> str:
        return f"?sentinel_password={quote(SENTINEL_PASSWORD, safe='')}"

    @property
    def primary(self) -> str:
        """The name of the server that is the primary, as a majority of the sentinels see it."""
        found: list[Any] = [self.sentinel(name).sentinel_get_master_addr_by_name(PRIMARY) for name in self.sentinels]
        ports = {self.port(name): name for name in self.servers}
        names = [ports[port] for _, port in found]
        return max(names, key=names.count)

    def sentinel(self, name: str) -> redis.Redis:
        """Return a connection to a sentinel."""
        return self.wait_for(name, SENTINEL_PASSWORD)

    def wait_until_redundant(self) -> None:
        """Wait until the primary has two replicas in step, and each sentinel knows all of them."""
        if not wait_until(self._is_redundant, 60):
            raise TimeoutError("there is no primary with two replicas and three sentinels")

    def wait_until_replicated(self) -> None:
        """Wait until both replicas have everything that the primary has at this moment."""
        marked = self.connect(self.primary)
        marked.set(f"mark:{uuid.uuid4().hex}", 1, px=1)
        assert marked.wait(2, 30_000) == 2

    def _is_redundant(self) -> bool:
        try:
            replication = self.connect(self.primary).info("replication")
            seen: list[Any] = [self.sentinel(name).sentinel_master(PRIMARY) for name in self.sentinels]
        except redis.RedisError:
            return False
        in_step = [key for key in replication if key.startswith("slave") and replication[key]["state"] == "online"]
        knows_all = all(each["num-slaves"] == 2 and each["num-other-sentinels"] == 2 for each in seen)
        calm = all(each["flags"] == "master" for each in seen)
        return replication["role"] == "master" and len(in_step) == 2 and knows_all and calm


def answers(server: redis.Redis) -> bool:
    try:
        return bool(server.ping())
    except redis.RedisError:
        return False


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
