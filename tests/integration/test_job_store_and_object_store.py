"""Redis and S3 keep the promises that the doubles keep, and those that only real servers can break."""

import http.server
import json
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable

import pytest
import redis

from diffedit import (
    ArtifactError,
    BrokerFull,
    BrokerUnavailable,
    Client,
    OwnerLimits,
    QueueFull,
    Settings,
    Stage,
    State,
    StoreRefused,
    StoreUnavailable,
)
from diffedit.contract.job import Job
from diffedit.contract.object_keys import artifact_key, input_key
from diffedit.contract.stages import Artifact
from diffedit.errors import JobElsewhere
from diffedit.jobs.backend import DEFAULT_LIMITS, JobBackend, redis_backend
from diffedit.objects.s3 import S3ObjectStore
from tests.support.api_key_behaviour import ApiKeyBehaviour
from tests.support.async_behaviour import AsyncClientBehaviour
from tests.support.backend_behaviour import ME, at_mask
from tests.support.bulk_behaviour import BulkBehaviour
from tests.support.census_behaviour import CensusBehaviour
from tests.support.content_behaviour import FIRST, ContentBehaviour, complete, with_mask
from tests.support.factories import TEXTS, a_job, a_worker, done
from tests.support.fake_service import png
from tests.support.idempotency_behaviour import IdempotencyBehaviour, a_client
from tests.support.job_store_behaviour import JobStoreBehaviour
from tests.support.object_store_behaviour import ObjectStoreBehaviour
from tests.support.owner_behaviour import OwnerBehaviour
from tests.support.queue_behaviour import QueueBehaviour
from tests.support.refusal_behaviour import RefusalBehaviour
from tests.support.rescue_behaviour import RescueBehaviour
from tests.support.stage_behaviour import StageBehaviour
from tests.support.submission_behaviour import SubmissionBehaviour
from tests.support.usage_behaviour import UsageBehaviour
from tests.support.version_behaviour import VersionBehaviour
from tests.support.webhook_behaviour import WebhookBehaviour
from tests.support.worker_behaviour import ArtifactLocksBehaviour, WorkerRegistryBehaviour


@pytest.fixture
def server(settings: Settings) -> redis.Redis:
    return redis.Redis.from_url(settings.redis_url.get_secret_value(), decode_responses=True)


@pytest.fixture
def make_backend(settings: Settings, server: redis.Redis) -> Callable[..., JobBackend]:
    server.flushdb()
    server.set("diffedit:beating", "")  # workers have sent heartbeats before, so one without is dead
    return lambda limits=DEFAULT_LIMITS, **other: redis_backend(settings.model_copy(update=other), limits)


@pytest.fixture
def backend(make_backend: Callable[..., JobBackend]) -> JobBackend:
    return make_backend()


@pytest.fixture
def rewrite(server: redis.Redis) -> Callable[..., None]:
    def rewrite(backend: JobBackend, job: Job, **fields: str | None) -> None:
        for name, value in fields.items():
            record = f"diffedit:job:{job.id}"
            server.hdel(record, name) if value is None else server.hset(record, name, value)

    return rewrite


@pytest.fixture
def silence(server: redis.Redis) -> Callable[[JobBackend], None]:
    return lambda backend: server.delete("diffedit:beating", *server.keys("diffedit:worker:*"))


@pytest.fixture
def object_store(settings: Settings) -> S3ObjectStore:
    return S3ObjectStore(settings)


class TestRedisBackend(
    StageBehaviour,
    JobStoreBehaviour,
    IdempotencyBehaviour,
    OwnerBehaviour,
    QueueBehaviour,
    UsageBehaviour,
    RefusalBehaviour,
    RescueBehaviour,
    ContentBehaviour,
    SubmissionBehaviour,
    AsyncClientBehaviour,
    BulkBehaviour,
    VersionBehaviour,
    WorkerRegistryBehaviour,
    ArtifactLocksBehaviour,
    CensusBehaviour,
    ApiKeyBehaviour,
    WebhookBehaviour,
):
    pass


class TestS3ObjectStore(ObjectStoreBehaviour):
    pass


def test_a_status_is_one_round_trip(backend: JobBackend, server: redis.Redis) -> None:
    job = backend.job_store.create_job(a_job())
    backend.job_store.status(job)
    before = server.info("commandstats")
    backend.job_store.status(job)
    after = server.info("commandstats")
    calls = {
        name: stats["calls"] - before.get(name, {"calls": 0})["calls"]
        for name, stats in after.items()
        if name != "cmdstat_info"
    }
    assert {name: count for name, count in calls.items() if count} == {"cmdstat_hgetall": 1}


