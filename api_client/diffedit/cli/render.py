"""Tables for people. Text that comes from users or workers is printed without control characters."""

from collections.abc import Sequence

from rich.table import Table

from diffedit.api_keys import ApiKey
from diffedit.contract.job import JobStatus
from diffedit.contract.usage import Usage, UsageKey
from diffedit.contract.webhooks import WaitingEvents
from diffedit.health import Health
from diffedit.jobs.workers import Trouble, TroubleKind, WorkerInfo
from diffedit.progress import describe
from diffedit.text import printable

MOST_NAMES = 5
"""Damaged keys that are named."""


def status_table(status: JobStatus) -> Table:
    """Return one row for each fact about a job, with the seconds of each finished stage."""
    table = Table(box=None, show_header=False)
    table.add_row("job", status.id)
    table.add_row("state", status.state.value)
    table.add_row("stage", _stage(status))
    table.add_row("progress", f"{status.progress:.0%}")
    if status.owner:
        table.add_row("owner", printable(status.owner))
    if status.tags:
        table.add_row("tags", printable(", ".join(f"{name}={value}" for name, value in status.tags.items())))
    if status.position is not None:
        table.add_row("ahead", str(status.position))
    if status.eta is not None:
        table.add_row("done in about", f"{status.eta:.0f} s")
    for stage, seconds in status.timings.items():
        table.add_row(stage.value, f"{seconds:.2f} s{' (cached)' if stage in status.cache_hits else ''}")
    for delivery in status.deliveries:
        tried = f"{delivery.state.value}, {delivery.attempts} attempts{f', {delivery.error}' if delivery.error else ''}"
        table.add_row(delivery.event, printable(tried))
    if status.refusal:
        names = ", ".join(status.refused_by.get(status.refusal.stage, ())) if status.refusal.stage else ""
        table.add_row("not run by", printable(f"{names}: {status.refusal.message}"))
    if status.error:
        table.add_row("error", printable(f"{status.error.code}: {status.error.message}"))
    return table


def jobs_table(jobs: Sequence[JobStatus]) -> Table:
    """Return one row for each job. `submitted` is in UTC, `seconds` lie between submission and end."""
    table = Table(box=None)
    # Ids are for copying, so they are never shortened, however narrow the terminal is.
    table.add_column("id", no_wrap=True, min_width=32)
    for column in ("state", "stage", "submitted", "seconds"):
        table.add_column(column)
    for job in jobs:
        seconds = f"{(job.finished_at - job.created_at).total_seconds():.1f}" if job.finished_at else ""
        table.add_row(job.id, job.state.value, _stage(job), f"{job.created_at:%Y-%m-%d %H:%M:%S}", seconds)
    return table


def usage_table(found: Sequence[Usage], by: Sequence[UsageKey]) -> Table:
    """Return one row for each sum, with what it is the sum of."""
    table = Table(box=None)
    for key in by:
        table.add_column(key)
    for measure in ("gpu seconds", "megapixels", "succeeded", "failed", "cancelled", "expired"):
        table.add_column(measure, justify="right")
    for each in found:
        names = [printable(str(getattr(each, key))) or "(no owner)" for key in by]
        counts = [str(count) for count in (each.succeeded, each.failed, each.cancelled, each.expired)]
        table.add_row(*names, f"{each.gpu_seconds:.1f}", f"{each.pixels / 1e6:.2f}", *counts)
    return table


def keys_table(found: Sequence[ApiKey]) -> Table:
    """Return one row for each API key. `made` is in UTC, `rate` in requests a minute."""
    table = Table(box=None)
    for column in ("id", "owner", "name", "rate", "made"):
        table.add_column(column, no_wrap=column == "id")
    for key in found:
        made = f"{key.created_at:%Y-%m-%d %H:%M:%S}"
        table.add_row(key.id, printable(key.owner), printable(key.name), str(key.rate), made)
    return table


def health_table(health: Health) -> Table:
    """Return one row each for the broker, the object store, every worker and every queue."""
    table = Table(box=None, show_header=False)
    table.add_row("broker", printable(health.broker))
    for warning in health.broker_warnings:
        table.add_row("warning", printable(warning))
    table.add_row("object store", printable(health.object_store))
    for worker in health.workers:
        table.add_row("worker", printable(_worker(worker)))
    if not health.workers:
        table.add_row("worker", "none; start one with `diffedit worker` or `diffedit up`")
    for trouble in health.troubles:
        table.add_row("trouble", printable(_trouble(trouble)))
    done, refused = health.recent_stages
    if refused:
        note = "; read the workers' logs" if health.many_refused else ""
        table.add_row("stages", f"{done} done, {refused} times a worker could not run one, in 10 minutes{note}")
    if health.damaged:
        names = ", ".join(health.damaged[:MOST_NAMES]) + (", ..." if len(health.damaged) > MOST_NAMES else "")
        table.add_row("damaged", printable(f"{len(health.damaged)} keys in Redis cannot be read: {names}"))
    if health.webhooks.due:
        table.add_row("webhooks", _webhooks(health.webhooks))
    for queue, pause in health.paused.items():
        table.add_row("paused", printable(f"{queue}  since {pause.since:%Y-%m-%d %H:%M} UTC: {pause.reason or '-'}"))
    for queue, length in health.queues.items():
        reason = "it is paused" if queue in health.paused else "no worker takes jobs from this queue"
        unserved = f"; {reason}" if queue in health.unserved else ""
        table.add_row("queue", printable(f"{queue}  {length} waiting{unserved}"))
    return table


def _worker(worker: WorkerInfo) -> str:
    jobs = worker.running_jobs
    busy = f"busy with job{'s' * (len(jobs) > 1)} {', '.join(jobs)}" if jobs else "idle"
    state = worker.state if worker.paused else busy
    version = f"  {worker.version}" if worker.version else ""
    return (
        f"{worker.name}{version}  profile {worker.profile} on {worker.device}, {state}, {worker.memory / 2**20:.0f} MiB"
    )


def _webhooks(waiting: WaitingEvents) -> str:
    what = f"{waiting.due} waiting, the oldest for {waiting.oldest or 0:.0f} s"
    return f"{what}; nothing sends events: start `diffedit webhooks`" if waiting.unsent else what


def _trouble(trouble: Trouble) -> str:
    if trouble.kind is TroubleKind.REFUSING:
        what = f"could not run stage {trouble.stage or '-'}"
    else:
        what = f"{trouble.kind.value}, takes no jobs from {', '.join(trouble.queues)}"
    return f"{trouble.name}  since {trouble.since:%Y-%m-%d %H:%M} UTC {what}: {trouble.message}"


def _stage(status: JobStatus) -> str:
    if status.error:
        return printable(f"{status.error.stage or '-'}: {status.error.code}")
    return "" if status.is_terminal else describe(status)
