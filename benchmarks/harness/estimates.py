"""Estimates over many edits, as text: a share or a mean with its 95 % interval, and a PSNR."""

import math
import statistics
from collections.abc import Iterable, Sequence

from scipy.stats import binomtest


def share_with_interval(hits: Sequence[bool]) -> str:
    """Format the share of true values in per cent, with Wilson's 95 % interval."""
    test = binomtest(sum(hits), len(hits))
    interval = test.proportion_ci(method="wilson")
    return f"{100 * test.statistic:.1f} [{100 * interval.low:.0f}-{100 * interval.high:.0f}]"


def mean_with_interval(values: Sequence[float]) -> str:
    """Format the mean with its 95 % interval (normal distribution)."""
    half = 1.96 * statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return f"{statistics.fmean(values):.3f} ±{half:.3f}"


def psnr_of_errors(squared_errors: Iterable[float]) -> str:
    """Format the PSNR of the mean over all edits, in dB. Errors are mean squared ones, in 8-bit levels."""
    error = statistics.fmean(squared_errors)
    return "exact" if error == 0 else f"{10 * math.log10(255**2 / error):.1f}"
