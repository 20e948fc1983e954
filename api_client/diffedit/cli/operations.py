"""The commands for operators: health and garbage collection."""

from typing import Annotated

import typer

from diffedit.cli import main
from diffedit.cli.exit_codes import NOT_HEALTHY
from diffedit.cli.options import AsJson
from diffedit.cli.render import health_table


@main.command("Operations")
def health(as_json: AsJson = False) -> None:
    """Show services, workers and queues. The exit code is 7 if a job submitted now would not run."""
    report = main.make_client().health()
    if as_json:
        print(report.model_dump_json())
    else:
        main.out.print(health_table(report))
    if not report.ok:
        raise typer.Exit(NOT_HEALTHY)


@main.command("Operations")
def gc(
    older_than: Annotated[
        str, typer.Option(metavar="AGE", help='Delete what was stored before this time: "30d", "36:00:00", "PT36H".')
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
