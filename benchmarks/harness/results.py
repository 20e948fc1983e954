"""The table of results: measurements are repeated in rounds and shown as a median with its spread."""

import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from rich.table import Table


@dataclass(frozen=True)
class Measurement:
    """A number that varies between rounds. `values` has one entry per round; `template` adds text around the number."""

    values: tuple[float, ...]
    template: str = "{}"
    digits: int = 2

    def __add__(self, other: "Measurement") -> "Measurement":
        """Return this measurement with the rounds of `other` appended."""
        return replace(self, values=self.values + other.values)

    def __str__(self) -> str:
        """Format the median; after several rounds, the smallest and the largest value as well."""
        median, smallest, largest = (f"{of(self.values):.{self.digits}f}" for of in (statistics.median, min, max))
        return self.template.format(f"{median} ({smallest}-{largest})" if len(self.values) > 1 else median)


def measurement(value: float, template: str = "{}", digits: int = 2) -> Measurement:
    """Return the measurement of one round."""
    return Measurement((value,), template, digits)


Cell = Measurement | str
"""A cell of the table. A string holds what is the same in every round."""


@dataclass(frozen=True)
class ResultRow:
    """One row of the table. `name` is unique; `target` is the value that we want."""

    name: str
    ours: Cell
    reference: Cell = ""
    target: str = ""

    @property
    def varies(self) -> bool:
        return isinstance(self.ours, Measurement) or isinstance(self.reference, Measurement)

    def __add__(self, other: "ResultRow") -> "ResultRow":
        """Return this row with the round of `other` added."""
        return replace(self, ours=_add(self.ours, other.ours), reference=_add(self.reference, other.reference))


def _add(before: Cell, new: Cell) -> Cell:
    return before + new if isinstance(before, Measurement) and isinstance(new, Measurement) else before


Benchmark = Callable[[], Iterator[ResultRow]]
"""A function that measures once and yields rows of the table."""


class ResultTable:
    """The rows of several benchmarks, collected over several rounds.

    Attributes:
        rows: the rows by name, each with all rounds so far.
    """

    def __init__(self, benchmarks: Iterable[Benchmark]) -> None:
        self.rows: dict[str, ResultRow] = {}
        self._benchmarks = list(benchmarks)

    def run_round(self) -> Iterator[ResultRow]:
        """Run each benchmark once and yield its rows as they are then.

        A benchmark whose rows do not vary is left out of the following rounds.
        """
        names: set[str] = set()
        for benchmark in list(self._benchmarks):
            varies = False
            for row in benchmark():
                assert row.name not in names, f"two rows are named {row.name!r}"
                names.add(row.name)
                varies |= row.varies
                before = self.rows.get(row.name)
                self.rows[row.name] = before + row if before else row
                yield self.rows[row.name]
            if not varies:
                self._benchmarks.remove(benchmark)

    def formatted(self) -> Table:
        """Return the table for the terminal."""
        table = Table("measurement", "reference", "ours", "target")
        for row in self.rows.values():
            table.add_row(row.name, str(row.reference), str(row.ours), row.target)
        return table


def seconds_of(function: Callable[[], object]) -> float:
    """Call `function` and return how many seconds it took."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started