def test_a_parked_job_gets_its_message_when_there_is_room(backend: JobBackend, server: redis.Redis) -> None:
    backend.worker_registry.send_heartbeat(a_worker(id=ME))
    store = backend.job_store
    store.set_owner_limits("u1", OwnerLimits(max_running=1))
    running, *parked = (a_job(owner="u1") for _ in range(3))
    for job in (running, *parked):
        store.create_job(job)
    store.start_stage(running.id, Stage.EMBED, ME)
    for job in parked:
        store.park_job(job)
    waiting = f"diffedit:waiting:{running.queue}"
    assert (server.llen(running.queue), server.zcard(waiting)) == (0, 2)
    store.end_job(running.id, State.CANCELLED)
    assert [parked[0].id in message for message in server.lrange(running.queue, 0, -1)] == [True]
    server.delete(running.queue)  # as if the worker that received it had died
    assert store.jobs_without_message(0) == [parked[0].id]
    store.park_job(parked[0])  # there is room, so it gets a message at once
    assert server.llen(running.queue) == 1
    server.zadd(f"diffedit:parked:{running.queue}", {parked[1].id: 1})  # parked for more than ten minutes
    assert store.jobs_without_message(0) == [parked[1].id]
    store.set_owner_limits("u1", None)
    assert server.llen(running.queue) == 2
    assert not server.keys("diffedit:parked*")
    for job in parked:
        store.end_job(job.id, State.CANCELLED)
    assert not server.keys("diffedit:open:*") + server.keys("diffedit:started:*")


def test_owners_whose_jobs_an_older_version_ended_are_not_busy_for_ever(
    backend: JobBackend, server: redis.Redis
) -> None:
    backend.worker_registry.send_heartbeat(a_worker(id=ME))
    backend.job_store.set_owner_limits("u1", OwnerLimits(max_running=1, max_queued=2))
    first, second, third = (a_job(owner="u1") for _ in range(3))
    backend.job_store.create_job(first)
    backend.job_store.start_stage(first.id, Stage.EMBED, ME)
    backend.job_store.create_job(second)
    server.hset(f"diffedit:job:{first.id}", "outcome", "succeeded")
    server.hdel("diffedit:running", first.id)
    assert backend.job_store.start_stage(second.id, Stage.EMBED, ME).state is State.RUNNING
    backend.job_store.create_job(third)
    server.hset(f"diffedit:job:{third.id}", "outcome", "cancelled")
    backend.job_store.create_job(a_job(owner="u1"))
    backend.job_store.create_job(a_job(owner="u1"))
    assert server.zcard("diffedit:open:u1") == 3


def test_the_indexes_of_an_owner_and_of_a_picture_end(backend: JobBackend, server: redis.Redis) -> None:
    jobs = [a_job(owner="u1") for _ in range(4)]
    index, uses = "diffedit:owner:u1", f"diffedit:uses:{jobs[0].request.image}"
    for job in jobs[:3]:
        backend.job_store.create_job(job)
        backend.job_store.end_job(job.id, State.CANCELLED)
    server.delete(*(f"diffedit:job:{job.id}" for job in jobs[:2]))  # as when their time is over
    backend.job_store.create_job(jobs[3])
    for name in (index, uses, "diffedit:jobs"):
        assert server.zrange(name, 0, -1) == [job.id for job in jobs[2:]]
    assert all(0 < server.ttl(name) <= 37 * 24 * 3600 for name in (index, uses))
    server.delete(index)  # as when the owner was away for long
    backend.job_store.end_job(jobs[3].id, State.CANCELLED)
    assert server.zrange(index, 0, -1) == [jobs[3].id] and server.ttl(index) > 0


def test_records_expire_from_their_end_and_never_before(settings: Settings, server: redis.Redis) -> None:
    server.flushdb()
    backend = redis_backend(settings.model_copy(update={"retention": 100}))
    key = uuid.uuid4().hex
    job = backend.job_store.create_job(a_job(), key)
    backend.job_store.start_stage(job, Stage.EMBED, "w")
    names = [f"diffedit:job:{job}", f"diffedit:idempotency:{key}"]
    assert [server.ttl(name) for name in names] == [-1, -1]
    backend.job_store.end_job(job, State.CANCELLED)
    assert all(90 < server.ttl(name) <= 100 for name in names)


