"""The Redis users of SECURITY.md, over TLS: they can do what they need, and nothing else."""

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import redis
import trustme
from prometheus_client import CollectorRegistry

from diffedit import BrokerUnavailable, Client, IdempotencyConflict, OwnerLimits, Settings, Stage, State
from diffedit.contract.stages import ModelGroup, queue_name
from diffedit.exporter.collector import FleetCollector
from diffedit.jobs.backend import redis_backend
from diffedit.webhooks.signing import new_secret
from diffedit_worker.local.stack import LocalServices
from tests.support.factories import PEAR, PICTURE, QUICK, a_job, a_request, slow
from tests.support.proxies import TlsProxy
from tests.support.services import log_of
from tests.support.waiting import until
from tests.support.web_server import PROGRAM, served_process, started_program
from tests.support.webhook_receiver import receiving

SECURITY = Path(__file__).parents[2] / "SECURITY.md"
USERS = {
    name: rules.split()
    for name, rules in re.findall(r"^user diffedit-(\w+) (.*)$", SECURITY.read_text(), flags=re.MULTILINE)
}


@dataclass(frozen=True)
class TlsServices:
    """Services behind TLS, with a Redis user for clients and one for workers, and a worker.

    `port`, `untrusted_port` and `misnamed_port` lead to the same Redis, with three certificates: one that clients
    accept, one of an unknown authority, one for another host.
    """

    stack: LocalServices
    server: redis.Redis
    port: int
    authority: Path
    untrusted_port: int
    misnamed_port: int

    def url(self, user: str, port: int | None = None, more: str = "") -> str:
        return f"rediss://diffedit-{user}:{user}-pass@127.0.0.1:{port or self.port}/0{more}"

    def settings(self, user: str) -> Settings:
        url = self.url(user, more=f"?ssl_ca_certs={self.authority}")
        return Settings.from_env({**self.stack.environment, "DIFFEDIT_REDIS_URL": url})


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsServices]:
    directory = tmp_path_factory.mktemp("tls")
    authority = directory / "authority.pem"
    ours, theirs = trustme.CA(), trustme.CA()
    ours.cert_pem.write_to_path(authority)
    with LocalServices(directory / "stack") as stack:
        plain = stack.environment["DIFFEDIT_REDIS_URL"]
        server = redis.Redis.from_url(plain)
        for name, rules in USERS.items():
            password = [f">{name}-pass" if rule.startswith(">") else rule for rule in rules]
            server.execute_command("ACL", "SETUSER", f"diffedit-{name}", "reset", *password)
        address = ("127.0.0.1", int(plain.rpartition(":")[2].partition("/")[0]))
        certificates = ours.issue_cert("127.0.0.1"), theirs.issue_cert("127.0.0.1"), ours.issue_cert("redis.example")
        known, untrusted, misnamed = (TlsProxy(certificate, address).port for certificate in certificates)
        services = TlsServices(stack, server, known, authority, untrusted, misnamed)
        stack.environment |= {
            "DIFFEDIT_REDIS_URL": services.settings("worker").redis_url.get_secret_value(),
            "DIFFEDIT_WORKER_TTL": "2",
        }
        stack.start_worker()
        client = Client(services.settings("client"))
        until(lambda: client.health().ok, "a ready worker")
        yield services


def test_client_and_worker_can_do_all_their_work(services: TlsServices) -> None:
    services.server.execute_command("ACL", "LOG", "RESET")
    client = Client(services.settings("client"))
    first, second = (client.edit(PICTURE, **PEAR, **QUICK, seed=1, idempotency_key="once") for _ in range(2))
    assert second.id == first.id
    with pytest.raises(IdempotencyConflict):
        client.edit(PICTURE, **PEAR, **QUICK, seed=2, idempotency_key="once")
    assert first.result(timeout=60).image.size == (64, 64)
    assert first.id in [status.id for status in client.jobs()]
    running = client.edit(PICTURE, **PEAR, num_inference_steps=500, caption="a pear that no other job describes")
    until(lambda: running.status().step, "a running job")
    assert running.cancel()
    assert running.retry().cancel()
    # The worker's maintenance finds a job that was never sent.
    lost = a_job(a_request({**QUICK}, image=first.status().request.image))
    redis_backend(services.settings("client")).job_store.create_job(lost)
    assert client.job(lost.id).wait(timeout=60).state is State.SUCCEEDED
    text, key = client.add_api_key("u17")
    assert client.admit(text).key == key
    assert client.api_keys() == [key]
    assert client.revoke_api_key(key.id)
    assert services.server.execute_command("ACL", "LOG") == []


