"""Whose message is the next one in a queue: owners take turns, batch jobs age, and nothing stops a queue."""

import itertools
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
import redis

from diffedit import OwnerLimits, Settings
from diffedit.contract.job import Job, State
from diffedit.contract.stages import Lane, ModelGroup, Stage, queue_name
from diffedit.errors import JobElsewhere, JobNotFound
from diffedit.jobs import keys
from diffedit.jobs.backend import JobBackend, redis_backend
from diffedit.jobs.messages import queue_message
from diffedit.jobs.store import JobStore
from diffedit.jobs.workers import WorkerLimits
from tests.support.backend_behaviour import ME
from tests.support.factories import a_job, a_worker, done

LANGUAGE, DIFFUSION = (queue_name("tiny", group) for group in ModelGroup)
BATCH = queue_name("tiny", ModelGroup.LANGUAGE, Lane.BATCH)
WINDOW = 4


@pytest.fixture
def server(settings: Settings) -> redis.Redis:
    server = redis.Redis.from_url(settings.redis_url.get_secret_value(), decode_responses=True)
    server.flushdb()
    return server


@pytest.fixture
def make_backend(settings: Settings, server: redis.Redis) -> Callable[..., JobBackend]:
    def make(**limits: float) -> JobBackend:
        backend = redis_backend(settings, WorkerLimits(**limits))
        backend.worker_registry.send_heartbeat(a_worker(id=ME))
        return backend

    return make


@pytest.fixture
def store(make_backend: Callable[..., JobBackend]) -> JobStore:
    return make_backend().job_store


def submit(store: JobStore, count: int, owner: str | None = None, **options: object) -> list[Job]:
    jobs = [a_job(owner=owner, **options) for _ in range(count)]
    for job in jobs:
        store.create_job(job, send=True)
    return jobs


def id_in(message: str) -> str:
    return str(json.loads(message)["headers"]["job_id"])


def take(server: redis.Redis, queue: str = LANGUAGE) -> str | None:
    """Take the next message as a worker does. Return the id of its job."""
    message = server.rpop(queue)
    return id_in(message) if message else None


def served(store: JobStore, server: redis.Redis, queue: str = LANGUAGE) -> Iterator[str]:
    """Start the next job and end it, until no message is left. Yield its id."""
    while job_id := take(server, queue):
        store.start_stage(job_id, Stage.EMBED, ME)
        store.end_job(job_id, State.CANCELLED, worker=ME)
        yield job_id


def owners_of(jobs: dict[str, list[Job]], ids: Iterator[str]) -> Iterator[str]:
    owner_of = {job.id: owner for owner, each in jobs.items() for job in each}
    return (owner_of[job_id] for job_id in ids)


def test_owners_take_turns_whoever_queued_how_much(store: JobStore, server: redis.Redis) -> None:
    jobs = {owner: submit(store, count, owner) for owner, count in (("big", 60), ("b", 10), ("c", 10), ("d", 10))}
    order = list(owners_of(jobs, served(store, server)))
    assert order[:WINDOW] == ["big"] * WINDOW
    for turn in range(WINDOW, WINDOW + 40, 4):
        assert sorted(order[turn : turn + 4]) == ["b", "big", "c", "d"]
    assert order[WINDOW + 40 :] == ["big"] * (60 - WINDOW - 10)
    assert not server.keys(keys.BACKLOG + "*") + server.keys(keys.RUNNING_IN + "*")


def test_jobs_of_one_owner_start_in_the_order_of_their_submission(store: JobStore, server: redis.Redis) -> None:
    jobs = {"a": submit(store, 20, "a"), "b": submit(store, 20, "b")}
    order = list(served(store, server))
    for each in jobs.values():
        ids = [job.id for job in each]
        assert [job_id for job_id in order if job_id in ids] == ids