def test_a_key_lies_where_version_0_2_0_looks_for_it(backend: JobBackend, server: redis.Redis) -> None:
    job = a_client(backend).edit(png(), **TEXTS, idempotency_key="order:42")
    assert server.get("diffedit:idempotency:order:42") == job.id


def test_a_key_with_a_namespace_expires_with_its_job(backend: JobBackend, server: redis.Redis) -> None:
    job = a_client(backend, namespace="shop").edit(png(), **TEXTS, idempotency_key="order:42")
    # The scripts of every version find the key by what the record says.
    name = f"diffedit:idempotency:{server.hget(f'diffedit:job:{job.id}', 'idempotency')}"
    assert (server.get(name), server.ttl(name)) == (job.id, -1)
    job.cancel()
    assert server.pexpiretime(name) == server.pexpiretime(f"diffedit:job:{job.id}") > 0


def test_the_content_of_a_key_is_known_for_as_long_as_a_record_is_kept(settings: Settings, server: redis.Redis) -> None:
    server.flushdb()
    backend = redis_backend(settings.model_copy(update={"retention": 100}))
    job = with_mask(at_mask(backend), FIRST)
    complete(backend, job)
    key = job.artifact_keys[Artifact.MASK]
    assert 90 < server.ttl(f"diffedit:content:{key}") <= 100
    server.expire(f"diffedit:content:{key}", 10)
    complete(backend, with_mask(at_mask(backend), FIRST, key))
    assert 90 < server.ttl(f"diffedit:content:{key}") <= 100


@pytest.mark.parametrize("content", ["blake3 1234", "", "\N{SNOWMAN}"])
def test_a_content_in_a_form_that_only_another_version_knows_is_unknown(
    backend: JobBackend, server: redis.Redis, content: str
) -> None:
    job = with_mask(at_mask(backend), FIRST)
    complete(backend, job)
    key = job.artifact_keys[Artifact.MASK]
    server.set(f"diffedit:content:{key}", content)
    server.hset(f"diffedit:job:{job.id}", "content:mask", f"{content} 1")
    assert backend.job_store.contents_of([key]) == {}
    assert backend.job_store.status(job.id).contents == {}


def test_expired_records_leave_the_list(backend: JobBackend, server: redis.Redis) -> None:
    jobs = [backend.job_store.create_job(a_job()) for _ in range(60)]
    server.delete(*(f"diffedit:job:{job}" for job in jobs[5:55]))
    assert [status.id for status in backend.job_store.list_jobs(limit=10).statuses] == (jobs[:5] + jobs[55:])[::-1]
    assert server.zcard("diffedit:jobs") == 10


def test_a_record_that_cannot_be_read_is_left_out_of_the_list(backend: JobBackend, server: redis.Redis) -> None:
    jobs = [backend.job_store.create_job(a_job()) for _ in range(3)]
    server.hset(f"diffedit:job:{jobs[1]}", "request", "{}")
    assert [status.id for status in backend.job_store.list_jobs().statuses] == [jobs[2], jobs[0]]


def test_the_list_does_not_grow_for_ever(backend: JobBackend, server: redis.Redis) -> None:
    for _ in range(20):
        server.delete(f"diffedit:job:{backend.job_store.create_job(a_job())}")  # as its expiry does
    assert server.zcard("diffedit:jobs") <= 3


def messages_in(server: redis.Redis, job: Job) -> list[tuple[str, str]]:
    """Return the task and the job of each message in the queue of the job's first stage left."""
    headers = [json.loads(text)["headers"] for text in server.lrange(job.queue, 0, -1)]
    return [(each["task"], each["job_id"]) for each in headers if each["job_id"] == job.id]


def test_a_job_is_recorded_and_sent_in_one_step(backend: JobBackend, server: redis.Redis, settings: Settings) -> None:
    job, repeated = a_job(), a_job()
    before = server.info("commandstats")["cmdstat_evalsha"]["calls"]
    backend.job_store.create_job(job, key := uuid.uuid4().hex, send=True)
    assert server.info("commandstats")["cmdstat_evalsha"]["calls"] == before + 1
    assert messages_in(server, job) == [("diffedit.embed", job.id)]

    assert backend.job_store.create_job(job, key, send=True) == job.id  # the first answer was lost
    assert backend.job_store.create_job(repeated, key, send=True) == job.id
    full = redis_backend(settings.model_copy(update={"max_queued": 1}))
    with pytest.raises(QueueFull):
        full.job_store.create_job(repeated, send=True)
    assert messages_in(server, job) == [("diffedit.embed", job.id)]
    assert messages_in(server, repeated) == []


