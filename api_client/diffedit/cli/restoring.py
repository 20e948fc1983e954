"""The command that brings jobs back when Redis has lost its data."""

from typing import Annotated

import typer

from diffedit.cli import main
from diffedit.cli.options import AsJson

_TIME = 'How long ago ("30m", "2h", "7d"), or a date ("2026-01-31T14:30:00Z").'


@main.command("Operations")
def restore(
    since: Annotated[str, typer.Option(metavar="TIME", help=f"Jobs that were submitted after this time. {_TIME}")],
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only jobs that were submitted before this time.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count the jobs, but record nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Bring jobs back that had not ended when Redis lost its data. It can be repeated: no job is recorded twice."""
    restored = main.make_client().restore(since, until, dry_run=dry_run)
    if as_json:
        print(restored.model_dump_json())
        return
    action = "would be restored" if dry_run else "restored"
    print(f"{restored.restored} jobs {action}, {restored.overdue} of them past a time limit")
    print(f"{restored.present} have a record or have ended, {restored.repeated} were submitted again")
    if restored.unreadable:
        print(f"{len(restored.unreadable)} copies cannot be read: {', '.join(restored.unreadable)}")
