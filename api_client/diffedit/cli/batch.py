"""The command that edits whole manifests and folders."""

from contextlib import closing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from diffedit.batch import naming
from diffedit.batch.cost import Cost, cost_of
from diffedit.batch.manifest import Manifest
from diffedit.batch.naming import Template
from diffedit.batch.places import Places, places_of
from diffedit.batch.run import Batch, Progress
from diffedit.batch.state import BatchState
from diffedit.cli import main
from diffedit.cli.batch_progress import cost_lines, shown_progress, summary_lines
from diffedit.cli.exit_codes import SOME_FAILED, SOME_LEFT
from diffedit.cli.options import AsJson, parse_params, parse_tags
from diffedit.contract.stages import Lane

RowOption = partial(typer.Option, rich_help_panel="Options of all rows, unless a row has its own")

_COLUMNS = """\
A manifest is a file of JSON Lines (.jsonl), CSV (.csv, .tsv) or Parquet (.parquet), or a folder of pictures.
A row has "picture", a path relative to the manifest, and any keyword arguments of Client.edit.
Columns whose names begin with an underscore are your own."""


@main.command("Jobs", epilog=_COLUMNS)
def batch(
    manifest: Annotated[Path, typer.Argument(metavar="MANIFEST", help="A manifest, or a folder of pictures.")],
    out: Annotated[str, typer.Option(metavar="PLACE", help="A folder, or s3://bucket/prefix.")] = "out",
    name: Annotated[
        str | None,
        typer.Option(
            metavar="TEMPLATE",
            help="Names of results, of {index}, {stem}, {path}, {digest} and the columns. "
            f'Default: "{naming.FOR_FILES}", for folders "{naming.FOR_FOLDERS}".',
        ),
    ] = None,
    source_prompt: Annotated[str | None, RowOption("--source-prompt", "--source", help="What pictures show.")] = None,
    target_prompt: Annotated[
        str | None, RowOption("--target-prompt", "--target", help="What pictures should show.")
    ] = None,
    source_concept: Annotated[str | None, RowOption(help="The thing to replace.")] = None,
    target_concept: Annotated[str | None, RowOption(help="The thing that replaces it.")] = None,
    preset: Annotated[str | None, RowOption(help="Named parameter defaults.")] = None,
    profile: Annotated[str | None, RowOption(help="The model profile.")] = None,
    param: Annotated[
        list[str] | None, RowOption(metavar="NAME=VALUE", help="A parameter, as of `diffedit edit` (repeatable).")
    ] = None,
    lane: Annotated[Lane, RowOption(metavar="LANE", help="interactive or batch.")] = Lane.BATCH,
    owner: Annotated[str | None, RowOption(help="Whose the jobs are.")] = None,
    tags: Annotated[list[str] | None, RowOption("--tag", metavar="NAME=VALUE", help="A label (repeatable).")] = None,
    keep: Annotated[float | None, RowOption(metavar="SECONDS", help="How long records and pictures are kept.")] = None,
    in_flight: Annotated[int, typer.Option(min=1, max=10_000, help="Jobs in work at once.")] = 64,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", help="What has not ended after so long is left for the next run.")
    ] = 86_400,
    limit: Annotated[int | None, typer.Option(min=1, help="Edit only so many rows in this run.")] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Also the rows that failed before, as new jobs.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the rows and show what they cost. Submit nothing.")
    ] = False,
    report: Annotated[bool, typer.Option("--report", help="Write report.html: before, mask, after.")] = False,
    state: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The state. Default: batch.sqlite in the folder of --out.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Edit each row of MANIFEST, or each picture of a folder, and go on where an earlier run was killed."""
    common: dict[str, Any] = {
        **parse_params(param or []),
        "source_prompt": source_prompt,
        "target_prompt": target_prompt,
        "source_concept": source_concept,
        "target_concept": target_concept,
        "preset": preset,
        "profile": profile,
        "lane": lane.value,
        "owner": owner,
        "tags": parse_tags(tags) if tags else None,
        "keep": keep,
    }
    places = places_of(manifest, out, state)
    rows = Manifest(manifest, {key: value for key, value in common.items() if value is not None}, skip=places.folder)
    template = Template(name or (naming.FOR_FOLDERS if rows.is_folder else naming.FOR_FILES))
    client = main.make_client()
    with BatchState(places.state, scratch=dry_run) as batch_state:
        work = Batch(client, rows, template, batch_state, places.output(client._settings), places.failed)
        counts = work.register(retry_failed=retry_failed)
        if dry_run:
            _print_cost(cost_of(client, (row for row, _ in work.pending(limit))), as_json)
            return
        progress = Progress(counts)
        steps = work.run(in_flight=in_flight, timeout=timeout, limit=limit, pictures=report)
        with shown_progress(progress, limit, quiet=as_json) as show, closing(steps):
            for progress in steps:
                show(progress)
        if report:
            work.write_report(places.report, places.results_from_report)
        _print_summary(progress, places, report, as_json)


def _print_cost(cost: Cost, as_json: bool) -> None:
    if as_json:
        main.print_json(asdict(cost))
    else:
        for line in cost_lines(cost):
            main.out.print(line)
    if cost.refused:
        raise typer.Exit(SOME_FAILED)


def _print_summary(progress: Progress, places: Places, report: bool, as_json: bool) -> None:
    counts = progress.counts
    files = {"state": str(places.state)}
    if counts.failed:
        files["failed"] = str(places.failed)
    if report:
        files["report"] = str(places.report)
    if as_json:
        main.print_json({**asdict(counts), "left": progress.left, "files": files})
    else:
        for line in summary_lines(progress, files):
            main.out.print(line)
    if counts.failed:
        raise typer.Exit(SOME_FAILED)
    if progress.left:
        raise typer.Exit(SOME_LEFT)
