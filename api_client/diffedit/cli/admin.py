"""The commands that show and change a fleet: `diffedit admin`."""

from typing import Annotated

import typer

from diffedit.cli import main
from diffedit.cli.admin_tables import explanation_lines, owners_table, queues_table, workers_table
from diffedit.cli.options import AsJson, JobId
from diffedit.contract.stages import Lane, ModelGroup
from diffedit.text import printable

PANEL = "Operations"

admin_app = typer.Typer(no_args_is_help=True)
main.app.add_typer(
    admin_app, name="admin", rich_help_panel=PANEL, help="Show and change a fleet: queues, workers, jobs of all owners."
)

DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would happen.")]
QueueProfile = Annotated[str | None, typer.Option("--profile", help="Queues of this profile. Default: of all.")]
QueueGroup = Annotated[
    ModelGroup | None, typer.Option("--group", metavar="GROUP", help="language or diffusion. Default: both.")
]
QueueLane = Annotated[Lane | None, typer.Option("--lane", metavar="LANE", help="interactive or batch. Default: both.")]


@main.command(PANEL, group=admin_app)
def queues(as_json: AsJson = False) -> None:
    """Show all queues: waiting and running jobs, the longest wait, pauses, and workers."""
    found = main.make_client().admin.queues()
    if as_json:
        main.print_json([each.model_dump(mode="json") for each in found])
    else:
        main.print_table(queues_table(found))


@main.command(PANEL, group=admin_app)
def workers(as_json: AsJson = False) -> None:
    """Show the live workers: what they do, and from which queues they take jobs."""
    found = main.make_client().admin.workers()
    if as_json:
        main.print_json([each.model_dump(mode="json") | {"state": each.state} for each in found])
    else:
        main.print_table(workers_table(found))


@main.command(PANEL, group=admin_app)
def pause(
    reason: Annotated[str, typer.Option(help="Why, for other administrators.")],
    profile: QueueProfile = None,
    group: QueueGroup = None,
    lane: QueueLane = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Pause queues until `resume`: running stages go on, no further stage starts, new jobs are accepted."""
    admin = main.make_client().admin
    names = admin.pause(profile=profile, group=group, lane=lane, reason=reason, dry_run=dry_run)
    _show_names(names, "paused", dry_run, as_json)


@main.command(PANEL, group=admin_app)
def resume(
    profile: QueueProfile = None,
    group: QueueGroup = None,
    lane: QueueLane = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """End the pause of queues."""
    names = main.make_client().admin.resume(profile=profile, group=group, lane=lane, dry_run=dry_run)
    _show_names(names, "resumed", dry_run, as_json)


@main.command(PANEL, group=admin_app)
def drain(
    worker: Annotated[str, typer.Argument(metavar="WORKER", help='Its name, the part before the "@", or its id.')],
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Let a worker take no more jobs, end when its running stages have ended, and exit with status 0."""
    names = main.make_client().admin.drain(worker, dry_run=dry_run)
    _show_names(names, "drained", dry_run, as_json)


@main.command(PANEL, group=admin_app)
def why(job_id: JobId, as_json: AsJson = False) -> None:
    """Say what a job waits for, since when, and which workers could run it; or how it ended."""
    found = main.make_client().admin.why(job_id)
    if as_json:
        print(found.model_dump_json())
    else:
        main.out.print(explanation_lines(found))


@main.command(PANEL, group=admin_app)
def owners(as_json: AsJson = False) -> None:
    """Show the limits and weights of owners. `diffedit limits` sets them."""
    found = main.make_client().admin.owners()
    if as_json:
        main.print_json([{"owner": owner, **limits.model_dump(mode="json")} for owner, limits in found.items()])
    else:
        main.print_table(owners_table(found))


def _show_names(names: list[str], done: str, dry_run: bool, as_json: bool) -> None:
    if as_json:
        main.print_json({done: names, "dry_run": dry_run})
        return
    what = f"would be {done}" if dry_run else done
    for name in names:
        main.out.print(f"{printable(name)}  {what}")
    if not names:
        main.out.print(f"nothing {what}")
