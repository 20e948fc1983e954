"""What `diffedit batch` and `diffedit sweep` show of their progress."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from diffedit.batch.cost import Cost
from diffedit.batch.run import Progress
from diffedit.cli import main
from diffedit.text import printable

LINE_EVERY = 30.0
"""Seconds between two lines where there is no terminal."""

Show = Callable[[Progress], None]


@contextmanager
def shown_progress(first: Progress, limit: int | None, *, quiet: bool = False) -> Iterator[Show]:
    """Show the progress on stderr while the context lasts: a bar on a terminal, else a line from time to time."""
    wanted = first.counts.pending if limit is None else min(limit, first.counts.pending)
    if quiet:
        yield lambda progress: None
    elif main.err.is_terminal:
        with _bar(wanted) as show:
            yield show
    else:
        yield _lines(wanted)


@contextmanager
def counted(wanted: int, *, quiet: bool = False) -> Iterator[Callable[[int], None]]:
    """Show a number that grows up to `wanted` on stderr, if that is a terminal."""
    if quiet or not main.err.is_terminal:
        yield lambda done: None
        return
    with Bar(BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=main.err) as bar:
        task = bar.add_task("edits", total=wanted)
        yield lambda done: bar.update(task, completed=done)


@contextmanager
def _bar(wanted: int) -> Iterator[Show]:
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[facts]}", style="bright_black", markup=False),
    )
    began = time.monotonic()
    with Bar(*columns, console=main.err) as bar:
        task = bar.add_task("rows", total=wanted, rate="", facts="")

        def show(progress: Progress) -> None:
            rate = progress.ended / max(time.monotonic() - began, 1e-9)
            bar.update(task, completed=progress.ended, rate=f"{rate:.1f}/s", facts=facts(progress))

        yield show


def _lines(wanted: int) -> Show:
    began = last = time.monotonic()

    def show(progress: Progress) -> None:
        nonlocal last
        if (now := time.monotonic()) - last >= LINE_EVERY:
            last = now
            rate = progress.ended / (now - began)
            left = (wanted - progress.ended) / rate if rate else 0.0
            main.err.print(
                f"{progress.ended} of {wanted} rows, {rate:.1f}/s, {left:.0f} s left{_after_comma(facts(progress))}"
            )

    return show


def facts(progress: Progress) -> str:
    """Return failures by code, rows that are left, and the share of stages whose artifacts existed."""
    parts = [f"{number} {code}" for code, number in sorted(progress.counts.codes.items())]
    parts += [f"{number} left ({code})" for code, number in sorted(progress.left.items())]
    if progress.stages:
        parts.append(f"{progress.found / progress.stages:.0%} cached")
    return ", ".join(parts)


def summary_lines(progress: Progress, files: Mapping[str, str]) -> list[str]:
    counts = progress.counts
    lines = [f"{counts.done} of {counts.total} rows done, {counts.failed} failed, {counts.pending} not done"]
    lines += [f"  {number} {printable(code)}" for code, number in sorted(counts.codes.items())]
    if progress.left:
        lines.append(f"{sum(progress.left.values())} rows have not ended; the same command goes on with their jobs")
    if progress.last:
        lines.append(f"last error: {printable(progress.last)}")
    return lines + [f"{name}: {printable(path)}" for name, path in files.items()]


def cost_lines(cost: Cost) -> list[str]:
    lines = [f"{cost.rows} rows would be submitted, {cost.refused} refused"]
    lines += [f"  {printable(reason)}" for reason in cost.reasons]
    lines += [f"  {stage}: {number} times" for stage, number in cost.stages.items()]
    lines.append(f"{cost.samples} samples of the UNet")
    if cost.seconds is None:
        lines.append("seconds are not known: not every stage of this profile was measured yet")
    else:
        shared = f", {cost.seconds / cost.workers:.0f} s on {cost.workers} live workers" if cost.workers > 1 else ""
        lines.append(f"about {cost.seconds:.0f} s of one worker{shared}, as stages of this profile took before")
    return lines


def _after_comma(text: str) -> str:
    return f", {text}" if text else ""
