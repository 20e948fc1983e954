"""The `diffedit` command.

Exit codes: 0 done, 1 the job failed, 2 the request is wrong, 3 a service does not answer, 4 no such job, 5 the wait
timed out, 6 the job was cancelled or expired, 7 not healthy, 8 the queue is full, 130 interrupted. `--json` prints one
JSON value on stdout; errors then are JSON on stderr.
"""

import functools
import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from diffedit.client import Client
from diffedit.contract.job import JobStatus, State
from diffedit.contract.stages import Lane
from diffedit.errors import (
    ArtifactError,
    DiffEditError,
    InvalidRequest,
    JobCancelled,
    JobExpired,
    JobFailed,
    JobNotFound,
    JobTimeout,
    QueueFull,
    ServiceError,
)
from diffedit.handle import JobHandle
from diffedit.progress import describe
from diffedit.text import printable

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Text-driven image editing as a service that you run yourself.",
)
# No markup: what is printed comes from elsewhere, and brackets in it are brackets.
out, err = Console(soft_wrap=True, markup=False), Console(stderr=True, soft_wrap=True, markup=False)

EXIT_CODES: tuple[tuple[type[DiffEditError], int], ...] = (
    (InvalidRequest, 2),
    (ServiceError, 3),
    (QueueFull, 8),
    (JobNotFound, 4),
    (JobTimeout, 5),
    (JobCancelled, 6),
    (JobExpired, 6),
    (JobFailed, 1),
    (DiffEditError, 1),
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Timeout = Annotated[float, typer.Option(help="Seconds to wait for the job to end.")]
OutDir = Annotated[Path, typer.Option("--out", help="Folder for result.png, mask.png, grid.png and manifest.json.")]
JobIdArg = Annotated[str, typer.Argument(metavar="ID", help="The job's id.")]
DataDir = Annotated[Path, typer.Option("--dir", help="Where the embedded services keep their data.")]


def command(function: Callable[..., None]) -> Callable[..., None]:
    """A subcommand whose errors become one line and an exit code."""

    @app.command()
    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> None:
        as_json = bool(kwargs.get("as_json"))
        warnings.showwarning = lambda message, *_, **__: err.print(Text(f"warning: {printable(message)}", "yellow"))
        try:
            function(*args, **kwargs)
        except DiffEditError as error:
            if as_json:
                details = {name: value for name, value in vars(error).items() if name in ("job_id", "stage", "failure")}
                print(json.dumps({"error": error.code, "message": str(error), **details}), file=sys.stderr)
            else:
                err.print(Text(f"{error.code}: {printable(error)}", "red"))
            raise typer.Exit(next(code for kind, code in EXIT_CODES if isinstance(error, kind))) from None
        except KeyboardInterrupt:
            err.print("interrupted")
            raise typer.Exit(130) from None

    return run


@command
def edit(
    picture: Annotated[Path, typer.Argument(help="A PNG, JPEG or WebP file.")],
    source: Annotated[str | None, typer.Option(help="What the picture shows.")] = None,
    target: Annotated[str | None, typer.Option(help="What it shall show.")] = None,
    source_concept: Annotated[str | None, typer.Option(help='What to replace, in a word: "bowl".')] = None,
    target_concept: Annotated[str | None, typer.Option(help='What to put there, in a word: "basket".')] = None,
    caption: Annotated[str | None, typer.Option(help="Describes the whole picture; spares the captioner.")] = None,
    negative: Annotated[str | None, typer.Option(help="What the result must not show.")] = None,
    mask: Annotated[Path | None, typer.Option(help="White where it may change; spares the mask stage.")] = None,
    preview: Annotated[bool, typer.Option("--preview", help="Find the mask only.")] = False,
    steps: Annotated[int | None, typer.Option(help="Denoising steps (50).")] = None,
    strength: Annotated[float | None, typer.Option(help="How far into noise the edit starts, up to 1 (0.8).")] = None,
    guidance: Annotated[float | None, typer.Option(help="Guidance scale (7.5).")] = None,
    seed: Annotated[int | None, typer.Option(help="Makes the edit repeatable.")] = None,
    profile: Annotated[str | None, typer.Option(help="Model profile.")] = None,
    lane: Annotated[
        Lane, typer.Option(help="Batch jobs are worked on while no interactive one waits.")
    ] = Lane.INTERACTIVE,
    start_timeout: Annotated[float | None, typer.Option(help="Seconds; expire unless begun by then.")] = None,
    deadline: Annotated[float | None, typer.Option(help="Seconds; expire unless done by then.")] = None,
    key: Annotated[str | None, typer.Option(help="Idempotency key: the same key gives the same job.")] = None,
    out_dir: OutDir = Path("out"),
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Print the job's id and return.")] = False,
    timeout: Timeout = 600,
    as_json: AsJson = False,
) -> None:
    """Edit PICTURE: queue the job, follow it, save its result."""
    given: dict[str, Any] = {
        "source_prompt": source,
        "target_prompt": target,
        "source_concept": source_concept,
        "target_concept": target_concept,
        "caption": caption,
        "negative_prompt": negative,
        "mask": mask,
        "num_inference_steps": steps,
        "strength": strength,
        "guidance_scale": guidance,
        "seed": seed,
        "profile": profile,
        "lane": lane,
        "start_timeout": start_timeout,
        "deadline": deadline,
        "idempotency_key": key,
    }
    client = Client.from_env()
    submit = client.preview_mask if preview else client.edit
    job = submit(picture, **{name: value for name, value in given.items() if value is not None})
    if no_wait:
        print(json.dumps({"id": job.id}) if as_json else job.id)
        return
    if not as_json:
        err.print(f"job {job.id}")
    _fetch(job, out_dir, timeout, as_json)


@command
def status(job_id: JobIdArg, as_json: AsJson = False) -> None:
    """Show where a job stands."""
    _show(_job(job_id).status(), as_json)


@command
def watch(job_id: JobIdArg, timeout: Timeout = 600, as_json: AsJson = False) -> None:
    """Follow a job until it ends; with --json, one line of JSON per change."""
    job = _job(job_id)
    if as_json:
        for change in job.watch(timeout):
            print(change.model_dump_json(), flush=True)
    job.wait(timeout, progress=not as_json)


@command
def result(job_id: JobIdArg, out_dir: OutDir = Path("out"), timeout: Timeout = 600, as_json: AsJson = False) -> None:
    """Save what a job has made, waiting for it if need be."""
    _fetch(_job(job_id), out_dir, timeout, as_json)


@command
def cancel(job_id: JobIdArg, as_json: AsJson = False) -> None:
    """Cancel a job; exit code 2 if it had ended before."""
    job = _job(job_id)
    if not job.cancel():
        raise InvalidRequest(f"job {job_id} had ended already: {job.status().state.value}")
    print(json.dumps({"id": job_id, "state": State.CANCELLED.value}) if as_json else "cancelled")


@command
def retry(job_id: JobIdArg, as_json: AsJson = False) -> None:
    """Submit a failed, cancelled or expired job again; prints the new job's id."""
    job = _job(job_id).retry()
    print(json.dumps({"id": job.id, "retry_of": job_id}) if as_json else job.id)


@command
def jobs(
    state: Annotated[State | None, typer.Option(help="Only jobs in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many jobs to list.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List the newest jobs."""
    found = Client.from_env().jobs(state, limit)
    if as_json:
        print(json.dumps([status.model_dump(mode="json") for status in found]))
        return
    table = Table(box=None)
    # Whole, whatever the terminal's width: it is there to be copied.
    table.add_column("id", no_wrap=True, min_width=32)
    for column in ("state", "where", "submitted", "seconds"):
        table.add_column(column)
    for status in found:
        seconds = f"{(status.finished_at - status.created_at).total_seconds():.1f}" if status.finished_at else ""
        table.add_row(status.id, status.state.value, _where(status), f"{status.created_at:%Y-%m-%d %H:%M:%S}", seconds)
    out.print(table)


@command
def gc(
    older_than: Annotated[str, typer.Option(help='Stored longer ago than this: "30d", "36:00:00", "PT36H".')],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be deleted, and delete nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete old pictures, artifacts and results from the bucket, but what an unfinished job needs."""
    collected = Client.from_env().collect_garbage(older_than, dry_run=dry_run)
    if as_json:
        print(collected.model_dump_json())
        return
    told = "would be deleted" if dry_run else "deleted"
    kept = f"; {collected.in_use} older ones are in use" if collected.in_use else ""
    out.print(f"{collected.objects} objects ({collected.bytes / 1e6:.1f} MB) {told}{kept}")


@command
def health(as_json: AsJson = False) -> None:
    """Show whether the services answer, who works and what waits; exit code 7 if a job would not be worked on."""
    report = Client.from_env().health()
    if as_json:
        print(report.model_dump_json())
    else:
        rows = Table(box=None, show_header=False)
        rows.add_row("broker", printable(report.broker))
        rows.add_row("store", printable(report.object_store))
        for worker in report.workers:
            doing = f"at job {worker.job}" if worker.job else "free"
            told = f"{worker.name}  {worker.profile} on {worker.device}, {doing}, {worker.memory / 2**20:.0f} MiB"
            rows.add_row("worker", printable(told))
        for queue, depth in report.queues.items():
            reader = "; no worker reads it" if queue in report.unserved else ""
            rows.add_row("queue", printable(f"{queue}  {depth} waiting{reader}"))
        if not report.workers:
            rows.add_row("worker", "none; start one with `celery -A diffedit_worker.app worker` or `diffedit up`")
        out.print(rows)
    if not report.ok:
        raise typer.Exit(7)


@command
def up(
    directory: DataDir = Path(".diffedit/up"),
    workers: Annotated[int, typer.Option(min=0, max=16, help="Worker processes; 0 for the services alone.")] = 1,
    profile: Annotated[str | None, typer.Option(help="Model profile to serve.")] = None,
) -> None:
    """Run Valkey, S3 and workers here until Ctrl-C, and print how to reach them."""
    _local().up(directory, workers=workers, profile=profile)


@command
def env(directory: DataDir = Path(".diffedit/up")) -> None:
    """Print the environment of `diffedit up` in this directory, as lines for a shell or an .env file."""
    for name, value in _local().environment(directory).items():
        print(f"{name}={value}")


@command
def demo(
    out_dir: OutDir = Path("out"),
    directory: DataDir = Path(".diffedit/demo"),
) -> None:
    """Edit a bundled picture through the whole system, then stop everything again."""
    _local().demo(out_dir, directory)


def _job(job_id: str) -> JobHandle:
    return Client.from_env().job(job_id)


def _local() -> Any:
    try:
        from diffedit_worker.local import commands
    except ImportError as error:
        missing = "this needs the worker and the embedded services: pip install 'diffedit-service[worker,local]'"
        raise InvalidRequest(f"{missing} ({error})") from error
    return commands


def _fetch(job: JobHandle, out_dir: Path, timeout: float, as_json: bool) -> None:
    final = job.wait(timeout, progress=not as_json)
    try:
        paths = job.result(timeout).save(out_dir)
    except OSError as error:
        raise InvalidRequest(f"cannot write to {out_dir}: {error.strerror}") from error
    except ArtifactError as error:
        raise ArtifactError(f"the job succeeded, but its result is gone from the store ({error}); retry it") from error
    if as_json:
        files = {name: str(path) for name, path in paths.items()}
        print(json.dumps({**final.model_dump(mode="json"), "files": files}))
    else:
        for path in paths.values():
            print(path)


def _show(status: JobStatus, as_json: bool) -> None:
    if as_json:
        print(status.model_dump_json())
        return
    rows = Table(box=None, show_header=False)
    rows.add_row("job", status.id)
    rows.add_row("state", status.state.value)
    rows.add_row("where", _where(status))
    rows.add_row("progress", f"{status.progress:.0%}")
    for stage in status.stages:
        if stage in status.timings:
            found = " (was there already)" if stage in status.cache_hits else ""
            rows.add_row(stage.value, f"{status.timings[stage]:.2f} s{found}")
    if status.error:
        rows.add_row("error", printable(f"{status.error.code}: {status.error.message}"))
    out.print(rows)


def _where(status: JobStatus) -> str:
    if status.error:
        return printable(f"{status.error.stage or '-'}: {status.error.code}")
    return "" if status.is_terminal else describe(status)
