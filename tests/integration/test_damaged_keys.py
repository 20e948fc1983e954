"""Whatever somebody puts into a key of Redis: it is skipped and shown, and everything else goes on. A real Valkey."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
import redis

from diffedit import BadRecord, Client, Settings, Stage, State
from diffedit.contract.stages import Artifact, Lane
from diffedit.jobs import keys
from diffedit.jobs.backend import redis_backend
from diffedit.jobs.workers import LockResult, Trouble, TroubleKind
from diffedit.objects.memory import MemoryObjectStore
from diffedit_worker.runtime.maintenance import Maintenance
from diffedit_worker.settings import WorkerSettings
from tests.support.contexts import a_context, a_fitness
from tests.support.factories import PEAR, PICTURE, QUICK, a_job, a_worker, done
from tests.support.waiting import until

pytestmark = [
    pytest.mark.filterwarnings("ignore::diffedit.NoWorkerWarning"),
    pytest.mark.filterwarnings("ignore::diffedit.UnreadableJobsWarning"),
]

TTL = 1.0
ME = "me"
KEY = "order:42"


class Scene:
    """A worker that runs `victim`, whose keys a test damages, and `other`, a job in another lane without a message.

    Attributes:
        sent: the ids of the jobs that maintenance has sent.
    """

    def __init__(self, settings: Settings, server: redis.Redis, ttl: float = TTL) -> None:
        worker_settings = WorkerSettings(**settings.model_dump(), worker_ttl=ttl)
        self.server, self.sent, running = server, [], []
        self.backend = redis_backend(settings, worker_settings.limits)
        self.job_store, registry = self.backend.job_store, self.backend.worker_registry
        self.client = Client(settings, backend=self.backend, object_store=MemoryObjectStore(), send=lambda job: None)
        self.maintenance = Maintenance(
            self.job_store,
            registry,
            worker_settings,
            a_worker(id=ME),
            a_context(id=ME, enqueue=lambda job: self.sent.append(job.id)),
            a_fitness(self.backend),
            running_stages=lambda: running,
            object_store=MemoryObjectStore(),
        )
        self.maintenance.heartbeat.send()
        trouble = {"kind": TroubleKind.PAUSED, "code": "store_refused", "message": "AccessDenied", "since": 0}
        registry.report_trouble(Trouble(name="rig", **trouble))
        self.victim, self.other = a_job(), a_job(lane=Lane.BATCH)
        self.job_store.create_job(self.victim, KEY)
        self.job_store.start_stage(self.victim.id, Stage.EMBED, ME)
        self.job_store.create_job(self.other)
        server.zadd(keys.WAITING + self.other.queue, {self.other.id: time.time() - 60})

    def maintain(self) -> None:
        for thread in self.maintenance.threads:
            thread.run_once()

    def assert_all_others_go_on(self) -> None:
        """Do what clients and workers do, apart from the victim, which a page watches."""
        assert self.job_store.preview(self.victim.id) is None
        self.client.jobs()
        health = self.client.health()
        assert (health.broker, health.object_store) == ("ok", "ok")
        assert self.client.collect_garbage("1d").in_use == 0
        for key in (KEY, None):
            self.client.edit(PICTURE, **PEAR, **QUICK, idempotency_key=key)

        def rescued() -> bool:
            self.maintain()
            return self.other.id in self.sent

        until(rescued, "the rescue of the other job", timeout=30)
        assert self.sent.count(self.other.id) == 1
        (started,) = [self.client.edit(PICTURE, **PEAR, **QUICK)]
        assert self.job_store.start_stage(started.id, Stage.EMBED, ME).state is State.RUNNING
        assert self.job_store.end_job(self.other.id, State.CANCELLED) is State.CANCELLED


@pytest.fixture
def server(settings: Settings) -> redis.Redis:
    return redis.Redis.from_url(settings.redis_url.get_secret_value(), decode_responses=True)


@pytest.fixture
def scene(settings: Settings, server: redis.Redis, request: pytest.FixtureRequest) -> Scene:
    """A scene, of workers with another TTL if the test has it as a parameter of this fixture."""
    server.flushdb()
    server.set(keys.BEATING, "")
    return Scene(settings, server, getattr(request, "param", TTL))


ARTIFACT = "artifacts/embeddings/" + "ab/" + "ab" * 32 + ".safetensors"
NAMES: dict[str, Callable[[Scene], str]] = {
    "a record": lambda scene: keys.job_key(scene.victim.id),
    "the index": lambda scene: keys.INDEX,
    "the running jobs": lambda scene: keys.RUNNING,
    "the waiting jobs": lambda scene: keys.WAITING + scene.victim.queue,
    "the waiting queues": lambda scene: keys.WAITING_QUEUES,
    "the expiring jobs": lambda scene: keys.EXPIRING,
    "the refused jobs": lambda scene: keys.REFUSED,
    "a queue": lambda scene: scene.victim.queue,
    "the workers": lambda scene: keys.WORKERS,
    "a heartbeat": lambda scene: keys.HEARTBEAT + ME,
    "the troubles": lambda scene: keys.TROUBLES,
    "a trouble": lambda scene: keys.TROUBLE + "rig",
    "the stage counters": lambda scene: keys.STAGES + str(int(time.time() // 60)),
    "the profiles": lambda scene: keys.PROFILES,
    "the presets": lambda scene: keys.PRESETS,
    "the leader": lambda scene: keys.LEADER,
    "a lock": lambda scene: keys.LOCK + ARTIFACT,
    "the waiters": lambda scene: keys.WAITERS + ARTIFACT,
    "an idempotency key": lambda scene: keys.IDEMPOTENCY + KEY,
    "a content": lambda scene: keys.CONTENT + ARTIFACT,
    "the sign of heartbeats": lambda scene: keys.BEATING,
    "the sign of an outage": lambda scene: keys.OUTAGE,
    "a preview": lambda scene: keys.PREVIEW + scene.victim.id,
    "the sign of a watcher": lambda scene: keys.WATCHED + scene.victim.id,
    "the damaged keys": lambda scene: keys.DAMAGED,
    "a backlog": lambda scene: keys.BACKLOG + scene.victim.queue,
    "the running jobs of a queue": lambda scene: keys.RUNNING_IN + scene.victim.queue,
    "the paused queues": lambda scene: keys.PAUSED,
    "the sign that messages are held back": lambda scene: keys.HOLDING + scene.victim.queue,
    "the usage of a day": lambda scene: f"{keys.USAGE}{datetime.now(UTC):%Y%m%d}",
}
HASHES = {
    *("a record", "the running jobs", "the stage counters", "the profiles", "the presets"),
    *("the running jobs of a queue", "the paused queues", "the usage of a day"),
}
TEXTS = ["no JSON", "1e300", "NaN", '{"memory": 1e300, "contract": NaN, "queues": 1e300, "since": 1e300}', "[" * 10_000]


ENTRIES = {
    "the waiting jobs": "zset",
    "the expiring jobs": "zset",
    "the refused jobs": "zset",
    "the damaged keys": "zset",
    "the waiters": "set",
    "a queue": "list",
    "the stage counters": "hash",
    "a backlog": "zset",
    "the running jobs of a queue": "hash",
    "the paused queues": "hash",
    "the usage of a day": "hash",
}
"""The types of keys that may not exist at first. All others are texts."""


def garble(scene: Scene, kind: str, text: str) -> None:
    """Put this text, without an expiry, wherever a key of the right type has a text or a number."""
    name, server = NAMES[kind](scene), scene.server
    exists = server.type(name)
    match ENTRIES.get(kind, "string") if exists == "none" else exists:
        case "hash":
            server.hset(name, mapping=dict.fromkeys([*server.hkeys(name), "done", text], text))
        case "zset":
            server.zadd(name, {text: 1e300, f"{text} ": "-inf"})
        case "set":
            server.sadd(name, text, "queues", "elsewhere", keys.INDEX)
        case "list":
            server.lpush(name, text)
        case "string":
            server.set(name, text)


@pytest.mark.parametrize("kind", NAMES)
def test_a_key_of_another_type_stops_nothing_and_is_shown(scene: Scene, kind: str) -> None:
    name = NAMES[kind](scene)
    scene.server.delete(name)
    scene.server.set(name, "a") if kind in HASHES else scene.server.hset(name, "a", "b")
    scene.assert_all_others_go_on()
    # A lock, waiters and a content are looked at when a job needs them. A key that only says yes or no has no type.
    if kind not in {"a lock", "the waiters", "a content", "the damaged keys"} and "sign" not in kind:
        assert name in scene.client.health().damaged


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text[:8])
@pytest.mark.parametrize("kind", NAMES)
def test_a_text_or_a_number_that_means_nothing_stops_nothing(scene: Scene, kind: str, text: str) -> None:
    garble(scene, kind, text)
    scene.assert_all_others_go_on()


@pytest.mark.parametrize("field", ["created", "started", "finished", "step", "retries", "retention", "attempts:embed"])
@pytest.mark.parametrize("value", ["1e300", "-1", "nan", "inf", "9" * 5000, "many"])
def test_a_record_with_a_number_out_of_range_fails_its_job_alone(scene: Scene, field: str, value: str) -> None:
    scene.server.hset(keys.job_key(scene.victim.id), field, value)
    scene.assert_all_others_go_on()
    assert scene.server.hget(keys.RUNNING, scene.victim.id) is None
    scene.job_store.end_job(scene.victim.id, State.CANCELLED)
    assert scene.server.ttl(keys.job_key(scene.victim.id)) > 0


def test_a_record_of_another_type_is_a_bad_record_and_nobody_looks_after_it(scene: Scene) -> None:
    name, store = keys.job_key(scene.victim.id), scene.job_store
    scene.server.delete(name)
    scene.server.set(name, "precious")
    scene.maintain()
    for ask in (
        lambda: store.status(scene.victim.id),
        lambda: store.start_stage(scene.victim.id, Stage.EMBED, ME),
        lambda: store.end_job(scene.victim.id, State.CANCELLED),
        lambda: store.requeue(scene.victim),
    ):
        with pytest.raises(BadRecord, match=scene.victim.id):
            ask()
    assert store.list_jobs().unreadable == [scene.victim.id]
    assert not {*store.abandoned_jobs(), *store.jobs_held_by(ME), *store.jobs_without_message(0)} & {scene.victim.id}
    assert scene.server.get(name) == "precious"
    assert name in store.damaged_keys()


def test_a_job_without_a_record_is_forgotten(scene: Scene) -> None:
    scene.server.delete(*(keys.job_key(job.id) for job in (scene.victim, scene.other)))
    scene.maintain()
    assert scene.server.hgetall(keys.RUNNING) == scene.job_store.waiting_jobs() == {}
    assert scene.sent == []


@pytest.mark.parametrize("damaged", ["waiters", "lock", "content", "stages"])
def test_a_damaged_key_of_one_artifact_does_not_prevent_the_end_of_a_stage(scene: Scene, damaged: str) -> None:
    job = done(scene.victim, Stage.EMBED)
    artifacts = [job.artifact_keys[each] for each in Stage.EMBED.gives]
    assert scene.backend.artifact_locks.acquire(artifacts, job.id, ME) is LockResult.ACQUIRED
    name = {
        "waiters": keys.WAITERS + artifacts[0],
        "lock": keys.LOCK + artifacts[0],
        "content": keys.CONTENT + artifacts[0],
        "stages": NAMES["the stage counters"](scene),
    }[damaged]
    scene.server.delete(name)
    scene.server.zadd(name, {"a": 1})
    job = job.with_artifacts(job.artifact_keys, {Artifact.EMBEDDINGS: f"{'ab' * 32} 1"})
    assert scene.job_store.complete_stage(job, Stage.EMBED, 1.0, [Artifact.EMBEDDINGS], ME).outcome is None
    assert scene.job_store.recent_stages().done == 1


def test_a_leader_and_a_heartbeat_without_an_expiry_do_not_hold_for_ever(scene: Scene) -> None:
    scene.server.set(keys.LEADER, "nobody")
    scene.server.set(keys.HEARTBEAT + "nobody", "{}")
    scene.server.sadd(keys.WORKERS, "nobody")
    scene.server.hset(keys.RUNNING, scene.other.id, "nobody")

    def rescued() -> bool:
        scene.maintain()
        return scene.other.id in scene.sent

    until(rescued, "the rescue of the job", timeout=30)


def test_a_record_cannot_reach_the_keys_of_others(scene: Scene) -> None:
    server, mine = scene.server, keys.job_key(scene.victim.id)
    scene.job_store.create_job(theirs := a_job(), "theirs")
    server.hset(mine, mapping={"idempotency": "theirs", "queue": "queues"})
    before = server.smembers(keys.WAITING_QUEUES)
    assert scene.job_store.end_job(scene.victim.id, State.CANCELLED) is State.CANCELLED
    assert server.get(keys.IDEMPOTENCY + "theirs") == theirs.id
    assert server.ttl(keys.IDEMPOTENCY + "theirs") == -1
    assert server.smembers(keys.WAITING_QUEUES) == before


@pytest.mark.parametrize("scene", [5.0], indirect=True, ids=["ttl"])
@pytest.mark.parametrize("lost", ["memory", "expired"])
def test_after_an_outage_no_worker_counts_as_dead_until_it_has_had_its_time(scene: Scene, lost: str) -> None:
    """As after a pause of the server: all heartbeats have expired, and the leader is the first to be back."""
    scene.server.hset(keys.RUNNING, scene.victim.id, "works on")
    scene.server.delete(keys.BEATING, *scene.server.keys(keys.HEARTBEAT + "*"))
    if lost == "memory":
        scene.server.delete(keys.WORKERS, keys.LEADER, keys.OUTAGE)
    for _ in range(3):
        scene.maintain()
    assert scene.victim.id in scene.job_store.abandoned_jobs()
    assert scene.victim.id not in scene.sent
    with pytest.raises(Exception, match="another worker"):
        scene.job_store.start_stage(scene.victim.id, Stage.EMBED, ME)
    assert scene.job_store.report_step(scene.victim.id, 1, 2, "works on").outcome is None

    def rescued() -> bool:
        scene.maintain()
        return scene.victim.id in scene.sent

    until(rescued, "the rescue of the job of a worker that does not come back", timeout=30)