def test_the_exporter_reads_all_that_it_tells_and_can_do_nothing_else(services: TlsServices) -> None:
    client = Client(services.settings("client"))
    assert client.edit(PICTURE, **PEAR, **QUICK).wait(timeout=60).state is State.SUCCEEDED
    services.server.execute_command("ACL", "LOG", "RESET")
    backend, registry = redis_backend(services.settings("exporter")), CollectorRegistry()
    registry.register(FleetCollector(backend.census, backend.job_store.usage, owners=10))
    assert registry.get_sample_value("diffedit_redis_up") == 1
    queue = {"profile": "tiny", "group": "language", "lane": "interactive"}
    assert registry.get_sample_value("diffedit_jobs_waiting", queue) == 0
    used = {"owner": "", "profile": "tiny", "outcome": "succeeded"}
    assert registry.get_sample_value("diffedit_usage_jobs_total", used)
    assert services.server.execute_command("ACL", "LOG") == []
    for attempt in (backend.job_store.ping, lambda: backend.job_store.create_job(a_job())):
        with pytest.raises(BrokerUnavailable):
            attempt()
    server = redis.Redis.from_url(services.settings("exporter").redis_url.get_secret_value())
    with pytest.raises(redis.exceptions.NoPermissionError):
        server.script_load("return 1")


@pytest.mark.filterwarnings("ignore::diffedit.NoWorkerWarning")
def test_client_and_worker_can_serve_owners(services: TlsServices) -> None:
    services.server.execute_command("ACL", "LOG", "RESET")
    client = Client(services.settings("client"))
    client.set_owner_limits("u1", OwnerLimits(max_running=1, max_queued=2))
    users = client.for_owner("u1")
    jobs = [users.edit(PICTURE, **PEAR, **QUICK, seed=seed, keep=3600) for seed in range(2)]
    assert jobs[-1].status(queue=True).owner == "u1"
    for job in jobs:
        assert job.wait(timeout=60).state is State.SUCCEEDED
    runs = users.edit(PICTURE, **PEAR, profile="nobodys")  # the only worker must have time for the other one
    redis_backend(services.settings("worker")).job_store.start_stage(runs.id, Stage.EMBED, "another")
    waits = users.edit(PICTURE, **PEAR, **QUICK, seed=3)
    until(lambda: services.server.zscore("diffedit:parked-of:u1", waits.id), "a job that waits for the other one")
    assert runs.cancel()
    assert waits.wait(timeout=60).state is State.SUCCEEDED
    jobs[0].delete()
    assert {status.id for status in users.jobs()} == {jobs[1].id, runs.id, waits.id}
    assert client.delete_owner("u1").jobs == 3
    client.collect_garbage("1d")
    assert services.server.execute_command("ACL", "LOG") == []


