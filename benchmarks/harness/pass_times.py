"""How long the passes of a device take by their samples, and the throughput that these times allow."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np


@dataclass(frozen=True)
class PassTimes:
    """A forward pass of n samples takes `fixed + per_sample * n` seconds."""

    fixed: float
    per_sample: float

    def seconds(self, samples: int) -> float:
        return self.fixed + self.per_sample * samples

    @classmethod
    def fit(cls, seconds: Mapping[int, float]) -> Self:
        """Return the times that come nearest to the measured ones, by samples: least squares of the relative errors.

        `fixed` is not negative: where a pass takes less than its share of samples, the line goes through the origin.

        Raises:
            ValueError: fewer than two numbers of samples.
        """
        if len(seconds) < 2:
            raise ValueError(f"a line through {len(seconds)} point is not determined; measure two numbers of samples")
        n, t = np.array(list(seconds), dtype=float), np.array(list(seconds.values()))
        fixed, per_sample = np.linalg.lstsq(np.stack([1 / t, n / t], axis=1), np.ones_like(t), rcond=None)[0]
        if fixed < 0:
            fixed, per_sample = 0.0, (n / t).sum() / (n / t).dot(n / t)
        return cls(float(fixed), float(per_sample))


@dataclass(frozen=True)
class EditCost:
    """What one edit asks of the UNet: passes, which follow each other, and samples in them."""

    passes: int
    samples: int


GUIDE = EditCost(passes=83, samples=140)
"""The settings of the DiffEdit guide: 3 passes of 8, 8 and 4 samples, 40 of one and 40 of two."""


MASK_BATCH = 8
"""The most samples of one job in a pass."""


def max_samples(jobs: int) -> int:
    """Return the most samples in a shared pass, as in a worker: a guided step of each job, or a mask beside them."""
    return 2 * jobs + MASK_BATCH


def allowed_rate(times: PassTimes, cost: EditCost, jobs: int, max_samples: int) -> float:
    """Return the edits per second that no way of sharing passes exceeds.

    A pass takes at most one call of each job, because a job's next call needs the result of the one before, and at most
    `max_samples` samples. So `jobs` edits need at least `cost.passes` passes, and as many as their samples fill.
    Nothing else is counted: no VAE, no time between passes.
    """
    passes = max(cost.passes, jobs * cost.samples / max_samples)
    return jobs / (times.fixed * passes + times.per_sample * jobs * cost.samples)