def test_a_job_is_not_sent_unless_it_is_asked_for(backend: JobBackend, server: redis.Redis) -> None:
    job = a_job()
    backend.job_store.create_job(job)
    assert messages_in(server, job) == []
    backend.job_store.start_stage(job.id, Stage.EMBED, "w")
    embedded = done(job, Stage.EMBED)
    backend.job_store.complete_stage(embedded, Stage.EMBED, 0.1, Stage.EMBED.gives, "w")
    assert messages_in(server, embedded) == []
    backend.job_store.send(embedded)
    assert messages_in(server, embedded) == [("diffedit.mask", job.id)]


def test_a_finished_stage_sends_the_next_one_in_the_same_step(backend: JobBackend, server: redis.Redis) -> None:
    job = a_job()
    backend.job_store.create_job(job)
    backend.job_store.start_stage(job.id, Stage.EMBED, "w")
    embedded = done(job, Stage.EMBED)
    backend.job_store.complete_stage(embedded, Stage.EMBED, 0.1, Stage.EMBED.gives, "w", send=True)
    assert messages_in(server, embedded) == [("diffedit.mask", job.id)]
    with pytest.raises(JobElsewhere):  # repeated, because the first answer was lost
        backend.job_store.complete_stage(embedded, Stage.EMBED, 0.1, Stage.EMBED.gives, "w", send=True)
    assert messages_in(server, embedded) == [("diffedit.mask", job.id)]


def test_a_job_that_has_ended_meanwhile_is_not_sent(backend: JobBackend, server: redis.Redis) -> None:
    job = a_job()
    backend.job_store.create_job(job)
    backend.job_store.start_stage(job.id, Stage.EMBED, "w")
    backend.job_store.end_job(job.id, State.CANCELLED)
    embedded = done(job, Stage.EMBED)
    completion = backend.job_store.complete_stage(embedded, Stage.EMBED, 0.1, Stage.EMBED.gives, "w", send=True)
    assert completion.outcome is State.CANCELLED
    assert messages_in(server, embedded) == []


def test_what_is_no_list_makes_room_for_the_message_of_a_new_job(backend: JobBackend, server: redis.Redis) -> None:
    job = a_job()
    server.delete(job.queue)
    server.set(job.queue, "no list")
    backend.job_store.create_job(job, send=True)
    assert messages_in(server, job) == [("diffedit.embed", job.id)]
    assert job.queue in backend.job_store.damaged_keys()


def test_a_server_whose_memory_is_used_up_refuses_new_jobs_and_serves_those_it_has(
    backend: JobBackend, server: redis.Redis, settings: Settings
) -> None:
    backend.worker_registry.send_heartbeat(a_worker(id="w"))
    job, queued = a_job(), a_job()
    backend.job_store.create_job(job)
    server.config_set("maxmemory", 1)
    try:
        before = set(server.keys())
        with pytest.raises(BrokerFull, match="maxmemory"):
            backend.job_store.create_job(a_job(start_timeout=9), "key")
        with pytest.raises(BrokerFull):
            redis_backend(settings).job_store.send(queued)
        assert set(server.keys()) == before
        backend.worker_registry.send_heartbeat(a_worker(id="w"))
        backend.job_store.start_stage(job.id, Stage.EMBED, "w")
        backend.job_store.report_step(job.id, 1, 2, "w")
        backend.job_store.requeue(job, "w")
        backend.job_store.end_job(job.id, State.CANCELLED)
    finally:
        server.config_set("maxmemory", 0)
    assert backend.job_store.status(job.id).state is State.CANCELLED


def test_an_idempotency_key_outlives_nothing_but_its_job(backend: JobBackend, server: redis.Redis) -> None:
    first = backend.job_store.create_job(a_job(), "key")
    server.delete(f"diffedit:job:{first}")
    second = a_job()
    assert backend.job_store.create_job(second, "key") == second.id


