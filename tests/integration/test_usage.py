"""The hashes of usage in Redis: their days, how long they are kept, and what is damaged."""

from collections.abc import Iterator
from datetime import UTC, date, datetime

import pytest
import redis

from diffedit import Settings
from diffedit.contract.job import State
from diffedit.contract.usage import KEPT_DAYS, Usage
from diffedit.jobs import keys
from diffedit.jobs.backend import redis_backend
from diffedit.jobs.redis_server import _scripts
from diffedit.jobs.store import JobStore
from tests.support.factories import a_job


@pytest.fixture
def server(settings: Settings) -> redis.Redis:
    server = redis.Redis.from_url(settings.redis_url.get_secret_value(), decode_responses=True)
    server.flushdb()
    return server


@pytest.fixture
def store(settings: Settings, server: redis.Redis) -> JobStore:
    return redis_backend(settings).job_store


def cancel_one(store: JobStore, owner: str = "a") -> None:
    job = a_job(owner=owner)
    store.create_job(job)
    store.end_job(job.id, State.CANCELLED)


def days() -> Iterator[date]:
    """Yield days around the ends of months and years, over five centuries."""
    for year in (1970, 1999, 2000, 2024, 2026, 2100, 2400, 2499):
        for month, day in ((1, 1), (2, 28), (3, 1), (6, 30), (10, 31), (12, 31)):
            yield date(year, month, day)
    yield from (date(2000, 2, 29), date(2024, 2, 29), date(2400, 2, 29))


def test_the_script_knows_the_calendar(server: redis.Redis) -> None:
    text = _scripts()["end_job"]
    begin = text.index("local function today()")
    function = text[begin : text.index("\nend\n", begin) + 5]
    today = server.register_script(f"local time = {{ARGV[1]}}\n{function}return tostring(today())")
    for day in days():
        midnight = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())
        for seconds in (midnight, midnight + 86399):
            assert today(args=[seconds]) == f"{day:%Y%m%d}"


def test_each_day_is_kept_for_400_days_after_its_end(store: JobStore, server: redis.Redis) -> None:
    today = datetime.fromtimestamp(store.now(), UTC).date()
    for owner in ("a", "b", "a"):
        cancel_one(store, owner)
    key = f"{keys.USAGE}{today:%Y%m%d}"
    assert server.hgetall(key) == {'["a","tiny","cancelled"]': "2", '["b","tiny","cancelled"]': "1"}
    assert KEPT_DAYS * 86400 < server.ttl(key) <= (KEPT_DAYS + 1) * 86400


@pytest.mark.parametrize("value", ["many", "inf", "-inf", "1e5000", ""])
def test_a_number_that_cannot_be_read_is_replaced_by_the_next_one(
    store: JobStore, server: redis.Redis, value: str
) -> None:
    today = datetime.fromtimestamp(store.now(), UTC).date()
    key, field = f"{keys.USAGE}{today:%Y%m%d}", '["a","tiny","cancelled"]'
    server.hset(key, mapping={field: value, "no JSON": "1", "[1, 2, 3]": "1", '["a","tiny","newer"]': "1"})
    assert store.usage([today]) == []
    cancel_one(store)
    assert store.usage([today]) == [Usage(owner="a", profile="tiny", day=today, cancelled=1)]