def test_a_job_of_a_small_owner_is_not_behind_those_of_a_big_one(store: JobStore, server: redis.Redis) -> None:
    submit(store, 300, "big")
    started = served(store, server)
    for _ in range(50):
        next(started)
    (small,) = submit(store, 1, "small")
    assert small.id in itertools.islice(started, WINDOW + 2)
    (nobodys,) = submit(store, 1)
    assert nobodys.id in itertools.islice(started, WINDOW + 2)


def test_a_weight_gives_more_turns(store: JobStore, server: redis.Redis) -> None:
    store.set_owner_limits("a", OwnerLimits(weight=3))
    store.set_owner_limits("c", OwnerLimits(weight=0.5))
    submit(store, WINDOW, "first")
    jobs = {owner: submit(store, 60, owner) for owner in ("a", "b", "c")}
    ids = itertools.islice(served(store, server), WINDOW, WINDOW + 45)
    counts = Counter(owners_of(jobs, ids))
    assert counts["a"] == pytest.approx(30, abs=2)
    assert counts["b"] == pytest.approx(10, abs=2)
    assert counts["c"] == pytest.approx(5, abs=2)


def test_a_short_queue_holds_no_message_back(store: JobStore, server: redis.Redis) -> None:
    submit(store, WINDOW, "a")
    assert (server.llen(LANGUAGE), server.exists(keys.BACKLOG + LANGUAGE)) == (WINDOW, 0)
    submit(store, 3, "a")
    assert (server.llen(LANGUAGE), server.zcard(keys.BACKLOG + LANGUAGE)) == (WINDOW, 3)
    assert store.queue_lengths([LANGUAGE]) == {LANGUAGE: WINDOW + 3}
    assert store.jobs_without_message(0) == []


def test_the_next_stage_of_a_started_job_is_not_held_back(store: JobStore, server: redis.Redis) -> None:
    for job in submit(store, 12, "a"):
        store.start_stage(job.id, Stage.EMBED, ME)
        store.complete_stage(done(job, Stage.EMBED), Stage.EMBED, 1.0, [], ME, send=True)
    assert (server.llen(DIFFUSION), server.zcard(keys.BACKLOG + DIFFUSION)) == (WINDOW, 8)
    (started,) = submit(store, 1, "a")
    started = done(started, Stage.EMBED)
    store.requeue(started)
    store.start_stage(started.id, Stage.MASK, ME)
    store.complete_stage(done(started, Stage.MASK), Stage.MASK, 1.0, [], ME, send=True)
    assert id_in(server.lindex(DIFFUSION, 0)) == started.id


@pytest.mark.parametrize("way", ["ended", "removed", "lost record", "lost message"])
def test_messages_that_lead_to_nothing_do_not_stop_a_queue(store: JobStore, server: redis.Redis, way: str) -> None:
    jobs = submit(store, 30, "a")
    for job in jobs[:20]:
        match way:
            case "ended":
                store.end_job(job.id, State.CANCELLED)
            case "removed":
                store.remove_job(job.id)
            case "lost record":
                server.delete(keys.job_key(job.id))
    started = []
    while job_id := take(server):
        if way == "lost message" and job_id in {job.id for job in jobs[:WINDOW]}:
            if not server.exists(LANGUAGE):
                store.tend_queues()
            continue
        try:
            if store.start_stage(job_id, Stage.EMBED, ME).state is State.RUNNING:
                started.append(job_id)
        except (JobNotFound, JobElsewhere):
            pass
    lost = WINDOW if way == "lost message" else 20
    assert started == [job.id for job in jobs[lost:]]
    assert not server.keys(keys.BACKLOG + "*")


def test_a_job_that_ends_while_its_message_is_held_back_leaves_nothing(store: JobStore, server: redis.Redis) -> None:
    jobs = submit(store, 10, "a")
    store.end_job(jobs[-1].id, State.CANCELLED)
    assert server.zscore(keys.BACKLOG + LANGUAGE, jobs[-1].id) is None
    assert not server.hexists(keys.job_key(jobs[-1].id), "held")
    assert server.hexists(keys.job_key(jobs[-2].id), "held")


