"""The benchmarks' estimates with their 95 % intervals."""

import pytest

from benchmarks.harness.estimates import mean_with_interval, psnr_of_errors, share_with_interval


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