def test_the_http_api_and_the_sender_of_webhooks_need_no_more_than_a_client(
    services: TlsServices, tmp_path: Path
) -> None:
    services.server.execute_command("ACL", "LOG", "RESET")
    environment = {
        **services.stack.environment,
        "DIFFEDIT_REDIS_URL": services.settings("client").redis_url.get_secret_value(),
        "DIFFEDIT_WEBHOOK_SECRETS": new_secret(),
        "DIFFEDIT_WEBHOOK_ALLOW": "127.0.0.0/8",
    }
    key = Client(services.settings("client")).add_api_key("u3").text
    command = [sys.executable, "-P", "-c", PROGRAM, "webhooks"]
    with (
        receiving() as receiver,
        started_program(command, environment, tmp_path / "webhooks.log"),
        served_process(environment, tmp_path) as server,
        httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {key}"}, timeout=60) as http,
    ):
        receiver.answers = [500]
        asked = {
            name: str(value) for name, value in {**PEAR, **slow(), "guidance_scale": 7.5, "feature_reuse": 1}.items()
        }
        files = {"image": PICTURE.read_bytes()}
        edit = http.post("/v1/edits", files=files, data={**asked, "webhook": receiver.url}).json()
        assert "event: preview" in http.get(edit["links"]["events"] + "?preview=true").text
        until(lambda: len(receiver.requests) >= 3, "an event that was refused, and two that were taken", 30)
        assert http.post(f"{edit['links']['self']}/webhook").status_code == 202
        until(lambda: len(receiver.requests) >= 4, "an event that was sent again", 30)
        events = {"started", "succeeded"}
        assert {headers["webhook-id"] for _, headers, _ in receiver.requests} == {f"{edit['id']}.{e}" for e in events}
        again = http.post(f"{edit['links']['self']}/retry", headers={"Idempotency-Key": "once"}).json()
        assert http.post(f"{again['links']['self']}/cancel").json()["state"] in ("cancelled", "succeeded")
        assert http.post("/v1/masks", files=files, data={**PEAR, "num_maps_per_mask": "2"}).status_code == 202
        assert len(http.get("/v1/edits").json()["data"]) == 3
        assert http.get("/v1/health").json()["status"] == "ok"
        assert [model["id"] for model in http.get("/v1/models").json()["data"]] == ["tiny"]
        assert http.delete(edit["links"]["self"]).status_code == 204
    assert services.server.execute_command("ACL", "LOG") == []


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize(
    "command",
    [
        "FLUSHALL",
        "FLUSHDB",
        "CONFIG GET requirepass",
        "KEYS *",
        "SCAN 0",
        "ACL LIST",
        "SHUTDOWN NOSAVE",
        "MONITOR",
        "CLIENT LIST",
        "REPLICAOF 127.0.0.1 1",
        "MODULE LIST",
        "FUNCTION LIST",
        "GET elsewhere",
        "SET elsewhere 1",
        "PUBLISH elsewhere 1",
    ],
)
def test_no_user_can_run_other_commands(services: TlsServices, user: str, command: str) -> None:
    server = redis.Redis.from_url(services.settings(user).redis_url.get_secret_value())
    with pytest.raises(redis.exceptions.NoPermissionError):
        server.execute_command(*command.split())


@pytest.mark.parametrize(
    "command", ["LRANGE diffedit.tiny.language 0 -1", "BRPOP diffedit.tiny.language 1", "PUBLISH /0.celery.pidbox 1"]
)
def test_a_client_cannot_read_queues_or_send_commands_to_workers(services: TlsServices, command: str) -> None:
    server = redis.Redis.from_url(services.settings("client").redis_url.get_secret_value())
    with pytest.raises(redis.exceptions.NoPermissionError):
        server.execute_command(*command.split())


@pytest.mark.parametrize("user", USERS)
def test_a_script_has_no_more_rights_than_its_user(services: TlsServices, user: str) -> None:
    server = redis.Redis.from_url(services.settings(user).redis_url.get_secret_value())
    script = "return redis.call('FLUSHALL')"
    may_load = "+script|load" in USERS[user]
    sha = server.script_load(script) if may_load else ""
    with pytest.raises(redis.exceptions.ResponseError, match="permissions|can't be run|NOPERM|ACL"):
        server.evalsha(sha, 0) if may_load else server.eval(script, 0)


def test_the_exporter_only_reads(services: TlsServices, tmp_path: Path) -> None:
    services.server.execute_command("ACL", "LOG", "RESET")
    environment = {"DIFFEDIT_REDIS_URL": services.settings("exporter").redis_url.get_secret_value()}
    log = tmp_path / "exporter.log"
    command = [sys.executable, "-P", "-c", PROGRAM, "exporter", "--host", "127.0.0.1", "--port", "0"]
    with started_program(command, environment, log):
        until(lambda: re.search(r"on port (\d+)", log.read_text()), "an exporter", 30)
        (port,) = re.findall(r"on port (\d+)", log.read_text())
        page = f"http://127.0.0.1:{port}/metrics"
        assert "diffedit_redis_up 1.0" in httpx.get(page, timeout=30).text
        idle = r'diffedit_workers\{group="diffusion",profile="tiny",state="idle",version=".*"\} 1.0'
        until(lambda: re.search(idle, httpx.get(page, timeout=30).text), "an idle worker")
        assert services.server.execute_command("ACL", "LOG") == []
        # It may not note a key that it cannot read, and goes on.
        services.server.set("diffedit:waiting:diffedit.tiny.language", "damaged")
        assert "diffedit_redis_up 1.0" in httpx.get(page, timeout=30).text
        services.server.delete("diffedit:waiting:diffedit.tiny.language")
    exporter = redis.Redis.from_url(services.settings("exporter").redis_url.get_secret_value(), driver_info=None)
    for command_line in ("HSET diffedit:x f v", "DEL diffedit:jobs", "ZADD diffedit:damaged 1 x", "EVAL return 0"):
        with pytest.raises(redis.exceptions.NoPermissionError):
            exporter.execute_command(*command_line.split())


