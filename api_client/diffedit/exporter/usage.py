"""What owners used since the start of the month, read day by day."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta

from diffedit.jobs.census import Census, Usage

OTHERS = "other"
"""The owner of what all owners used that are not shown by name."""


class MonthlyUsage:
    """Sums the usage of this month (UTC). Past days do not change, so they are read once.

    At most `owners` owners are told apart: those that used most of the device. Once shown, an owner stays so until the
    month is over, because a counter must not fall.
    """

    def __init__(self, census: Census, owners: int) -> None:
        self._census = census
        self._owners = owners
        self._shown: set[str] = set()
        self._past: dict[date, Usage] = {}

    def read(self, at: float) -> dict[tuple[str, str, str], float]:
        """Return (owner, profile, measure) -> how much, from the start of the month until `at`, in seconds since 1970.

        Raises:
            ServiceError: Redis does not answer.
        """
        today = datetime.fromtimestamp(at, UTC).date()
        days = [today - timedelta(days=back) for back in range(today.day)]
        if any(day not in days for day in self._past):
            self._past, self._shown = {}, set()
        missing = [day for day in days if day not in self._past]
        found = dict(zip(missing, self._census.usage(missing), strict=True))
        # What ended before midnight may be recorded a little later.
        self._past |= {day: usage for day, usage in found.items() if today - day > timedelta(days=1)}
        total: dict[tuple[str, str, str], float] = {}
        for usage in (*self._past.values(), *(found[day] for day in missing if day not in self._past)):
            for key, amount in usage.items():
                total[key] = total.get(key, 0.0) + amount
        return self._by_shown_owner(total)

    def _by_shown_owner(self, total: Mapping[tuple[str, str, str], float]) -> dict[tuple[str, str, str], float]:
        ranks: dict[str, float] = {}
        for (owner, _, measure), amount in total.items():
            ranks[owner] = ranks.get(owner, 0.0) + (amount if measure == "gpu_seconds" else 0.0)
        for owner in sorted(ranks, key=lambda owner: (-ranks[owner], owner)):
            if len(self._shown) >= self._owners:
                break
            self._shown.add(owner)
        shown: dict[tuple[str, str, str], float] = {}
        for (owner, profile, measure), amount in total.items():
            key = (owner if owner in self._shown else OTHERS, profile, measure)
            shown[key] = shown.get(key, 0.0) + amount
        return shown
