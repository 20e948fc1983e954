"""The report of a batch or a sweep: an HTML file that needs no other file and no network, or several for many rows."""

import base64
import hashlib
import html
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

from diffedit.batch.outputs import replaced_when_written
from diffedit.batch.scores import SHORT_NAMES
from diffedit.batch.state import BatchState, Entry, Pictures
from diffedit.text import printable

ROWS_PER_PAGE = 1000
"""Chromium opens a page of so many rows, of 7 MB, in one to two seconds on two busy cores."""
_SOURCES = ("source_prompt", "source_concept", "caption")
_TARGETS = ("target_prompt", "target_concept")
_UNSAFE = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
"""What could end a script in HTML, as JSON writes it inside of a text."""


def report_row(entry: Entry, pictures: Pictures, *, link: str | None = None) -> dict[str, Any]:
    """Return a row as the page takes it. `link` leads to the file of its result."""
    texts, scores = entry.summary.get("texts", {}), entry.summary.get("scores", {})
    source = next((texts[name] for name in _SOURCES if texts.get(name)), entry.summary.get("caption", ""))
    row = {
        "n": entry.position,
        "name": printable(entry.name),
        "state": entry.state,
        "from": source,
        "to": next((texts[name] for name in _TARGETS if texts.get(name)), ""),
        "code": entry.code or "",
        "message": entry.message or "",
        "params": _params_text(entry.summary.get("params", {})),
        "mask": scores.get("mask"),
        "change": scores.get("change"),
        "seconds": entry.summary.get("seconds"),
        "found": len(entry.summary["found"]) if "found" in entry.summary else None,
        "file": link,
        "beforePicture": _text(pictures.before),
        "maskPicture": _text(pictures.mask),
        "afterPicture": _text(pictures.after),
    }
    return {name: value for name, value in row.items() if value is not None}


def write_pages(path: Path, title: str, about: str, state: BatchState, results: Path | None) -> None:
    """Write the report of a batch: the first rows into `path`, the others into files with a number beside it.

    `results` is the folder of the results, from the report; None if a page cannot link to them.

    Raises:
        OutputUnavailable: a file cannot be written.
    """
    total, failed = state.counts().total, state.failed_per(ROWS_PER_PAGE)
    number = max(1, math.ceil(total / ROWS_PER_PAGE))
    for page in range(number):
        first, last = page * ROWS_PER_PAGE + 1, (page + 1) * ROWS_PER_PAGE
        rows = _rows(state, state.entries(first=first, last=last), results)
        write_report(_page_path(path, page), title, about, rows, navigation=_navigation(path, page, total, failed))
    # An earlier report may have had more pages.
    while (left := _page_path(path, number)).is_file():
        left.unlink()
        number += 1


def _page_path(path: Path, page: int) -> Path:
    return path.with_stem(f"{path.stem}-{page + 1}") if page else path


def _navigation(path: Path, current: int, total: int, failed: Mapping[int, int]) -> str:
    """Return links to all pages, as HTML. `failed` is how many rows failed on each page that has some."""
    links = []
    for page, first in enumerate(range(1, total + 1, ROWS_PER_PAGE)):
        rows = f"{first:,}–{min(first + ROWS_PER_PAGE - 1, total):,}"
        failures = f" <span>{failed[page]:,} failed</span>" if page in failed else ""
        here = ' aria-current="page"' if page == current else ""
        links.append(f'<a href="{quote(_page_path(path, page).name)}"{here}>{rows}{failures}</a>')
    return f'<nav class="pages" aria-label="Rows of the manifest">{" ".join(links)}</nav>' if len(links) > 1 else ""


def _rows(state: BatchState, entries: Iterable[Entry], results: Path | None) -> Iterator[dict[str, Any]]:
    for entry in entries:
        link = quote((results / entry.name).as_posix()) if results is not None and entry.state == "done" else None
        yield report_row(entry, state.pictures_of(entry), link=link)


def write_report(
    path: Path, title: str, about: str, rows: Iterable[Mapping[str, Any]], *, navigation: str = ""
) -> None:
    """Write a page. Rows are written one by one, so that a thousand pictures are never in memory at once.

    `navigation` is HTML that leads to the other pages.

    Raises:
        OutputUnavailable: the file cannot be written.
    """
    page = {name: (files(__package__) / "page" / f"report.{name}").read_text("utf-8") for name in ("html", "css", "js")}
    # A script that is not this one, however it came into the page, does not run.
    script_hash = base64.b64encode(hashlib.sha256(page["js"].encode()).digest()).decode()
    texts = {
        "title": html.escape(printable(title)),
        "about": html.escape(about),
        "navigation": navigation,
        "footer": html.escape(
            f"Made by diffedit-service {version('diffedit-service')} at {datetime.now(UTC):%Y-%m-%d %H:%M} UTC."
        ),
        "style": page["css"],
        "script": page["js"],
        "script_hash": f"sha256-{script_hash}",
    }
    before, after = (_filled(part, texts) for part in page["html"].split("{{data}}"))
    with replaced_when_written(path) as file:
        separator = "["
        file.write(before)
        for row in rows:
            file.write(separator + _json(row))
            separator = ",\n"
        file.write(("[]" if separator == "[" else "]") + after)


def _filled(template: str, texts: Mapping[str, str]) -> str:
    # In one pass, because a text may contain what looks like a place for another one.
    return re.sub(r"\{\{(\w+)\}\}", lambda place: texts[place[1]], template)


def _json(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return "".join(_UNSAFE.get(letter, letter) for letter in text) if _UNSAFE.keys() & set(text) else text


def _params_text(params: Mapping[str, Any]) -> str:
    return ", ".join(f"{SHORT_NAMES.get(name, name)} {value}" for name, value in params.items())


def _text(data: bytes) -> str | None:
    return base64.b64encode(data).decode() if data else None
