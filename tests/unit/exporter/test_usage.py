"""The usage of a month, read day by day."""

from collections.abc import Sequence
from datetime import UTC, date, datetime

from prometheus_client import CollectorRegistry

from diffedit.contract.job import State
from diffedit.contract.stages import Stage
from diffedit.contract.usage import Usage
from diffedit.exporter.collector import FleetCollector
from diffedit.exporter.usage import MonthlyUsage
from diffedit.testing import memory_backend
from tests.support.backend_behaviour import ME
from tests.support.factories import a_job, a_worker, done


class Days:
    """Knows the usage of some days, and remembers which of them it was asked for."""

    def __init__(self) -> None:
        self.entries: list[Usage] = []
        self.asked: list[date] = []

    def use(self, day: date, owner: str, seconds: float, pixels: int = 0) -> None:
        self.entries.append(Usage(day=day, owner=owner, profile="tiny", gpu_seconds=seconds, pixels=pixels))

    def __call__(self, days: Sequence[date]) -> list[Usage]:
        self.asked += days
        return [each for each in self.entries if each.day in days]


def noon(day: date) -> float:
    return datetime(day.year, day.month, day.day, 12, tzinfo=UTC).timestamp()


def seconds_of(monthly: MonthlyUsage, day: date) -> dict[str | None, float]:
    return {each.owner: each.gpu_seconds for each in monthly.read(noon(day))}


def test_the_days_of_the_month_are_added() -> None:
    days = Days()
    for day, seconds in ((date(2026, 2, 28), 100.0), (date(2026, 3, 1), 1.0), (date(2026, 3, 3), 2.0)):
        days.use(day, "ada", seconds)
    days.use(date(2026, 3, 3), "", 5.0)
    assert seconds_of(MonthlyUsage(days, owners=10), date(2026, 3, 3)) == {"ada": 3.0, "": 5.0}


def test_past_days_are_read_once_and_the_last_two_again() -> None:
    days = Days()
    monthly = MonthlyUsage(days, owners=10)
    days.use(date(2026, 3, 2), "ada", 10.0)
    assert seconds_of(monthly, date(2026, 3, 5)) == {"ada": 10.0}
    assert sorted(days.asked) == [date(2026, 3, number) for number in range(1, 6)]
    days.asked.clear()
    for seconds in (11.0, 12.0):
        days.use(date(2026, 3, 4), "ada", 1.0)  # of yesterday, and known only now
        assert seconds_of(monthly, date(2026, 3, 5)) == {"ada": seconds}
    assert set(days.asked) == {date(2026, 3, 4), date(2026, 3, 5)}


def test_a_new_month_starts_at_nothing() -> None:
    days = Days()
    monthly = MonthlyUsage(days, owners=1)
    days.use(date(2026, 3, 1), "ada", 1.0)
    days.use(date(2026, 4, 1), "bob", 1.0)
    assert seconds_of(monthly, date(2026, 3, 31)) == {"ada": 1.0}
    assert seconds_of(monthly, date(2026, 4, 1)) == {"bob": 1.0}


def test_owners_beyond_the_first_share_a_series_and_none_is_hidden_again() -> None:
    days, day = Days(), date(2026, 3, 1)
    monthly = MonthlyUsage(days, owners=2)
    for owner, seconds in (("a", 3.0), ("b", 2.0), ("c", 1.0), ("d", 1.0)):
        days.use(day, owner, seconds, pixels=7)
    assert seconds_of(monthly, day) == {"a": 3.0, "b": 2.0, "other": 2.0}
    (others,) = [each for each in monthly.read(noon(day)) if each.owner == "other"]
    assert (others.pixels, others.profile) == (14, "tiny")
    days.use(day, "c", 100.0)
    assert seconds_of(monthly, day) == {"a": 3.0, "b": 2.0, "other": 102.0}


def test_the_exporter_tells_usage_by_owner_and_profile() -> None:
    backend = memory_backend()
    backend.worker_registry.send_heartbeat(a_worker(id=ME))
    job, other = a_job(owner="ada"), a_job(owner="ada")
    for each in (job, other):
        backend.job_store.create_job(each, pixels=100)
    for stage in (Stage.EMBED, Stage.MASK, Stage.INVERT, Stage.EDIT):
        backend.job_store.start_stage(job.id, stage, ME)
        job = done(job, stage)
        backend.job_store.complete_stage(job, stage, 1.0, [], ME, device_seconds=0.5)
    backend.job_store.end_job(other.id, State.CANCELLED)
    registry = CollectorRegistry()
    registry.register(FleetCollector(backend.census, backend.job_store.usage, owners=10))
    ada = {"owner": "ada", "profile": "tiny"}
    assert registry.get_sample_value("diffedit_usage_gpu_seconds_total", ada) == 2.0
    assert registry.get_sample_value("diffedit_usage_pixels_total", ada) == 100
    assert registry.get_sample_value("diffedit_usage_jobs_total", {**ada, "outcome": "succeeded"}) == 1
    assert registry.get_sample_value("diffedit_usage_jobs_total", {**ada, "outcome": "cancelled"}) == 1
    assert registry.get_sample_value("diffedit_usage_jobs_total", {**ada, "outcome": "failed"}) == 0
