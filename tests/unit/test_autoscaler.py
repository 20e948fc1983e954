"""The rules of KEDA and the HPA in `benchmarks.scaling`, against the examples of their documentation."""

import itertools

import pytest

from benchmarks.scaling.autoscaler import (
    SCALE_DOWN,
    SCALE_UP,
    Activation,
    Direction,
    HorizontalAutoscaler,
    Metric,
    Policy,
)


@pytest.mark.parametrize(("value", "wanted"), [(200, 2), (50, 1), (100, 1)])
def test_one_replica_with_twice_or_half_of_the_target_becomes_two_or_stays(value: float, wanted: int) -> None:
    """Algorithm details: 200m of 100m doubles the replicas, 50m halves them; a ceiling leaves one of a half."""
    assert Metric(value, 100).desired_replicas(current=1, ready=1) == wanted


def test_four_replicas_with_half_of_the_target_become_two() -> None:
    assert Metric(4 * 50, 100).desired_replicas(current=4, ready=4) == 2


def test_fifty_replicas_at_90_of_75_become_sixty() -> None:
    """The example of the page on configurable tolerance: ceil(50 x 90 / 75)."""
    assert Metric(50 * 90, 75).desired_replicas(current=50, ready=50) == 60


@pytest.mark.parametrize(("value", "wanted"), [(109, 10), (91, 10), (112, 12), (88, 9)])
def test_a_tenth_more_or_less_than_the_target_changes_nothing(value: float, wanted: int) -> None:
    assert Metric(value, 10).desired_replicas(current=10, ready=10) == wanted


def test_a_metric_of_all_replicas_counts_those_that_are_ready() -> None:
    """So replicas that are still starting are not multiplied again."""
    assert Metric(300, 100, "Value").desired_replicas(current=8, ready=2) == 6


def test_the_metric_that_asks_for_most_decides() -> None:
    hpa = HorizontalAutoscaler(1, 100)
    assert hpa.replicas(0, current=4, ready=4, metrics=[Metric(10, 2), Metric(70, 10), Metric(1, 1)]) == 7


def test_replicas_stay_between_the_limits() -> None:
    assert HorizontalAutoscaler(1, 6).replicas(0, 4, 4, [Metric(1000, 1)]) == 6
    down = Direction(SCALE_DOWN.policies, stabilization=0)
    assert HorizontalAutoscaler(3, 6, down=down).replicas(0, 4, 4, [Metric(0, 1)]) == 3


def test_by_default_replicas_grow_by_four_or_double_every_15_seconds() -> None:
    hpa, current, seen = HorizontalAutoscaler(1, 100), 1, []
    for tick in range(6):
        current = hpa.replicas(15 * tick, current, current, [Metric(100, 1)])
        seen.append(current)
    assert seen == [5, 10, 20, 40, 80, 100]


def test_a_percentage_that_grows_is_rounded_up() -> None:
    """Else 10 % of one replica would never be one more."""
    hpa = HorizontalAutoscaler(1, 100, up=Direction((Policy("Percent", 10, 15),), 0))
    assert hpa.replicas(0, 1, 1, [Metric(50, 1)]) == 2


def test_80_replicas_go_down_to_10_by_a_tenth_and_then_by_four_a_minute() -> None:
    """Scaling policies: 80 loses 8; a tenth of 72 is rounded up to 8; below 40 the policy of 4 pods removes more."""
    down = Direction((Policy("Pods", 4, 60), Policy("Percent", 10, 60)), stabilization=0)
    hpa, current, seen = HorizontalAutoscaler(1, 100, down=down), 80, [80]
    for minute in range(14):
        current = hpa.replicas(60 * minute, current, current, [Metric(10, 1)])
        seen.append(current)
    assert seen[:4] == [80, 72, 64, 57]
    steps = [(before, before - after) for before, after in itertools.pairwise(seen)]
    assert all(removed == 4 for before, removed in steps if 14 <= before <= 40)
    assert current == 10


def test_the_smallest_change_is_chosen_where_the_policy_says_so() -> None:
    down = Direction((Policy("Percent", 10, 60), Policy("Pods", 5, 60)), stabilization=0, select="Min")
    assert HorizontalAutoscaler(1, 100, down=down).replicas(0, 80, 80, [Metric(10, 1)]) == 75


def test_a_policy_holds_for_its_whole_period() -> None:
    down = Direction((Policy("Pods", 4, 60),), stabilization=0)
    hpa, current, seen = HorizontalAutoscaler(1, 100, down=down), 20, []
    for tick in range(9):
        current = hpa.replicas(15 * tick, current, current, [Metric(1, 1)])
        seen.append(current)
    assert seen == [16, 16, 16, 16, 12, 12, 12, 12, 8]


def test_replicas_go_down_to_the_largest_recommendation_of_five_minutes() -> None:
    hpa = HorizontalAutoscaler(1, 100)
    assert hpa.replicas(0, 10, 10, [Metric(10, 1)]) == 10
    assert hpa.replicas(150, 10, 10, [Metric(6, 1)]) == 10
    assert hpa.replicas(300, 10, 10, [Metric(2, 1)]) == 10
    assert hpa.replicas(315, 10, 10, [Metric(2, 1)]) == 6
    assert hpa.replicas(600, 6, 6, [Metric(2, 1)]) == 2


def test_a_window_for_growth_waits_for_the_smallest_recommendation() -> None:
    hpa = HorizontalAutoscaler(1, 100, up=Direction(SCALE_UP.policies, 60))
    assert hpa.replicas(0, 2, 2, [Metric(2, 1)]) == 2
    assert hpa.replicas(60, 2, 2, [Metric(5, 1)]) == 2
    assert hpa.replicas(75, 2, 2, [Metric(4, 1)]) == 4


def test_keda_starts_the_first_replica_and_no_more() -> None:
    keda = Activation()
    assert keda.replicas(0, 0, active=False) == 0
    assert keda.replicas(30, 0, active=True) == 1
    assert keda.replicas(60, 7, active=True) == 7


def test_keda_takes_the_last_replicas_when_no_trigger_was_active_for_the_cooldown() -> None:
    keda = Activation()
    keda.replicas(0, 3, active=True)
    assert keda.replicas(300, 3, active=False) == 3
    assert keda.replicas(330, 3, active=False) == 0


def test_keda_leaves_the_minimum_alone() -> None:
    assert Activation(minimum=2).replicas(10_000, 5, active=False) == 5
    assert Activation(minimum=2).replicas(10_000, 0, active=False) == 2