def test_a_worker_that_dies_is_forgotten(backend: JobBackend, server: redis.Redis) -> None:
    backend.worker_registry.send_heartbeat(a_worker(id="w"))
    assert 0 < server.ttl("diffedit:worker:w") <= 20
    server.delete("diffedit:worker:w")  # as its expiry does
    assert backend.worker_registry.workers() == []
    assert not server.exists("diffedit:workers")


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", "redis://:wrong@{place}"])
def test_a_broker_that_does_not_serve_us_is_a_typed_error(settings: Settings, url: str) -> None:
    place = settings.redis_url.get_secret_value().rpartition("@")[2]
    backend = redis_backend(Settings(redis_url=url.format(place=place)))
    with pytest.raises(BrokerUnavailable, match="DIFFEDIT_REDIS_URL"):
        backend.job_store.ping()


@pytest.mark.parametrize(
    "change",
    [{"s3_endpoint_url": "http://127.0.0.1:1"}, {"aws_secret_access_key": "wrong"}, {"aws_access_key_id": "wrong"}],
)
def test_a_store_that_does_not_serve_us_is_a_typed_error(settings: Settings, change: dict) -> None:
    object_store = S3ObjectStore(Settings(**{**settings.model_dump(), **change}))
    for ask in (
        object_store.ping,
        lambda: object_store.get(input_key(b"x", "png")),
        lambda: object_store.put(input_key(b"x", "png"), b"x"),
    ):
        with pytest.raises(StoreUnavailable):
            ask()


def test_health_says_what_is_wrong_and_raises_nothing(settings: Settings) -> None:
    assert Client(settings).health().broker == Client(settings).health().object_store == "ok"
    nowhere = {"redis_url": "redis://127.0.0.1:1/0", "s3_endpoint_url": "http://127.0.0.1:1"}
    down = Client(Settings(**{**settings.model_dump(), **nowhere})).health()
    assert not down.ok
    assert "DIFFEDIT_REDIS_URL" in down.broker
    assert "DIFFEDIT_S3_ENDPOINT_URL" in down.object_store


def test_a_missing_bucket_is_named(settings: Settings) -> None:
    elsewhere = settings.model_copy(update={"s3_bucket": "elsewhere"})
    with pytest.raises(StoreRefused, match="no bucket 'elsewhere'"):
        S3ObjectStore(elsewhere).ping()
    assert "no bucket" in Client(elsewhere).health().object_store


def test_a_missing_object_is_not_taken_for_a_missing_bucket(settings: Settings, object_store: S3ObjectStore) -> None:
    with pytest.raises(ArtifactError):
        object_store.get(input_key(b"never stored", "png"))


class Boundless(http.server.BaseHTTPRequestHandler):
    """Promises an object of 5 GB, and never comes to send it."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(5 * 2**30))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_an_object_of_any_size_is_refused_before_it_is_read(settings: Settings) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Boundless) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        elsewhere = settings.model_copy(update={"s3_endpoint_url": f"http://127.0.0.1:{server.server_port}"})
        for key in (input_key(b"x", "png"), artifact_key("mask", "ab" * 32, "png")):
            with pytest.raises(ArtifactError, match=r"has 5120\.0 MiB"):
                S3ObjectStore(elsewhere).get(key)
        server.shutdown()


def test_a_presigned_url_serves_strangers_until_it_expires(object_store: S3ObjectStore) -> None:
    key = input_key(b"some bytes", "png")
    object_store.put(key, b"some bytes")
    url = object_store.url(key, expires=3)  # of whole seconds
    with urllib.request.urlopen(url) as response:
        assert response.read() == b"some bytes"
    deadline = time.monotonic() + 10
    while (status := _status(url)) == 200:
        assert time.monotonic() < deadline, "the link never expires"
        time.sleep(0.2)
    assert status in (400, 403)  # rclone and AWS differ
    assert _status(url.partition("?")[0]) in (400, 403)


def _status(url: str) -> int:
    try:
        with urllib.request.urlopen(url) as response:
            return response.status
    except urllib.error.HTTPError as error:
        return error.code


def test_what_is_stored_survives_for_another_client_process(settings: Settings, stack) -> None:
    S3ObjectStore(settings).put(input_key(b"shared", "json"), b"shared")
    code = (
        "from diffedit import Settings; from diffedit.objects.s3 import S3ObjectStore;"
        "from diffedit.contract.object_keys import input_key;"
        "assert S3ObjectStore(Settings.from_env()).get(input_key(b'shared', 'json')) == b'shared'"
    )
    subprocess.run([sys.executable, "-c", code], env=stack.environment, check=True)
