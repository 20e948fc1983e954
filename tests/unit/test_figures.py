"""The benchmarks' figures over several rounds."""

from collections.abc import Iterator

from benchmarks.figures import Figure, Figures, measured


def test_rounds_add_up_to_a_median_and_a_spread() -> None:
    speeds = iter([3.0, 1.0, 2.25])

    def speed() -> Iterator[Figure]:
        value = next(speeds)
        yield Figure("speed", measured(value, "{} m/s", digits=1), reference=measured(2 * value, "1.00 = {}"))
        yield Figure("its unit", "metres", bar="SI")

    figures = Figures([speed])
    assert [str(figure.ours) for figure in figures.another_round()] == ["3.0 m/s", "metres"]
    assert [str(figure.ours) for figure in figures.another_round()] == ["2.0 (1.0-3.0) m/s", "metres"]
    list(figures.another_round())
    assert figures.rows == {
        "speed": Figure(
            "speed",
            measured(3.0, "{} m/s", digits=1) + measured(1.0) + measured(2.25),
            reference=measured(6.0, "1.00 = {}") + measured(2.0) + measured(4.5),
        ),
        "its unit": Figure("its unit", "metres", bar="SI"),
    }
    assert str(figures.rows["speed"].ours) == "2.2 (1.0-3.0) m/s"
    assert str(figures.rows["speed"].reference) == "1.00 = 4.50 (2.00-6.00)"


def test_who_tells_the_same_in_every_round_is_asked_once() -> None:
    asked = []

    def count() -> Iterator[Figure]:
        asked.append("count")
        yield Figure("requests", "14")

    def time() -> Iterator[Figure]:
        asked.append("time")
        yield Figure("seconds", measured(1))

    figures = Figures([count, time])
    for _ in range(3):
        list(figures.another_round())
    assert asked == ["count", "time", "time", "time"]
    assert list(figures.rows) == ["requests", "seconds"]
