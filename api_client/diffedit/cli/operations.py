"""The commands for operators: health, garbage collection, and owners."""

import json
from typing import Annotated, cast

import typer
from pydantic import ValidationError
from rich.text import Text

from diffedit.cli import main
from diffedit.cli.exit_codes import NOT_HEALTHY
from diffedit.cli.options import AsJson
from diffedit.cli.render import health_table, usage_table
from diffedit.contract.owners import OwnerLimits
from diffedit.contract.usage import UsageKey
from diffedit.contract.validation import explain
from diffedit.errors import InvalidRequest
from diffedit.health import Health, wait_for_health
from diffedit.text import printable
from diffedit.usage import checked_keys


def _help(limit: str) -> str:
    return f"{OwnerLimits.model_fields[limit].description}"


@main.command("Operations")
def health(
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="Ask again until it is healthy, for so long at most.")
    ] = 0,
    worker: Annotated[
        str | None, typer.Option(metavar="NAME", help="Healthy is: this worker takes jobs, and the services answer.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show services, workers and queues. The exit code is 7 if a job submitted now would not run (or see --worker)."""

    def is_healthy(report: Health) -> bool:
        return report.ok if worker is None else report.takes_jobs(worker)

    report = wait_for_health(main.make_client().health, is_healthy, timeout)
    if as_json:
        print(report.model_dump_json())
    else:
        main.out.print(health_table(report))
    if not is_healthy(report):
        if worker is not None:
            main.err.print(Text(f"worker {printable(worker)}: {report.why_idle(worker)}", "red"))
        raise typer.Exit(NOT_HEALTHY)


@main.command("Operations")
def gc(
    older_than: Annotated[
        str, typer.Option(metavar="AGE", help='Delete what was stored longer ago than this: "36h", "30d".')
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count the objects, but delete nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete old pictures, artifacts and results. Objects that an unfinished job needs are kept."""
    collected = main.make_client().collect_garbage(older_than, dry_run=dry_run)
    if as_json:
        print(collected.model_dump_json())
        return
    action = "would be deleted" if dry_run else "deleted"
    kept = f"; {collected.in_use} older objects are in use" if collected.in_use else ""
    main.out.print(f"{collected.objects} objects ({collected.bytes / 1e6:.1f} MB) {action}{kept}")


@main.command("Operations")
def delete_owner(
    owner: Annotated[str, typer.Argument(metavar="OWNER", help="Whose jobs to delete.")],
    yes: Annotated[bool, typer.Option("--yes", help="Delete them. Nothing can be restored.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete all jobs of an owner: records, and the pictures, artifacts and results that no other job uses."""
    if not yes:
        raise InvalidRequest("this deletes all jobs of the owner and cannot be undone; repeat it with --yes")
    deleted = main.make_client().delete_owner(owner)
    if as_json:
        print(deleted.model_dump_json())
    else:
        print(f"{deleted.jobs} jobs and {deleted.objects} objects deleted")


@main.command("Operations")
def limits(
    owner: Annotated[
        str | None,
        typer.Argument(metavar="[OWNER]", help="Whose limits. Default: those of all others."),
    ] = None,
    max_queued: Annotated[int | None, typer.Option(help=_help("max_queued"))] = None,
    max_running: Annotated[int | None, typer.Option(help=_help("max_running"))] = None,
    max_pixels: Annotated[int | None, typer.Option(help=_help("max_pixels"))] = None,
    max_steps: Annotated[int | None, typer.Option(help=_help("max_steps"))] = None,
    weight: Annotated[float | None, typer.Option(help=_help("weight"))] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Delete the limits of this owner.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the limits of an owner, or replace them all by those that are given."""
    client = main.make_client()
    options = {"max_queued": max_queued, "max_running": max_running, "max_pixels": max_pixels, "max_steps": max_steps}
    given = {name: value for name, value in {**options, "weight": weight}.items() if value is not None}
    if remove:
        client.set_owner_limits(owner, None)
    elif given:
        client.set_owner_limits(owner, _limits_of(given))
    found = client.owner_limits(owner)
    if as_json:
        print(found.model_dump_json())
        return
    for name, limit in found:
        print(f"{name}: {'no limit' if limit is None else limit}")


def _limits_of(given: dict[str, int | float]) -> OwnerLimits:
    try:
        return OwnerLimits.model_validate(given)
    except ValidationError as error:
        raise InvalidRequest(explain(error)) from None


@main.command("Operations")
def usage(
    by: Annotated[
        str, typer.Option(metavar="KEYS", help="Add up by owner, profile, day, or several: owner,day.")
    ] = "owner",
    since: Annotated[
        str,
        typer.Option(
            metavar="AGE", help='From this day on: "30d" (so long ago), or 2026-01-31. Usage is kept for 400 days.'
        ),
    ] = "30d",
    owner: Annotated[str | None, typer.Option(help="Only jobs of this owner.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what owners have used: seconds of the GPU, pixels, and how jobs ended. Days are in UTC."""
    keys = checked_keys(cast(UsageKey, by))
    found = main.make_client().usage(since, by=keys, owner=owner)
    if as_json:
        print(json.dumps([each.model_dump(mode="json", exclude_none=True) for each in found]))
    else:
        main.print_table(usage_table(found, keys))