def test_a_job_that_returns_waits_one_turn(store: JobStore, server: redis.Redis) -> None:
    jobs = submit(store, 100, "a")
    taken = take(server)
    store.start_stage(taken, Stage.EMBED, ME)
    store.requeue(jobs[0], ME, count_attempt=False)
    store.send(jobs[0])
    assert jobs[0].id in itertools.islice(served(store, server), WINDOW + 3)
    held = jobs[50]
    before = server.zscore(keys.BACKLOG + LANGUAGE, held.id)
    store.send(held)  # a surplus message, of a job whose turn comes
    assert server.zscore(keys.BACKLOG + LANGUAGE, held.id) == before


def test_a_worker_of_the_last_release_finds_all_messages_in_the_queue(
    make_backend: Callable[..., JobBackend], server: redis.Redis
) -> None:
    backend = make_backend()
    store, registry = backend.job_store, backend.worker_registry
    jobs = submit(store, 20, "a")
    assert server.llen(LANGUAGE) == WINDOW
    registry.send_heartbeat(a_worker(id="old", contract=1))
    store.tend_queues()
    assert [id_in(message) for message in server.lrange(LANGUAGE, 0, -1)][::-1] == [job.id for job in jobs]
    submit(store, 5, "b")
    assert (server.llen(LANGUAGE), server.exists(keys.BACKLOG + LANGUAGE)) == (25, 0)
    registry.unregister("old")
    store.tend_queues()
    submit(store, 5, "b")
    assert (server.llen(LANGUAGE), server.zcard(keys.BACKLOG + LANGUAGE)) == (25, 5)


def test_a_lost_backlog_is_found(store: JobStore, server: redis.Redis) -> None:
    jobs = submit(store, 20, "a")
    server.delete(keys.BACKLOG + LANGUAGE)
    assert set(store.jobs_without_message(0)) == {job.id for job in jobs[WINDOW:]}
    for job in jobs[WINDOW:]:
        store.send(job)
    assert list(served(store, server)) == [job.id for job in jobs]


@pytest.mark.parametrize("key", [keys.TURNS + LANGUAGE, keys.BACKLOG + LANGUAGE, keys.HOLDING + LANGUAGE, keys.PAUSED])
@pytest.mark.parametrize("value", ["text", "numbers"])
def test_a_damaged_key_stops_no_queue(store: JobStore, server: redis.Redis, key: str, value: str) -> None:
    jobs = submit(store, 10, "a")
    if value == "text" or key == keys.HOLDING + LANGUAGE:
        server.set(key, "no set")
    elif key == keys.PAUSED:
        server.hset(key, "elsewhere", "[")
    else:
        server.zadd(key, {"": "inf", "a": "-inf", "b": 1e300})
    jobs += submit(store, 10, "a") + submit(store, 10, "b")
    store.tend_queues()
    for job_id in store.jobs_without_message(0):
        store.send(next(job for job in jobs if job.id == job_id))
    assert set(served(store, server)) == {job.id for job in jobs}


def test_a_damaged_record_stops_no_queue(store: JobStore, server: redis.Redis) -> None:
    jobs = submit(store, 20, "a")
    for job in jobs[10:15]:
        server.delete(keys.job_key(job.id))
        server.set(keys.job_key(job.id), "no record")
    assert set(served(store, server)) == {job.id for job in (*jobs[:10], *jobs[15:])}


@pytest.mark.parametrize("value", ["1e300", "0", "-1", '"many"', "NaN"])
def test_a_weight_that_means_nothing_stops_no_queue(store: JobStore, server: redis.Redis, value: str) -> None:
    server.hset(keys.LIMITS, "a", f'{{"weight": {value}}}')
    jobs = submit(store, 10, "a") + submit(store, 10, "b")
    assert set(served(store, server)) == {job.id for job in jobs}


