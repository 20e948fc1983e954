"""Jobs as live progress bars on the terminal."""

from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from diffedit.contract.job import JobStatus
from diffedit.waiting import Watchable, changes


def follow(jobs: Sequence[Watchable], timeout: float, console: Console | None = None) -> list[JobStatus]:
    """Draw a bar for each job until all jobs have ended. Return their last statuses. Raises as `waiting.changes`."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[detail]}", markup=False),
    )
    last: dict[str, JobStatus] = {}
    with Progress(*columns, console=console or Console(stderr=True)) as progress:
        bars = {job.id: progress.add_task(f"job {job.id[:8]}", total=1.0, detail="") for job in jobs}
        for status in changes(jobs, timeout):
            last[status.id] = status
            progress.update(bars[status.id], completed=status.progress, detail=describe(status))
            if status.is_terminal:
                progress.stop_task(bars[status.id])
    return [last[job.id] for job in jobs]


def describe(status: JobStatus) -> str:
    """Return the state of a job, or its stage and step, in a few words."""
    if status.is_terminal or status.stage is None:
        return status.state.value
    text = f"{status.stage.value} ({status.stage_index + 1} of {len(status.stages)})"
    return f"{text}, step {status.step}/{status.steps}" if status.steps else text
