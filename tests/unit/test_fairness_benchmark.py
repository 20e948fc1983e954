"""What the fairness benchmark counts."""

import pytest

from benchmarks.fairness.measures import jain_index, per_weight, unequal_loads


def test_the_index_is_one_for_equal_shares_and_one_nth_if_one_owner_gets_everything() -> None:
    assert jain_index([7, 7, 7, 7]) == jain_index([0, 0]) == 1
    assert jain_index([9, 0, 0, 0]) == 0.25
    assert jain_index([1, 2, 3]) == pytest.approx(36 / 42)


def test_loads_fall_from_the_largest_to_the_smallest() -> None:
    loads = list(unequal_loads(20, 30, 2000).values())
    assert (len(loads), loads[0], loads[-1]) == (20, 2000, 30)
    assert loads == sorted(loads, reverse=True)


def test_shares_are_divided_by_weight() -> None:
    assert per_weight({"a": 4, "b": 3}, {"a": 2.0}) == [2, 3]