def test_a_pause_moves_the_messages_and_keeps_their_order(store: JobStore, server: redis.Redis) -> None:
    jobs = submit(store, 12, "a")
    server.lpush(LANGUAGE, "no message of a job")
    store.pause_queues([LANGUAGE], "maintenance")
    assert server.lrange(LANGUAGE, 0, -1) == ["no message of a job"]
    server.delete(LANGUAGE)
    server.lpush(LANGUAGE, queue_message(jobs[-1]))  # as 0.2.0 sends it
    store.tend_queues()
    assert (server.llen(LANGUAGE), server.zcard(keys.BACKLOG + LANGUAGE)) == (0, 12)
    store.resume_queues([LANGUAGE])
    assert set(served(store, server)) == {job.id for job in jobs}


def test_a_batch_job_that_has_waited_for_long_takes_turns(
    make_backend: Callable[..., JobBackend], server: redis.Redis
) -> None:
    store = make_backend(batch_age=100).job_store
    old, young = submit(store, 2, "a", lane=Lane.BATCH)
    server.zadd(keys.WAITING + BATCH, {old.id: time.time() - 101})
    store.tend_queues()
    started: list[str] = []
    while old.id not in started:
        submit(store, 1, "flood")
        started.append(next(served(store, server)))
        assert len(started) < 12, "the batch job starves"
    assert server.llen(BATCH) == 1
    store.tend_queues()
    assert not server.exists(keys.BATCH_TURNS)
    submit(store, 30, "flood")
    assert young.id not in itertools.islice(served(store, server), 20)
    assert store.jobs_without_message(0) == []


def test_the_later_stages_of_an_old_batch_job_take_turns_too(
    make_backend: Callable[..., JobBackend], server: redis.Redis
) -> None:
    store = make_backend(batch_age=100).job_store
    (old,) = submit(store, 1, "a", lane=Lane.BATCH)
    server.hset(keys.job_key(old.id), "aged", "1")
    store.start_stage(old.id, Stage.EMBED, ME)
    store.complete_stage(done(old, Stage.EMBED), Stage.EMBED, 1.0, [], ME, send=True)
    assert take(server, DIFFUSION) == old.id
    assert server.zcard(keys.WAITING + old.queue_of(Stage.MASK)) == 1
    assert server.hget(keys.BATCH_TURNS, DIFFUSION) == "-3"


def test_the_running_jobs_of_each_queue_are_known(store: JobStore, server: redis.Redis) -> None:
    first, second = submit(store, 2)
    for job in (first, second):
        store.start_stage(job.id, Stage.EMBED, ME)
    assert server.hgetall(keys.RUNNING_IN + LANGUAGE) == {first.id: ME, second.id: ME}
    store.complete_stage(done(first, Stage.EMBED), Stage.EMBED, 1.0, [], ME)
    store.start_stage(first.id, Stage.MASK, ME)
    assert (server.hlen(keys.RUNNING_IN + LANGUAGE), server.hlen(keys.RUNNING_IN + DIFFUSION)) == (1, 1)
    # As workers of the last release leave it, which know of one hash only.
    server.delete(keys.RUNNING_IN + DIFFUSION)
    server.hdel(keys.RUNNING, second.id)
    store.tend_queues()
    assert not server.exists(keys.RUNNING_IN + LANGUAGE)
    assert server.hgetall(keys.RUNNING_IN + DIFFUSION) == {first.id: ME}
    store.end_job(first.id, State.CANCELLED)
    assert not server.exists(keys.RUNNING_IN + DIFFUSION)


def test_the_position_of_a_job_counts_the_jobs_whose_turn_is_before(store: JobStore) -> None:
    submit(store, 50, "big")
    (small,) = submit(store, 1, "small")
    (last,) = submit(store, 1, "big")
    position = store.queue_status(small.id).position
    assert position is not None
    assert position <= WINDOW + 2
    assert store.queue_status(last.id).position == 51
