"""Tables of `diffedit admin`. Text that comes from users or workers is printed without control characters."""

from collections.abc import Mapping, Sequence

from rich.table import Table

from diffedit.admin import Explanation, QueueState
from diffedit.contract.job import JobStatus
from diffedit.contract.owners import OwnerLimits
from diffedit.jobs.filters import stage_of
from diffedit.jobs.workers import WorkerInfo
from diffedit.text import printable


def queues_table(found: Sequence[QueueState]) -> Table:
    """Return one row for each queue. `held back` and `parked` are part of `waiting`."""
    table = Table(box=None)
    table.add_column("queue", no_wrap=True)
    for column in ("waiting", "held back", "parked", "running", "oldest", "workers"):
        table.add_column(column, justify="right")
    table.add_column("paused")
    for queue in found:
        oldest = "" if queue.oldest is None else f"{queue.oldest:.0f} s"
        numbers = (queue.waiting, queue.held_back, queue.parked, queue.running)
        paused = f"since {queue.paused_since:%Y-%m-%d %H:%M} UTC: {queue.paused_reason}" if queue.paused_since else ""
        table.add_row(printable(queue.name), *map(str, numbers), oldest, str(len(queue.workers)), printable(paused))
    return table


def workers_table(found: Sequence[WorkerInfo]) -> Table:
    """Return one row for each worker. `memory` is the largest resident size so far."""
    table = Table(box=None)
    table.add_column("worker", no_wrap=True)
    for column in ("state", "profile", "device", "stages", "memory", "version", "queues", "id"):
        table.add_column(column)
    for worker in found:
        prefix = f"diffedit.{worker.profile}."
        table.add_row(
            printable(worker.name),
            worker.state,
            printable(worker.profile),
            printable(worker.device),
            f"{len(worker.running_jobs)} of {worker.batch_jobs}",
            f"{worker.memory / 2**20:.0f} MiB",
            printable(worker.version),
            printable(", ".join(queue.removeprefix(prefix) for queue in worker.queues)),
            printable(worker.id),
        )
    return table


def admin_jobs_table(jobs: Sequence[JobStatus]) -> Table:
    """Return one row for each job. Times are in UTC."""
    table = Table(box=None)
    # Ids are for copying, so they are never shortened, however narrow the terminal is.
    table.add_column("id", no_wrap=True, min_width=32)
    for column in ("state", "stage", "code", "profile", "owner", "submitted", "ended"):
        table.add_column(column)
    for job in jobs:
        stage = stage_of(job)
        table.add_row(
            job.id,
            job.state.value,
            stage.value if stage else "",
            printable(job.error.code if job.error else ""),
            job.request.params.profile,
            printable(job.owner or ""),
            f"{job.created_at:%Y-%m-%d %H:%M:%S}",
            f"{job.finished_at:%Y-%m-%d %H:%M:%S}" if job.finished_at else "",
        )
    return table


def owners_table(found: Mapping[str | None, OwnerLimits]) -> Table:
    """Return one row for each owner with limits of its own, and one for all others."""
    table = Table(box=None)
    table.add_column("owner")
    for name in OwnerLimits.model_fields:
        table.add_column(name, justify="right")
    for owner, limits in found.items():
        values = ["" if value is None else f"{value:g}" for _, value in limits]
        table.add_row(printable(owner) if owner is not None else "(all others)", *values)
    return table


def explanation_lines(found: Explanation) -> str:
    """Return one line for the state, and one for each sentence."""
    return "\n".join([f"job {found.id} is {found.state.value}", *(f"  {printable(each)}" for each in found.reasons)])
