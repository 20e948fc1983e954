"""The report about many edits: tables by layout and by kind of object, and a contact sheet."""

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw
from rich.table import Table

from benchmarks.harness.estimates import (
    mean_with_interval,
    paired_means,
    paired_psnr,
    paired_shares,
    psnr_of_errors,
    share_with_interval,
)
from benchmarks.quality.held_out_edits import OURS, Edit
from training.scenes import Swap, draw

COLUMNS: dict[str, Callable[[list[Edit]], str]] = {
    "success %": lambda edits: share_with_interval([edit.succeeded for edit in edits]),
    "still source %": lambda edits: share_with_interval([edit.recognized == edit.source for edit in edits]),
    "mask IoU": lambda edits: mean_with_interval([edit.iou for edit in edits]),
    "mask recall": lambda edits: mean_with_interval([edit.recall for edit in edits]),
    "raw dB": lambda edits: psnr_of_errors(edit.raw_error for edit in edits),
    "composed dB": lambda edits: psnr_of_errors(edit.composed_error for edit in edits),
    "s": lambda edits: f"{statistics.median(edit.seconds for edit in edits):.2f}",
}
GROUPS: dict[str, Callable[[Edit], bool]] = {
    "one and two objects": lambda edit: edit.layout != "bowl",
    "one object": lambda edit: edit.layout == "one",
    "two objects": lambda edit: edit.layout == "two",
    "bowl": lambda edit: edit.layout == "bowl",
}
PAIRED_COLUMNS: dict[str, tuple[str, Callable[[list[Any], list[Any]], str]]] = {
    "success, points": ("succeeded", paired_shares),
    "mask IoU": ("iou", paired_means),
    "raw dB": ("raw_error", paired_psnr),
    "composed dB": ("composed_error", paired_psnr),
    "time": ("seconds", lambda ours, theirs: f"{statistics.median(ours) / statistics.median(theirs):.2f}"),
}
"""What is compared, and how, of the edits of a variant and those of the reference, in the same order."""
SHEET_ROWS = 24


def tables(results: dict[str, list[Edit]]) -> list[Table]:
    """Return one table for each layout, with a row for each variant, and one by kind for our defaults."""
    found = []
    for title, contains in GROUPS.items():
        chosen = {name: [edit for edit in edits if contains(edit)] for name, edits in results.items()}
        if not any(chosen.values()):
            continue
        table = Table("", *COLUMNS, title=f"{title} (n = {len(next(iter(chosen.values())))})")
        for name, edits in chosen.items():
            table.add_row(name, *(column(edits) for column in COLUMNS.values()))
        found.append(table)
    if OURS in results:
        found.append(_table_by_kind(results[OURS]))
    return found


def paired_tables(results: dict[str, list[Edit]], reference: str) -> list[Table]:
    """Return one table for each layout: how each variant differs from the reference on the same swaps."""
    found = []
    for title, contains in GROUPS.items():
        chosen = {name: [edit for edit in edits if contains(edit)] for name, edits in results.items()}
        others = chosen.pop(reference)
        if not (chosen and others):
            continue
        table = Table("", *PAIRED_COLUMNS, title=f"{title} (n = {len(others)}), against: {reference}")
        for name, edits in chosen.items():
            table.add_row(
                name,
                *(compare(_values(edits, value), _values(others, value)) for value, compare in PAIRED_COLUMNS.values()),
            )
        found.append(table)
    return found


def _values(edits: list[Edit], name: str) -> list[Any]:
    return [getattr(edit, name) for edit in edits]


def _table_by_kind(edits: list[Edit]) -> Table:
    plain = [edit for edit in edits if edit.layout != "bowl"]
    table = Table("kind", "as target, success %", "as source, success %", title=OURS)
    for kind in sorted({edit.target for edit in plain}):
        hits = [[edit.succeeded for edit in plain if getattr(edit, role) == kind] for role in ("target", "source")]
        table.add_row(kind, *(share_with_interval(each) if each else "-" for each in hits))
    return table


def save_contact_sheet(held_out: list[Swap], results: dict[str, list[Edit]], path: Path) -> None:
    """Save a picture with evenly chosen swaps, one a row.

    A row shows the picture, the mask with everything else darkened, the result of each variant, and the true result.
    """
    side, gap, text_height = 128, 4, 30
    row_height = side + gap + text_height
    numbers = range(0, len(held_out), max(1, len(held_out) // SHEET_ROWS))
    names = ["before", f"mask of {OURS}", *results, "true result"]
    sheet = Image.new("RGB", (len(names) * (side + gap), text_height + len(numbers) * row_height), "white")
    pen = ImageDraw.Draw(sheet)
    for column, name in enumerate(names):
        pen.text((column * (side + gap) + 2, 2), name, fill="black")
    masks_of = results.get(OURS) or next(iter(results.values()))
    for row, number in enumerate(numbers):
        swap, top = held_out[number], text_height + row * row_height
        before = draw(swap.before)
        darkened = Image.composite(before, Image.eval(before, lambda level: level // 4), masks_of[number].mask)
        pictures = [before, darkened, *(edits[number].picture for edits in results.values()), draw(swap.after)]
        for column, picture in enumerate(pictures):
            sheet.paste(picture.resize((side, side), Image.Resampling.BICUBIC), (column * (side + gap), top))
        verdicts = ", ".join("yes" if edits[number].succeeded else "NO" for edits in results.values())
        pen.text((2, top + side + 2), f"{number}: {swap.source} -> {swap.target}; judged: {verdicts}", fill="black")
    sheet.save(path)
