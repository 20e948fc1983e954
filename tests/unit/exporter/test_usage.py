"""The usage of a month, read day by day."""

from collections.abc import Sequence
from datetime import UTC, date, datetime

from prometheus_client import CollectorRegistry

from diffedit.exporter.collector import FleetCollector
from diffedit.exporter.usage import MonthlyUsage
from diffedit.jobs.census import FleetCensus, Usage
from diffedit.testing import memory_backend


class Days:
    """A census that knows the usage of some days, and remembers which of them it was asked for."""

    def __init__(self) -> None:
        self.days: dict[date, dict[tuple[str, str, str], float]] = {}
        self.asked: list[date] = []

    def use(self, day: date, owner: str, amount: float, measure: str = "gpu_seconds") -> None:
        used = self.days.setdefault(day, {})
        used[owner, "tiny", measure] = used.get((owner, "tiny", measure), 0.0) + amount

    def take(self) -> FleetCensus:
        return memory_backend().census.take()

    def usage(self, days: Sequence[date]) -> list[Usage]:
        self.asked += days
        return [dict(self.days.get(day, {})) for day in days]


def noon(day: date) -> float:
    return datetime(day.year, day.month, day.day, 12, tzinfo=UTC).timestamp()


def test_the_days_of_the_month_are_added() -> None:
    days = Days()
    for day, amount in ((date(2026, 2, 28), 100.0), (date(2026, 3, 1), 1.0), (date(2026, 3, 3), 2.0)):
        days.use(day, "ada", amount)
    days.use(date(2026, 3, 3), "", 5.0)
    usage = MonthlyUsage(days, owners=10).read(noon(date(2026, 3, 3)))
    assert usage == {("ada", "tiny", "gpu_seconds"): 3.0, ("", "tiny", "gpu_seconds"): 5.0}


def test_past_days_are_read_once_and_the_last_two_again() -> None:
    days = Days()
    monthly = MonthlyUsage(days, owners=10)
    monthly.read(noon(date(2026, 3, 5)))
    assert sorted(days.asked) == [date(2026, 3, number) for number in range(1, 6)]
    days.asked.clear()
    for amount in (1.0, 2.0):
        days.use(date(2026, 3, 4), "ada", 1.0)  # of yesterday, and known only now
        assert monthly.read(noon(date(2026, 3, 5))) == {("ada", "tiny", "gpu_seconds"): amount}
    assert set(days.asked) == {date(2026, 3, 4), date(2026, 3, 5)}


def test_a_new_month_starts_at_nothing() -> None:
    days = Days()
    monthly = MonthlyUsage(days, owners=1)
    days.use(date(2026, 3, 1), "ada", 1.0)
    days.use(date(2026, 4, 1), "bob", 1.0)
    assert monthly.read(noon(date(2026, 3, 31))) == {("ada", "tiny", "gpu_seconds"): 1.0}
    assert monthly.read(noon(date(2026, 4, 1))) == {("bob", "tiny", "gpu_seconds"): 1.0}


def test_owners_beyond_the_first_share_a_series_and_none_is_hidden_again() -> None:
    days, day = Days(), date(2026, 3, 1)
    monthly = MonthlyUsage(days, owners=2)
    for owner, amount in (("a", 3.0), ("b", 2.0), ("c", 1.0), ("d", 1.0)):
        days.use(day, owner, amount)
    days.use(day, "c", 7.0, "pixels")
    assert monthly.read(noon(day)) == {
        ("a", "tiny", "gpu_seconds"): 3.0,
        ("b", "tiny", "gpu_seconds"): 2.0,
        ("other", "tiny", "gpu_seconds"): 2.0,
        ("other", "tiny", "pixels"): 7.0,
    }
    days.use(day, "c", 100.0)
    later = monthly.read(noon(day))
    assert later["a", "tiny", "gpu_seconds"] == 3.0 and later["other", "tiny", "gpu_seconds"] == 102.0


def test_the_exporter_tells_usage_by_owner_and_profile() -> None:
    days, today = Days(), datetime.now(UTC).date()
    for measure, amount in (("gpu_seconds", 1.5), ("pixels", 100.0), ("succeeded", 2.0), ("failed", 1.0), ("new", 9.0)):
        days.use(today, "ada", amount, measure)
    registry = CollectorRegistry()
    registry.register(FleetCollector(days, owners=10))
    ada = {"owner": "ada", "profile": "tiny"}
    assert registry.get_sample_value("diffedit_usage_gpu_seconds_total", ada) == 1.5
    assert registry.get_sample_value("diffedit_usage_pixels_total", ada) == 100
    assert registry.get_sample_value("diffedit_usage_jobs_total", {**ada, "outcome": "succeeded"}) == 2
    assert registry.get_sample_value("diffedit_usage_jobs_total", {**ada, "outcome": "failed"}) == 1
