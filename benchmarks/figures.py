"""Figures as text: of many edits with 95 % intervals where they can have one, of a few runs with their spread."""

import argparse
import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Figure:
    """A row of the benchmarks' table; `bar` is what it should be."""

    name: str
    ours: str
    reference: str = ""
    bar: str = ""


def table(figures: Iterable[Figure]) -> Table:
    shown = Table("figure", "reference", "ours", "bar")
    for figure in figures:
        shown.add_row(figure.name, figure.reference, figure.ours, figure.bar)
    return shown


FigureMaker = Callable[..., Iterator[Figure]]


def run_figures(makers: Sequence[FigureMaker], description: str | None) -> None:
    """The command line of a module of figures: those that are named, or all."""
    named = {maker.__name__: maker for maker in makers}
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(named))
    names = parser.parse_args().names or list(named)
    if unknown := set(names) - set(named):
        parser.error(f"{', '.join(unknown)}: none of {', '.join(named)}")
    Console().print(table([figure for name in names for figure in named[name]()]))


def seconds(run: Callable[[], object]) -> float:
    """How long a run takes."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def spread(values: Sequence[float]) -> str:
    """The median of a few runs, with the least and the largest."""
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


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
