"""What owners used since the start of the month, read day by day."""

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import TypeAlias

from diffedit.contract.usage import OTHER_OWNERS, Usage, add_up

UsageOf: TypeAlias = Callable[[Sequence[date]], list[Usage]]
"""`JobStore.usage`: returns what each owner has used on these days."""


class MonthlyUsage:
    """Sums the usage of this month (UTC). Past days do not change, so they are read once.

    At most `owners` owners are told apart: those that used most of the device. Once shown, an owner stays so until the
    month is over, because a counter must not fall.
    """

    def __init__(self, usage_of: UsageOf, owners: int) -> None:
        self._usage_of = usage_of
        self._owners = owners
        self._shown: set[str | None] = set()
        self._past: dict[date, list[Usage]] = {}

    def read(self, at: float) -> list[Usage]:
        """Return the usage by owner and profile from the start of the month until `at`, in seconds since 1970.

        Raises:
            ServiceError: Redis does not answer.
        """
        today = datetime.fromtimestamp(at, UTC).date()
        days = [today - timedelta(days=back) for back in range(today.day)]
        if any(day not in days for day in self._past):
            self._past, self._shown = {}, set()
        missing = [day for day in days if day not in self._past]
        found = self._usage_of(missing)
        entries = [*found, *(each for past in self._past.values() for each in past)]
        # What ended before midnight may be recorded a little later, so yesterday is read again.
        settled = [day for day in missing if today - day > timedelta(days=1)]
        self._past |= {day: [each for each in found if each.day == day] for day in settled}
        for each in add_up(entries, ("owner",)):  # who used most comes first
            if len(self._shown) < self._owners:
                self._shown.add(each.owner)
        return add_up([self._under_a_shown_name(each) for each in entries], ("owner", "profile"))

    def _under_a_shown_name(self, used: Usage) -> Usage:
        return used if used.owner in self._shown else used.model_copy(update={"owner": OTHER_OWNERS})
