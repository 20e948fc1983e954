"""Debian's Redis 7.0: its refusals, the users of SECURITY.md, a cluster, and what `health` tells."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.harness.redis_faults import FAULTS, FAULTS_OF_A_SERVER_FOR_TESTS
from benchmarks.harness.redis_processes import SERVER, RedisProcesses
from diffedit import BrokerUnavailable, Client, JobHandle, Settings, State
from diffedit_worker.local.stack import LocalServices
from tests.support.factories import PEAR, PICTURE, QUICK
from tests.support.redis_refusal_behaviour import RedisRefusalBehaviour, check_that_a_client_goes_on
from tests.support.services import WorkerGroup, client_of, log_of
from tests.support.waiting import until

SECURITY = Path(__file__).parents[2] / "SECURITY.md"
USERS = re.findall(r"^user diffedit-.*$", SECURITY.read_text(), flags=re.MULTILINE)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcesses]:
    with RedisProcesses(tmp_path_factory.mktemp("servers")) as servers:
        servers.start("server", *SERVER, "enable-debug-command local")
        servers.wait_for("server")
        yield servers


@pytest.fixture(scope="module")
def stack(servers: RedisProcesses, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServices]:
    with LocalServices(tmp_path_factory.mktemp("redis")) as stack:
        stack.environment["DIFFEDIT_REDIS_URL"] = servers.url("server")
        yield stack


class TestDebiansRedis(RedisRefusalBehaviour):
    faults = (*FAULTS, *FAULTS_OF_A_SERVER_FOR_TESTS)

    @pytest.mark.filterwarnings("ignore::diffedit.NoWorkerWarning")
    @pytest.mark.parametrize("fault", faults)
    def test_a_client_reports_the_outage_and_goes_on_after_it(
        self, stack: LocalServices, servers: RedisProcesses, fault: str
    ) -> None:
        with client_of(stack) as client:
            check_that_a_client_goes_on(client, servers.connect("server"), fault)


def check_administration(client: Client, done: JobHandle) -> None:
    """Do what an administrator does."""
    assert [status.id for status in client.admin.jobs(state="succeeded", since="1h", profile="tiny")] == [done.id]
    paused = client.admin.pause(reason="a test")
    job = client.edit(PICTURE, **PEAR, **QUICK)
    assert "The queue is paused" in " ".join(client.admin.why(job.id).reasons)
    job.cancel()
    assert client.admin.retry(state="cancelled")[0].done
    assert sum(queue.waiting for queue in client.admin.queues()) == 1
    assert client.admin.resume() == paused
    assert job.wait(timeout=60).state is State.SUCCEEDED


@pytest.mark.parametrize("database", [0, 3])
def test_the_users_of_security_md_load_from_a_file_and_do_all_their_work(
    servers: RedisProcesses, stack: LocalServices, database: int
) -> None:
    name = f"users-{database}"
    (servers.directory / name).mkdir()
    users = [rules.replace("CLIENT_PASSWORD", "c").replace("WORKER_PASSWORD", "w") for rules in USERS]
    users = [rules.replace("/0.celery", f"/{database}.celery") for rules in users]
    (servers.directory / name / "users.acl").write_text("\n".join([*users, "user default on >admin ~* &* +@all", ""]))
    servers.start(name, "aclfile users.acl")
    admin = servers.wait_for(name, "admin")
    address = f"127.0.0.1:{servers.port(name)}/{database}"
    worker = stack.start_worker(name, environment={"DIFFEDIT_REDIS_URL": f"redis://diffedit-worker:w@{address}"})
    try:
        with client_of(stack, DIFFEDIT_REDIS_URL=f"redis://diffedit-client:c@{address}") as client:
            until(lambda: client.health().ok, "a ready worker")
            job = client.edit(PICTURE, **PEAR, **QUICK, caption=f"a pear in database {database}")
            assert job.wait(timeout=60).state is State.SUCCEEDED
            admin.config_set("maxmemory-policy", "allkeys-lru")
            assert "allkeys-lru" in client.health().broker_warnings[0]
            assert admin.execute_command("ACL", "LOG") == []
            check_administration(client, job)
            # A client that pauses a queue may not read it, and leaves that to the leader.
            assert {entry["object"] for entry in admin.acl_log()} <= {"lrange"}
            admin.execute_command("ACL", "SETUSER", "diffedit-client", "-info")
            assert client.health().ok and client.health().broker_warnings == ()
            client.admin.drain(name)
            until(lambda: not client.admin.workers(), "the end of the worker that drains")
    finally:
        stack.stop(worker)


def test_a_cluster_is_refused_with_the_reason(
    servers: RedisProcesses, stack: LocalServices, workers: WorkerGroup
) -> None:
    """It has no slots yet, so each command that names a key would answer CLUSTERDOWN."""
    servers.start("cluster", *SERVER, "cluster-enabled yes")
    servers.wait_for("cluster")
    url = servers.url("cluster")
    client = Client(Settings(redis_url=url))
    assert not client.health().ok
    assert "cluster mode" in client.health().broker
    with pytest.raises(BrokerUnavailable, match="cluster mode"):
        client.jobs()
    worker = stack.start_worker("in-a-cluster", environment={"DIFFEDIT_REDIS_URL": url})
    try:
        until(lambda: "this server is in cluster mode" in log_of(stack, "in-a-cluster"), "a refused connection")
        assert worker.poll() is None
    finally:
        stack.stop(worker)
