"""Figures: made in rounds and shown as a table with their spread; of many edits, with 95 % intervals."""

import argparse
import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Measured:
    """A number that comes out a little different each time, with one value a round; `words` go around it."""

    values: tuple[float, ...]
    words: str = "{}"
    digits: int = 2

    def __add__(self, other: "Measured") -> "Measured":
        return replace(self, values=self.values + other.values)

    def __str__(self) -> str:
        """The median, with the least and the largest of several rounds."""
        median, least, largest = (f"{of(self.values):.{self.digits}f}" for of in (statistics.median, min, max))
        return self.words.format(f"{median} ({least}-{largest})" if len(self.values) > 1 else median)


def measured(value: float, words: str = "{}", digits: int = 2) -> Measured:
    """What one round has measured."""
    return Measured((value,), words, digits)


Cell = Measured | str
"""A text says what is the same in every round."""


@dataclass(frozen=True)
class Figure:
    """A row of the benchmarks' table, named like no other; `bar` is what it should be."""

    name: str
    ours: Cell
    reference: Cell = ""
    bar: str = ""

    @property
    def varies(self) -> bool:
        return isinstance(self.ours, Measured) or isinstance(self.reference, Measured)

    def __add__(self, other: "Figure") -> "Figure":
        """The same row after another round."""
        return replace(self, ours=_joined(self.ours, other.ours), reference=_joined(self.reference, other.reference))


def _joined(before: Cell, new: Cell) -> Cell:
    return before + new if isinstance(before, Measured) and isinstance(new, Measured) else before


FigureMaker = Callable[..., Iterator[Figure]]


class Figures:
    """The rows that `makers` make, by name, round after round."""

    def __init__(self, makers: Iterable[FigureMaker]) -> None:
        self.rows: dict[str, Figure] = {}
        self._makers = list(makers)

    def another_round(self) -> Iterator[Figure]:
        """Each row as it is then. A maker whose rows have shown to be always the same is not asked again."""
        told: set[str] = set()
        for maker in list(self._makers):
            varies = False
            for figure in maker():
                assert figure.name not in told, f"two rows are named {figure.name!r}"
                told.add(figure.name)
                varies |= figure.varies
                before = self.rows.get(figure.name)
                self.rows[figure.name] = before + figure if before else figure
                yield self.rows[figure.name]
            if not varies:
                self._makers.remove(maker)

    def table(self) -> Table:
        table = Table("figure", "reference", "ours", "bar")
        for row in self.rows.values():
            table.add_row(row.name, str(row.reference), str(row.ours), row.bar)
        return table


def run_figures(makers: Sequence[FigureMaker], description: str | None) -> None:
    """The command line of a module of figures: those that are named, or all."""
    named = {maker.__name__: maker for maker in makers}
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(named))
    parser.add_argument("--rounds", type=int, default=1)
    args = parser.parse_args()
    if unknown := set(args.names) - set(named):
        parser.error(f"{', '.join(unknown)}: none of {', '.join(named)}")
    figures = Figures([named[name] for name in args.names or named])
    for _ in range(args.rounds):
        for figure in figures.another_round():
            print(f"{figure.name}: {figure.ours}", flush=True)
    Console().print(figures.table())


def seconds(run: Callable[[], object]) -> float:
    """How long a run takes."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def psnr(errors: Iterable[float]) -> str:
    """Of the mean error over all edits, in dB."""
    error = statistics.fmean(errors)
    return "exact" if error == 0 else f"{10 * math.log10(255**2 / error):.1f}"


def share(hits: Sequence[bool]) -> str:
    """A share in per cent with Wilson's 95 % interval."""
    n, p, z = len(hits), sum(hits) / len(hits), 1.96
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return f"{100 * p:.1f} [{100 * max(0.0, centre - half):.0f}-{100 * min(1.0, centre + half):.0f}]"


def mean(values: Sequence[float]) -> str:
    """A mean with its 95 % interval."""
    half = 1.96 * statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return f"{statistics.fmean(values):.3f} ±{half:.3f}"
