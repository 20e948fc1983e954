"""The commands of `diffedit admin` that list and change jobs of all owners."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from diffedit.admin import Changed
from diffedit.cli import main
from diffedit.cli.admin import PANEL, DryRun, admin_app
from diffedit.cli.admin_tables import admin_jobs_table
from diffedit.cli.options import AsJson, parse_tag_filter
from diffedit.contract.job import State
from diffedit.contract.stages import Stage
from diffedit.errors import InvalidRequest
from diffedit.text import printable

SOME_REFUSED = 1
"""The exit code if some of many jobs could not be changed."""

Ids = Annotated[
    list[str] | None, typer.Argument(metavar="[ID]...", help="The ids of jobs. Without ids, options select.")
]
InState = Annotated[State | None, typer.Option("--state", metavar="STATE", help="Jobs in this state, such as failed.")]
Code = Annotated[str | None, typer.Option("--code", help="Jobs that failed with this error code.")]
InStage = Annotated[
    Stage | None,
    typer.Option("--stage", metavar="STAGE", help="Jobs that failed in this stage, wait for it, or are in it."),
]
OfProfile = Annotated[str | None, typer.Option("--profile", help="Jobs of this profile.")]
OfOwner = Annotated[str | None, typer.Option("--owner", help="Jobs of this owner.")]
WithTag = Annotated[
    str | None, typer.Option("--tag", metavar="NAME[=VALUE]", help="Jobs with this tag (and this value).")
]
Since = Annotated[
    str | None,
    typer.Option(
        metavar="AGE", help="Jobs that ended, or were submitted and have not ended, within this time: 30m, 2h, 1d."
    ),
]
OlderThan = Annotated[
    str | None,
    typer.Option(metavar="AGE", help="Jobs that ended, or were submitted and have not ended, before this time."),
]
AtMost = Annotated[int | None, typer.Option("--limit", min=1, help="Change at most this many jobs.")]
Failed = Annotated[bool, typer.Option("--failed", help="The same as --state failed.")]


@main.command(PANEL, group=admin_app)
def jobs(
    state: InState = None,
    code: Code = None,
    stage: InStage = None,
    profile: OfProfile = None,
    owner: OfOwner = None,
    tag: WithTag = None,
    since: Since = None,
    older_than: OlderThan = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="List at most this many jobs.")] = 50,
    cursor: Annotated[str | None, typer.Option(help="List the jobs after those that ended with this cursor.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the newest jobs of all owners. If there are more, the cursor of the next ones is printed on stderr."""
    query = _query(state, code, stage, profile, owner, tag, since, older_than)
    found = main.make_client().admin.jobs(limit, cursor, **query)
    if as_json:
        main.print_json([each.model_dump(mode="json") for each in found])
    else:
        main.print_table(admin_jobs_table(found))
    for job_id in found.unreadable:
        main.err.print(printable(f"warning: the record of job {job_id} cannot be read"))
    if found.cursor:
        main.err.print(f"more: --cursor {found.cursor}")


@main.command(PANEL, group=admin_app)
def retry(
    ids: Ids = None,
    failed: Failed = False,
    state: InState = None,
    code: Code = None,
    stage: InStage = None,
    profile: OfProfile = None,
    owner: OfOwner = None,
    tag: WithTag = None,
    since: Since = None,
    older_than: OlderThan = None,
    limit: AtMost = None,
    no_deadline: Annotated[bool, typer.Option("--no-deadline", help="Drop the time limits of the jobs.")] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Let jobs that failed (or with --state: were cancelled, have expired) start over under the same ids."""
    if failed and state not in (None, State.FAILED):
        raise InvalidRequest(f"--failed and --state {state} exclude each other; give one of them")
    query = _query(State.FAILED if failed else state, code, stage, profile, owner, tag, since, older_than)
    admin = main.make_client().admin
    found = admin.retry(*(ids or ()), no_deadline=no_deadline, limit=limit, dry_run=dry_run, **query)
    _show_changes(found, "start over", dry_run, as_json)


@main.command(PANEL, group=admin_app)
def cancel(
    ids: Ids = None,
    state: InState = None,
    stage: InStage = None,
    profile: OfProfile = None,
    owner: OfOwner = None,
    tag: WithTag = None,
    since: Since = None,
    older_than: OlderThan = None,
    limit: AtMost = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Cancel jobs that have not ended."""
    query = _query(state, None, stage, profile, owner, tag, since, older_than)
    found = main.make_client().admin.cancel(*(ids or ()), limit=limit, dry_run=dry_run, **query)
    _show_changes(found, "are cancelled", dry_run, as_json)


@main.command(PANEL, group=admin_app)
def move(
    to: Annotated[str, typer.Option(metavar="PROFILE", help="The profile that the jobs get.")],
    ids: Ids = None,
    profile: Annotated[
        str | None, typer.Option("--from", "--profile", metavar="PROFILE", help="Jobs of this profile.")
    ] = None,
    state: InState = None,
    stage: InStage = None,
    owner: OfOwner = None,
    tag: WithTag = None,
    since: Since = None,
    older_than: OlderThan = None,
    limit: AtMost = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Let jobs that wait start over in another profile, under the same ids. Their parameters stay."""
    query = _query(state, None, stage, profile, owner, tag, since, older_than)
    found = main.make_client().admin.move(*(ids or ()), to=to, limit=limit, dry_run=dry_run, **query)
    _show_changes(found, f"are moved to {to}", dry_run, as_json)


def _query(
    state: State | None,
    code: str | None,
    stage: Stage | None,
    profile: str | None,
    owner: str | None,
    tag: str | None,
    since: str | None,
    older_than: str | None,
) -> dict[str, Any]:
    given = {
        "state": state,
        "code": code,
        "stage": stage,
        "profile": profile,
        "owner": owner,
        "tag": parse_tag_filter(tag),
        "since": since,
        "older_than": older_than,
    }
    return {name: value for name, value in given.items() if value is not None}


def _show_changes(found: Sequence[Changed], what: str, dry_run: bool, as_json: bool) -> None:
    """Print what came of each job. The exit code is 1 if some could not be changed."""
    refused = [each for each in found if not each.done]
    if as_json:
        main.print_json({"jobs": [each.model_dump(mode="json") for each in found], "dry_run": dry_run})
    else:
        for each in found:
            if each.done:
                main.out.print(each.id)
        for each in refused:
            main.err.print(printable(f"{each.error}: {each.message}"))
        would = " (nothing was changed: --dry-run)" if dry_run else ""
        main.err.print(f"{len(found) - len(refused)} jobs {what}{would}; {len(refused)} cannot")
    if refused:
        raise typer.Exit(SOME_REFUSED)
