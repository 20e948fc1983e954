"""Estimates over many edits, as text: a share or a mean with its 95 % interval, and a PSNR.

Paired ones compare two ways to make the same edits. They are much sharper than the distance of two intervals, because
most edits come out alike in both ways.
"""

import math
import statistics
from collections.abc import Iterable, Sequence

import numpy as np
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


def paired_shares(hits: Sequence[bool], reference: Sequence[bool]) -> str:
    """Format the difference of two shares in points, with its 95 % interval (Wald's) and McNemar's exact p.

    In brackets: how many of the reference's hits are lost, and how many are gained.
    """
    pairs = list(zip(hits, reference, strict=True))
    gained, lost = (sum(hit is wanted and other is not wanted for hit, other in pairs) for wanted in (True, False))
    n, changed = len(pairs), gained + lost
    half = 1.96 * math.sqrt(changed - (gained - lost) ** 2 / n) / n
    p = binomtest(gained, changed).pvalue if changed else 1.0
    return f"{100 * (gained - lost) / n:+.1f} ±{100 * half:.1f} (-{lost} +{gained}), p = {p:.2f}"


def paired_means(values: Sequence[float], reference: Sequence[float]) -> str:
    """Format the mean difference with its 95 % interval (normal distribution)."""
    differences = [value - other for value, other in zip(values, reference, strict=True)]
    half = 1.96 * statistics.stdev(differences) / math.sqrt(len(differences)) if len(differences) > 1 else 0.0
    return f"{statistics.fmean(differences):+.3f} ±{half:.3f}"


def paired_psnr(squared_errors: Sequence[float], reference: Sequence[float], resamples: int = 2000) -> str:
    """Format the difference in dB of two PSNRs of mean errors, with its 95 % interval (bootstrap over the pairs)."""
    errors = np.array([squared_errors, reference])
    if not errors.any(axis=1).all():
        return "-"
    chosen = np.random.default_rng(0).integers(errors.shape[1], size=(resamples, errors.shape[1]))
    # A resample of few edits may hold no error at all. It says nothing about the ratio.
    means = errors[:, chosen].mean(axis=2)
    means = means[:, means.all(axis=0)]
    low, high = np.quantile(10 * np.log10(means[1] / means[0]), (0.025, 0.975))
    ratio = errors[1].mean() / errors[0].mean()
    return f"{10 * math.log10(ratio):+.1f} [{low:+.1f}, {high:+.1f}]"
