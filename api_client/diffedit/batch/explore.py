"""Runs a sweep: its edits, their files, the contact sheet and the page."""

from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

from diffedit.batch.outputs import write_whole
from diffedit.batch.report import report_row, write_report
from diffedit.batch.scores import SHORT_NAMES, result_scores, small_pictures, status_summary
from diffedit.batch.state import DONE, FAILED, Entry, Pictures
from diffedit.batch.sweep import Plan, Sheet
from diffedit.client import Client
from diffedit.contract.request import random_seed
from diffedit.decoding import decoding_limits
from diffedit.errors import DiffEditError, JobFailed
from diffedit.pictures import read_picture
from diffedit.result import EditResult
from diffedit.uploads import picture_bytes

IN_FLIGHT = 64


@dataclass
class Explored:
    """How far a sweep is.

    Attributes:
        ended, failed: edits that have ended, and that have failed.
        made: how often each artifact was computed. What edits share is computed once.
        files: what was written, by kind: "sheet", "page", "results".
    """

    ended: int = 0
    failed: int = 0
    made: dict[str, int] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)


def explore(
    client: Client,
    picture: Path,
    plan: Plan,
    common: Mapping[str, Any],
    folder: Path,
    sheet_format: str,
    timeout: float,
) -> Generator[Explored, None, None]:
    """Make all edits of a plan and write their results, a sheet and a page. Yield how far it is, after each edit.

    Raises:
        BadPicture: the picture cannot be used.
        OutputUnavailable: a file cannot be written.
    """
    data = picture_bytes(str(picture), "picture")
    with decoding_limits(client._settings.max_pixels):
        original = read_picture(data).image
    # With one seed for all, only what the sweep varies makes a difference.
    same = {"seed": random_seed(), **common}
    rows = [_Edit(number, {**same, "picture": data, **cell.options}) for number, cell in enumerate(plan.cells)]
    title = f"{picture.name}: {len(rows)} edits"
    about = ", ".join(f"{SHORT_NAMES.get(name, name).replace('_', ' ')} {value}" for name, value in same.items())
    sheet, explored, shown = Sheet(plan, f"{title}; {about}", original), Explored(), dict[int, dict[str, Any]]()
    with closing(client.map(rows, IN_FLIGHT, timeout=timeout)) as outcomes:
        for row, outcome in outcomes:
            name = f"{row.number + 1:0{len(str(len(rows)))}}.png"
            explored.ended += 1
            shown[row.number] = _taken(row.number, name, plan, outcome, folder, sheet, explored)
            yield explored
    buffer = BytesIO()
    sheet.image().save(buffer, sheet_format)
    write_whole(folder / f"sheet.{sheet_format}", buffer.getvalue())
    write_report(folder / "report.html", title, about, (shown[number] for number in sorted(shown)))
    explored.files = {"sheet": str(folder / f"sheet.{sheet_format}"), "page": str(folder / "report.html")}
    yield explored


class _Edit(dict[str, Any]):
    def __init__(self, number: int, options: dict[str, Any]) -> None:
        super().__init__(options)
        self.number = number


def _taken(
    number: int,
    name: str,
    plan: Plan,
    outcome: EditResult | DiffEditError,
    folder: Path,
    sheet: Sheet,
    explored: Explored,
) -> dict[str, Any]:
    """Write the result of an edit, add it to the sheet, and return its row of the page."""
    texts = {"texts": {"target_prompt": plan.cells[number].label}}
    if isinstance(outcome, DiffEditError):
        explored.failed += 1
        code = outcome.error_code if isinstance(outcome, JobFailed) else outcome.code
        sheet.fail(number, code)
        return report_row(_entry(number, name, FAILED, texts, code, str(outcome)), Pictures())
    for artifact in outcome.status.created_artifacts:
        explored.made[artifact.value] = explored.made.get(artifact.value, 0) + 1
    write_whole(folder / name, outcome.file("result").data)
    sheet.add(number, outcome.image)
    summary = {**status_summary(outcome.status), **texts, "scores": result_scores(outcome)}
    return report_row(_entry(number, name, DONE, summary), small_pictures(outcome), link=name)


def _entry(
    number: int, name: str, state: str, summary: dict[str, Any], code: str | None = None, message: str | None = None
) -> Entry:
    return Entry("", 1, number + 1, name, state, 0, None, code, message, summary)
