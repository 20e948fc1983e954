"""Jobs as live bars on the terminal."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from diffedit.contract.job import JobStatus
from diffedit.errors import JobTimeout

if TYPE_CHECKING:
    from diffedit.handle import JobHandle

PAUSE = 0.1
"""Seconds between two looks: quick enough to see the steps of a stage."""


def follow(jobs: Sequence["JobHandle"], timeout: float, console: Console | None = None) -> list[JobStatus]:
    """Draw a bar per job until all have ended; returns their last statuses. Raises as `JobHandle.watch`."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[detail]}", markup=False),
    )
    deadline = time.monotonic() + timeout
    with Progress(*columns, console=console or Console(stderr=True)) as progress:
        bars = {job.id: progress.add_task(f"job {job.id[:8]}", total=1.0, detail="") for job in jobs}
        ended: dict[str, JobStatus] = {}
        while True:
            for job in jobs:
                if job.id in ended:
                    continue
                status = job.status(timeout=deadline - time.monotonic())
                progress.update(bars[job.id], completed=status.progress, detail=describe(status))
                if status.is_terminal:
                    progress.stop_task(bars[job.id])
                    ended[job.id] = status
            if len(ended) == len(bars):
                return [ended[job.id] for job in jobs]
            if time.monotonic() > deadline:
                late = next(job.id for job in jobs if job.id not in ended)
                raise JobTimeout(late, f"has not ended after {timeout:g} s; wait again or cancel it")
            time.sleep(PAUSE)


def describe(status: JobStatus) -> str:
    """Where the job stands, in a few words."""
    if status.is_terminal or status.stage is None:
        return status.state.value
    text = f"{status.stage.value} ({status.stage_index + 1} of {len(status.stages)})"
    return f"{text}, step {status.step}/{status.steps}" if status.steps else text
