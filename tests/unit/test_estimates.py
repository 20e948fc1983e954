"""The benchmarks' estimates with their 95 % intervals."""

import pytest

from benchmarks.harness.estimates import (
    mean_with_interval,
    paired_means,
    paired_psnr,
    paired_shares,
    psnr_of_errors,
    share_with_interval,
)


@pytest.mark.parametrize(
    ("hits", "total", "text"),
    [(60, 80, "75.0 [65-83]"), (15, 16, "93.8 [72-99]"), (16, 16, "100.0 [81-100]"), (0, 80, "0.0 [0-5]")],
)
def test_a_share_has_wilsons_interval(hits: int, total: int, text: str) -> None:
    assert share_with_interval([True] * hits + [False] * (total - hits)) == text


def test_a_mean_has_its_interval() -> None:
    assert mean_with_interval([1.0, 2.0, 3.0]) == "2.000 ±1.132"
    assert mean_with_interval([0.5]) == "0.500 ±0.000"


def test_psnr_is_that_of_the_mean_error() -> None:
    assert psnr_of_errors([255.0**2 / 100, 255.0**2 / 100]) == "20.0"
    assert psnr_of_errors([0.0, 0.0]) == "exact"


def test_two_shares_are_compared_by_the_edits_that_changed() -> None:
    # Given 100 edits of which 90 succeed in both ways, 4 only in the first, and 1 only in the second
    both, first, second, neither = [(True, True)] * 90, [(True, False)] * 4, [(False, True)], [(False, False)] * 5
    hits, reference = zip(*both, *first, *second, *neither, strict=True)
    # Then p is that of 4 or more heads, or as many tails, in 5 throws: 12 / 32
    assert paired_shares(hits, reference) == "+3.0 ±4.3 (-1 +4), p = 0.38"
    assert paired_shares(reference, hits) == "-3.0 ±4.3 (-4 +1), p = 0.38"
    assert paired_shares(hits, hits) == "+0.0 ±0.0 (-0 +0), p = 1.00"


def test_two_means_are_compared_pair_by_pair() -> None:
    assert paired_means([1.0, 2.0, 3.0], [0.0, 1.0, 1.0]) == "+1.333 ±0.653"
    assert paired_means([0.5], [0.75]) == "-0.250 ±0.000"


def test_two_psnrs_are_compared_by_their_mean_errors() -> None:
    assert paired_psnr([1.0, 2.0, 3.0], [10.0, 20.0, 30.0]) == "+10.0 [+10.0, +10.0]"
    assert paired_psnr([10.0, 1.0] * 50, [1.0, 10.0] * 50).startswith("+0.0 [-")
    assert paired_psnr([0.0, 0.0], [1.0, 2.0]) == "-"
    assert paired_psnr([0.0, 1.0], [1.0, 1.0]).startswith("+3.0 [")
