"""Redis, S3 over TLS, one worker and one client, with the network between them in our hands."""

import os
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import redis
import trustme

from benchmarks.harness.fault_proxy import FaultProxy
from benchmarks.harness.redis_processes import ReplicatedRedis
from benchmarks.harness.tcp_proxy import TcpProxy, address_of
from benchmarks.harness.waiting import wait_until
from diffedit import Client, Settings
from diffedit_worker.local.process_group import Process
from diffedit_worker.local.stack import LocalServices

READY_TIMEOUT = 60.0
S3_RETRY_TIMEOUT = 4.0
"""Seconds for which a stage waits for S3: less than a fault lasts."""


@dataclass
class System:
    """What a fault acts on, and who notices it.

    Attributes:
        replicated: Redis servers with sentinels, if they are used instead of Valkey.
        redis: leads to Valkey directly, past `redis_network`.
        redis_network, s3_network: between the servers and all clients and workers. Servers with sentinels are reached
            directly.
        s3_proxy: between `s3_network`, which ends TLS, and the S3 server.
        tls: the certificate that `s3_network` shows.
        authority: everybody accepts the certificates that it issues.
        client: lives as long as the system.
    """

    stack: LocalServices
    redis_network: TcpProxy
    s3_network: TcpProxy
    s3_proxy: FaultProxy
    tls: ssl.SSLContext
    authority: trustme.CA
    client: Client
    redis: redis.Redis
    replicated: ReplicatedRedis | None
    workers: dict[str, Process] = field(default_factory=dict)

    def start_worker(self) -> str:
        """Start a worker, and return its name."""
        name = f"worker{len(self.workers) + 1}"
        self.workers[name] = self.stack.start_worker(name)
        return name

    def is_ready(self, name: str) -> bool:
        """Return whether `health` shows the worker."""
        return name in {worker.name.partition("@")[0] for worker in self.client.health().workers}

    def ready_worker(self) -> str:
        """Return the name of a worker that takes jobs, and stop the others."""
        alive = [name for name, process in self.workers.items() if process.poll() is None]
        name = alive[0] if alive else self.start_worker()
        self.stack.stop(*(self.workers[other] for other in alive[1:]))
        if not wait_until(lambda: self.is_ready(name) and self.client.health().ok, READY_TIMEOUT):
            raise TimeoutError(f"{name} is not ready; see {self.stack.directory / 'logs'}: {self.client.health()}")
        return name

    def log_of(self, name: str) -> str:
        """Return what the worker has logged."""
        return (self.stack.directory / "logs" / f"{name}.log").read_text()


@contextmanager
def running_system(*, replicated: bool) -> Iterator[System]:
    """Run the services, without workers, as long as the context lasts. If `replicated`, Redis has sentinels."""
    with ExitStack() as context:
        directory = Path(context.enter_context(tempfile.TemporaryDirectory()))
        stack = context.enter_context(LocalServices(directory / "services"))
        authority, tls = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(tls)
        bundle = directory / "authority.pem"
        authority.cert_pem.write_to_path(bundle)
        # boto3 reads this variable itself, in this process as well.
        os.environ["AWS_CA_BUNDLE"] = str(bundle)
        context.callback(os.environ.pop, "AWS_CA_BUNDLE")
        url = stack.environment["DIFFEDIT_REDIS_URL"]
        redis_network = context.enter_context(TcpProxy(address_of(url)))
        s3_proxy = context.enter_context(FaultProxy(stack.environment["DIFFEDIT_S3_ENDPOINT_URL"]))
        s3_network = context.enter_context(TcpProxy(address_of(s3_proxy.url), tls))
        stack.environment |= {
            "DIFFEDIT_REDIS_URL": url.replace(f":{address_of(url)[1]}/", f":{redis_network.port}/"),
            "DIFFEDIT_S3_ENDPOINT_URL": f"https://127.0.0.1:{s3_network.port}",
            "DIFFEDIT_S3_RETRY_TIMEOUT": str(S3_RETRY_TIMEOUT),
            "AWS_CA_BUNDLE": str(bundle),
        }
        servers = context.enter_context(ReplicatedRedis(directory / "replicated")) if replicated else None
        if servers:
            stack.environment["DIFFEDIT_REDIS_URL"] = f"{servers.sentinel_url}/0{servers.url_options}"
        client = context.enter_context(Client(Settings.from_env(stack.environment)))
        server = redis.Redis.from_url(url, decode_responses=True)
        yield System(stack, redis_network, s3_network, s3_proxy, tls, authority, client, server, servers)
