"""What an administrator does with jobs, over real Valkey as over the double in tests/unit, and the indexes of lists."""

from collections.abc import Callable

import pytest
import redis

from diffedit import Settings, State
from diffedit.jobs import keys
from diffedit.jobs.backend import DEFAULT_LIMITS, JobBackend, redis_backend
from diffedit.jobs.filters import JobFilter
from tests.support.administration_behaviour import AdministrationBehaviour
from tests.support.factories import a_job
from tests.support.listing_behaviour import ListingBehaviour, failed, found


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


class TestRedisBackend(ListingBehaviour, AdministrationBehaviour):
    pass


def indexes(server: redis.Redis) -> dict[str, list[str]]:
    names = sorted(server.scan_iter(f"{keys.ENDED_BY}*"))
    return {name.removeprefix(keys.ENDED_BY): server.zrange(name, 0, -1) for name in [*names, keys.ENDED]}


def test_an_ended_job_is_in_the_index_of_each_thing_that_is_asked_for(backend: JobBackend, server: redis.Redis) -> None:
    job = failed(backend, "worker_lost")
    names = ("code:worker_lost", "outcome:failed", "profile:tiny", "stage:mask", keys.ENDED)
    assert indexes(server) == {name: [job] for name in names}
    backend.job_store.remove_job(job)
    assert indexes(server) == {keys.ENDED: []}


@pytest.mark.parametrize("jobs", [3, 2100])
def test_what_an_earlier_version_has_ended_is_found_as_well(
    backend: JobBackend, server: redis.Redis, jobs: int
) -> None:
    first, last = failed(backend, "worker_lost"), a_job()
    for _ in range(jobs - 2):
        backend.job_store.create_job(a_job())
    backend.job_store.create_job(last)
    backend.job_store.end_job(last.id, State.CANCELLED)
    server.delete(keys.ENDED, *server.scan_iter(f"{keys.ENDED_BY}*"))  # which it does not write
    assert found(backend, state=State.FAILED) == [first]
    assert found(backend, state=State.CANCELLED) == [last.id]
    assert server.zscore(keys.ENDED, first) == float(server.hget(keys.job_key(first), "finished"))


def test_records_that_have_expired_leave_the_indexes(backend: JobBackend, server: redis.Redis) -> None:
    gone = [failed(backend, "worker_lost") for _ in range(3)]
    server.delete(*map(keys.job_key, gone))
    assert found(backend, code="worker_lost") == []
    assert not set(gone) & {*indexes(server).get("code:worker_lost", []), *indexes(server)[keys.ENDED]}
    # Without a list, the end of other jobs removes them.
    while set(gone) & set(indexes(server)["outcome:failed"]):
        failed(backend, "empty_mask")


@pytest.mark.parametrize("name", [keys.ENDED, f"{keys.ENDED_BY}outcome:failed", f"{keys.ENDED_BY}profile:tiny"])
def test_a_damaged_index_is_made_again(backend: JobBackend, server: redis.Redis, name: str) -> None:
    failed(backend, "worker_lost")
    server.delete(name)
    server.set(name, "no set")
    assert found(backend, state=State.FAILED, profile="tiny", since=0.0) is not None
    later = failed(backend, "worker_lost")
    assert later in found(backend, state=State.FAILED, profile="tiny", since=0.0)
    assert backend.job_store.damaged_keys() == [name]


def test_a_list_reads_only_the_records_that_it_shows(backend: JobBackend, server: redis.Redis) -> None:
    rare = failed(backend, "empty_mask")
    for _ in range(60):
        failed(backend, "worker_lost")
    backend.job_store.find_jobs(JobFilter(code="empty_mask"))  # loads the scripts
    server.config_resetstat()
    assert found(backend, state=State.FAILED, code="empty_mask", profile="tiny") == [rare]
    assert server.info("commandstats")["cmdstat_hgetall"]["calls"] <= 2


def test_a_list_looks_for_unindexed_jobs_only_after_the_oldest_open_one(
    backend: JobBackend, server: redis.Redis
) -> None:
    def forget(*jobs: str) -> None:
        """As if a process of 0.2.0 had ended these jobs."""
        for name in [keys.ENDED, *server.scan_iter(f"{keys.ENDED_BY}*")]:
            server.zrem(name, *jobs)

    old, waiting, young = failed(backend, "worker_lost"), a_job(), a_job()
    for job in (waiting, young):
        backend.job_store.create_job(job)
    backend.job_store.end_job(young.id, State.FAILED)
    assert found(backend, state=State.FAILED) == [young.id, old]
    assert float(server.get(keys.INDEXED)) == server.zscore(keys.INDEX, waiting.id)
    backend.job_store.end_job(waiting.id, State.FAILED)
    forget(waiting.id, young.id)
    assert found(backend, state=State.FAILED) == [young.id, waiting.id, old]
    assert float(server.get(keys.INDEXED)) == server.zscore(keys.INDEX, young.id)
    job = waiting.model_copy(update={"artifact_keys": {}})
    backend.job_store.revive_job(job, job.options)
    backend.job_store.end_job(waiting.id, State.CANCELLED)
    forget(waiting.id)
    assert found(backend, state=State.CANCELLED) == [waiting.id]
    server.delete(keys.ENDED, *server.scan_iter(f"{keys.ENDED_BY}*"))
    assert found(backend, state=State.FAILED) == [young.id, old]