LENGTH = """
local kind = redis.call('TYPE', KEYS[1]).ok
local counts = {zset = 'ZCARD', hash = 'HLEN', none = 'LLEN'}
return redis.call(counts[kind], KEYS[1])
"""
"""What KEDA's scaler "redis" sends with EVAL: the length of a key, whatever its type. An empty queue has no key."""


@pytest.mark.filterwarnings("ignore::diffedit.NoWorkerWarning")
def test_the_scaler_reads_how_many_jobs_wait_and_run_and_nothing_else(services: TlsServices) -> None:
    services.server.execute_command("ACL", "LOG", "RESET")
    # KEDA's client names itself as well (CLIENT SETINFO), and ignores that it may not.
    scaler = redis.Redis.from_url(
        services.settings("scaler").redis_url.get_secret_value(), protocol=3, driver_info=None
    )
    queue = queue_name("unserved", ModelGroup.LANGUAGE)
    assert scaler.ping()
    lengths = [scaler.eval(LENGTH, 1, f"diffedit:waiting:{queue}")]
    job = Client(services.settings("client")).edit(PICTURE, **PEAR, profile="unserved")
    lengths.append(scaler.eval(LENGTH, 1, f"diffedit:waiting:{queue}"))
    assert lengths == [0, 1]

    def runs_two() -> bool:
        # Again and again, because the leader deletes the entries of jobs that do not run.
        services.server.hset(f"diffedit:running:{queue}", mapping={job.id: "w1", "another": "w2"})
        return bool(scaler.eval(LENGTH, 1, f"diffedit:running:{queue}") == 2)

    until(runs_two, "the number of jobs that run")
    assert services.server.execute_command("ACL", "LOG") == []
    services.server.delete(f"diffedit:running:{queue}")
    assert job.cancel()
    for command in ("HGETALL diffedit:running:x", "ZRANGE diffedit:waiting:x 0 -1", "DEL diffedit:waiting:x"):
        with pytest.raises(redis.exceptions.NoPermissionError):
            scaler.execute_command(*command.split())
    with pytest.raises(redis.exceptions.NoPermissionError):
        scaler.eval(LENGTH, 1, f"diffedit:job:{job.id}")


@pytest.mark.parametrize(
    ("port", "more"),
    [
        ("untrusted_port", ""),
        ("untrusted_port", "?ssl_ca_certs={authority}"),
        ("untrusted_port", "?ssl_cert_reqs=required"),
        ("misnamed_port", "?ssl_ca_certs={authority}"),
    ],
)
def test_a_client_refuses_a_server_whose_certificate_it_cannot_verify(
    services: TlsServices, port: str, more: str
) -> None:
    """Both redis-py, for job records, and kombu, for messages, whose own default is to verify nothing."""
    url = services.url("client", getattr(services, port), more.format(authority=services.authority))
    settings = Settings(redis_url=url)
    with pytest.raises(BrokerUnavailable, match="CERTIFICATE_VERIFY_FAILED|certificate verify failed"):
        redis_backend(settings).job_store.ping()
    with pytest.raises(BrokerUnavailable, match="CERTIFICATE_VERIFY_FAILED|certificate verify failed"):
        redis_backend(settings).job_store.send(a_job())


def test_a_worker_refuses_a_server_whose_certificate_it_cannot_verify(services: TlsServices) -> None:
    untrusted = services.url("worker", services.untrusted_port)
    worker = services.stack.start_worker("untrusted", environment={"DIFFEDIT_REDIS_URL": untrusted})
    try:
        until(lambda: "Cannot connect to" in log_of(services.stack, "untrusted"), "a refused connection")
        assert "CERTIFICATE_VERIFY_FAILED" in log_of(services.stack, "untrusted")
    finally:
        services.stack.stop(worker)
