"""Jobs come back after a loss of all data: over a real Redis."""

from collections.abc import Callable

import pytest
import redis

from diffedit import Settings
from diffedit.jobs.backend import DEFAULT_LIMITS, JobBackend, redis_backend
from diffedit.objects.s3 import S3ObjectStore
from tests.support.factories import a_job
from tests.support.restore_behaviour import RestoreBehaviour


@pytest.fixture
def server(settings: Settings) -> redis.Redis:
    return redis.Redis.from_url(settings.redis_url.get_secret_value(), decode_responses=True)


@pytest.fixture
def make_backend(settings: Settings, server: redis.Redis) -> Callable[..., JobBackend]:
    server.flushdb()
    return lambda limits=DEFAULT_LIMITS, **other: redis_backend(settings.model_copy(update=other), limits)


class TestRedisBackend(RestoreBehaviour):
    @pytest.fixture
    def lose(self, server: redis.Redis) -> Callable[[JobBackend], None]:
        return lambda backend: server.flushdb() and None


def test_a_damaged_epoch_is_no_error(make_backend: Callable[..., JobBackend], server: redis.Redis) -> None:
    store = make_backend().job_store
    for damage in (
        lambda: server.set("diffedit:epoch", "{"),
        lambda: server.set("diffedit:epoch", '{"since": "NaN"}'),
        lambda: (server.delete("diffedit:epoch"), server.sadd("diffedit:epoch", "x")),
        lambda: (server.delete("diffedit:settled"), server.set("diffedit:settled", "x")),
    ):
        damage()
        job = a_job()
        store.create_job(job)
        store.discard_job(job.id)
        assert store.data_since() is None
    assert list(store.settled_jobs(10)) == [job.id]


def test_copies_are_listed_and_deleted_in_one_request(settings: Settings) -> None:
    store, prefix = S3ObjectStore(settings), "submissions/listed/"  # the id of no job of another test begins like this
    keys = [f"{prefix}{number:032x}.json" for number in range(1002)]
    for key in keys[:3]:
        store.put(key, b"{}")
    stored = store.stored_in(prefix)
    assert stored.keys() == set(keys[:3])
    assert all(abs(at - (store.now() or at)) < 60 for at in stored.values())
    store.delete_all(keys)
    store.delete_all([])
    assert store.stored_in(prefix) == {}
