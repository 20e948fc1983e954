"""What jobs have used, for bills and quotas."""

from collections.abc import Iterable, Sequence
from datetime import date
from typing import Literal

from pydantic import NonNegativeFloat, NonNegativeInt, computed_field

from diffedit.contract.validation import Frozen

KEPT_DAYS = 400
"""Days for which the usage of a day is kept."""
UsageKey = Literal["owner", "profile", "day"]
"""What usage can be added up by."""
OTHER_OWNERS = "other"
"""The owner in metrics of what all owners used that have no series of their own."""
MEASURES = ("gpu_seconds", "pixels", "succeeded", "failed", "cancelled", "expired")


class Usage(Frozen):
    """What jobs have used: of an owner, with a profile, or on a day, as it was asked for."""

    owner: str | None = None
    """Whose jobs; "" for those without an owner. None if it is that of all owners."""
    profile: str | None = None
    """The profile of the jobs. None if it is that of all profiles."""
    day: date | None = None
    """The day in UTC, by the clock of the Redis server. None if it is that of all days."""
    gpu_seconds: NonNegativeFloat = 0.0
    """Seconds for which stages computed and were recorded as done. Stages that share a device share its time."""
    pixels: NonNegativeInt = 0
    """Pixels of the pictures of jobs that succeeded."""
    succeeded: NonNegativeInt = 0
    """Jobs that succeeded."""
    failed: NonNegativeInt = 0
    """Jobs that failed."""
    cancelled: NonNegativeInt = 0
    """Jobs that were cancelled."""
    expired: NonNegativeInt = 0
    """Jobs that expired."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def jobs(self) -> int:
        """Jobs that ended, in whatever way."""
        return self.succeeded + self.failed + self.cancelled + self.expired


def add_up(entries: Iterable[Usage], by: Sequence[UsageKey]) -> list[Usage]:
    """Return the sums of entries that have the same values of `by`, by day, the largest first."""
    sums: dict[tuple[object, ...], dict[str, float]] = {}
    for entry in entries:
        total = sums.setdefault(tuple(getattr(entry, key) for key in by), dict.fromkeys(MEASURES, 0))
        for measure in MEASURES:
            total[measure] += getattr(entry, measure)
    found = [Usage.model_validate({**dict(zip(by, values, strict=True)), **total}) for values, total in sums.items()]
    return sorted(found, key=lambda each: (each.day or date.min, -each.gpu_seconds, -each.jobs, each.owner or ""))
