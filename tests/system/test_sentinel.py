"""Redis with Sentinel: after a fail-over clients and workers find the new primary, in mid-job and without a loss."""

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import pytest
import trustme

from benchmarks.harness.redis_processes import PRIMARY, SENTINEL_PASSWORD, RedisProcesses, ReplicatedRedis, free_port
from diffedit import Client, JobHandle, Settings, Stage, State
from diffedit.jobs.backend import redis_backend
from diffedit_worker.local.stack import LocalServices
from tests.support.factories import PEAR, PICTURE, QUICK, a_job
from tests.support.services import WorkerGroup
from tests.support.waiting import until

DATABASE = 2


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplicatedRedis]:
    with ReplicatedRedis(tmp_path_factory.mktemp("replicated")) as servers:
        yield servers


@pytest.fixture(scope="module")
def stack(servers: ReplicatedRedis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServices]:
    with LocalServices(tmp_path_factory.mktemp("sentinel")) as stack:
        stack.environment["DIFFEDIT_REDIS_URL"] = f"{servers.sentinel_url}/{DATABASE}{servers.url_options}"
        yield stack


def kill(servers: ReplicatedRedis, primary: str) -> None:
    servers.kill(primary)


def order_a_fail_over(servers: ReplicatedRedis, primary: str) -> None:
    servers.sentinel("sentinel-1").execute_command("SENTINEL", "FAILOVER", PRIMARY)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("end", [kill, order_a_fail_over])
def test_a_job_outlasts_a_fail_over(
    servers: ReplicatedRedis, workers: WorkerGroup, end: Callable[[ReplicatedRedis, str], None]
) -> None:
    # Given a worker that runs a job, and another job that waits
    (process,) = workers.start()
    running = workers.job_in_stage(Stage.INVERT)
    waiting = workers.client.edit(PICTURE, **PEAR, **QUICK, caption=f"a pear before {end.__name__}")
    former = servers.primary
    # Replication is asynchronous: without this the new primary might not know of the last writes.
    servers.wait_until_replicated()
    # When the primary goes away
    end(servers, former)
    until(lambda: servers.primary != former, "a new primary", timeout=60)
    # Then both jobs succeed, and neither the worker nor the client has been started again
    statuses = [job.wait(timeout=90) for job in (running, waiting)]
    assert [status.state for status in statuses] == [State.SUCCEEDED] * 2
    assert {number for status in statuses for number in status.attempts.values()} == {1}, statuses
    assert running.result().image.size == (64, 64)
    assert process.poll() is None
    assert workers.client.health().broker == "ok"
    # The records are in the database of the URL, on the new primary
    assert servers.connect(servers.primary).info("keyspace")[f"db{DATABASE}"]["keys"]
    assert workers.client.edit(PICTURE, **PEAR, **QUICK, seed=7).wait(timeout=60).state is State.SUCCEEDED
    if end is kill:
        servers.start_again(former)
    servers.wait_until_redundant()
    assert servers.connect(former).info("replication")["role"] == "slave"


@pytest.mark.filterwarnings("ignore::diffedit.NoWorkerWarning")
@pytest.mark.timeout(180)
def test_a_client_does_not_return_to_a_primary_that_was_frozen(stack: LocalServices, servers: ReplicatedRedis) -> None:
    """When it wakes up, it takes itself for the primary, until the sentinels tell it otherwise. Its writes are lost."""
    with Client(Settings.from_env(stack.environment)) as client, ThreadPoolExecutor(8) as threads:

        def queue(count: int) -> list[JobHandle]:
            """Queue jobs at the same time, so that the client uses as many connections."""
            return list(threads.map(lambda _: client.edit(PICTURE, **PEAR, **QUICK), range(count)))

        jobs = queue(8)
        former = servers.primary
        servers.wait_until_replicated()
        process = servers.process(former)
        os.kill(process.pid, signal.SIGSTOP)
        try:
            until(lambda: servers.primary != former, "a new primary", timeout=60)
            until(lambda: client.health().broker == "ok", "a client at the new primary", timeout=60)
        finally:
            os.kill(process.pid, signal.SIGCONT)
        jobs += queue(16)
        servers.wait_until_redundant()
        assert {job.id for job in jobs} <= {status.id for status in client.jobs()}
        assert all(job.cancel() for job in jobs)


def test_a_sentinel_that_is_down_or_refuses_is_passed_over(stack: LocalServices, servers: ReplicatedRedis) -> None:
    known = f"127.0.0.1:{servers.port('sentinel-1')}"
    url = servers.sentinel_url.replace(known, f"127.0.0.1:{free_port()},{known}") + servers.url_options
    redis_backend(Settings(redis_url=url)).job_store.ping()
    unknown = Client(Settings(redis_url=url.replace(PRIMARY, "another"))).health().broker
    assert "no sentinel names the primary 'another'" in unknown
    refused = Client(Settings(redis_url=servers.sentinel_url)).health().broker
    assert "no sentinel names the primary" in refused and "Authentication" in refused
    assert SENTINEL_PASSWORD not in refused


def test_a_user_of_the_sentinels_needs_one_command(servers: ReplicatedRedis) -> None:
    for name in servers.sentinels:
        rules = ["reset", "on", ">r", "-@all", "+sentinel|get-master-addr-by-name"]
        servers.sentinel(name).execute_command("ACL", "SETUSER", "reader", *rules)
    url = f"{servers.sentinel_url}/0?sentinel_username=reader&sentinel_password=r"
    redis_backend(Settings(redis_url=url)).job_store.ping()
    assert [servers.sentinel(name).execute_command("ACL", "LOG") for name in servers.sentinels] == [[], [], []]


def test_a_sentinel_in_place_of_a_server_is_named_as_such(servers: ReplicatedRedis) -> None:
    url = f"redis://:{quote(SENTINEL_PASSWORD, safe='')}@127.0.0.1:{servers.port('sentinel-1')}/0"
    assert "redis+sentinel://" in Client(Settings(redis_url=url)).health().broker


def test_sentinels_and_servers_behind_tls(tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(directory / "authority.pem")
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(directory / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(directory / "cert.pem")
    with RedisProcesses(directory / "servers") as servers:
        ports = free_port(), free_port()
        tls = [
            "port 0",
            "tls-auth-clients no",
            "tls-replication yes",
            f"tls-cert-file {directory}/cert.pem",
            f"tls-key-file {directory}/key.pem",
            f"tls-ca-cert-file {directory}/authority.pem",
        ]
        servers.start("server", *tls, f"tls-port {ports[0]}")
        monitor = f"sentinel monitor main 127.0.0.1 {ports[0]} 1"
        servers.start("sentinel", *tls, f"tls-port {ports[1]}", monitor, program="redis-sentinel")
        url = f"rediss+sentinel://127.0.0.1:{ports[1]}/main/0"
        trusting = Settings(redis_url=f"{url}?ssl_ca_certs={directory}/authority.pem")
        until(lambda: Client(trusting).health().broker == "ok", "a server behind TLS", timeout=30)
        job = a_job()
        redis_backend(trusting).job_store.send(job)
        assert redis_backend(trusting).job_store.queue_lengths([job.queue]) == {job.queue: 1}
        assert "certificate verify failed" in Client(Settings(redis_url=url)).health().broker
