"""The benchmarks' table of results over several rounds."""

from collections.abc import Iterator

from benchmarks.harness.results import ResultRow, ResultTable, measurement


def test_rounds_are_combined_into_a_median_and_a_spread() -> None:
    speeds = iter([3.0, 1.0, 2.25])

    def speed() -> Iterator[ResultRow]:
        value = next(speeds)
        yield ResultRow("speed", measurement(value, "{} m/s", digits=1), reference=measurement(2 * value, "1.00 = {}"))
        yield ResultRow("its unit", "metres", target="SI")

    table = ResultTable([speed])
    assert [str(row.ours) for row in table.run_round()] == ["3.0 m/s", "metres"]
    assert [str(row.ours) for row in table.run_round()] == ["2.0 (1.0-3.0) m/s", "metres"]
    list(table.run_round())
    assert table.rows == {
        "speed": ResultRow(
            "speed",
            measurement(3.0, "{} m/s", digits=1) + measurement(1.0) + measurement(2.25),
            reference=measurement(6.0, "1.00 = {}") + measurement(2.0) + measurement(4.5),
        ),
        "its unit": ResultRow("its unit", "metres", target="SI"),
    }
    assert str(table.rows["speed"].ours) == "2.2 (1.0-3.0) m/s"
    assert str(table.rows["speed"].reference) == "1.00 = 4.50 (2.00-6.00)"


def test_a_benchmark_whose_rows_do_not_vary_runs_once() -> None:
    calls = []

    def count() -> Iterator[ResultRow]:
        calls.append("count")
        yield ResultRow("requests", "14")

    def time() -> Iterator[ResultRow]:
        calls.append("time")
        yield ResultRow("seconds", measurement(1))

    table = ResultTable([count, time])
    for _ in range(3):
        list(table.run_round())
    assert calls == ["count", "time", "time", "time"]
    assert list(table.rows) == ["requests", "seconds"]
