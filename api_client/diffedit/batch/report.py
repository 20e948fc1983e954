"""The report of a batch or a sweep: one HTML file that needs no other file and no network."""

import base64
import hashlib
import html
import json
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


def batch_rows(state: BatchState, limit: int, folder: Path | None) -> Iterator[dict[str, Any]]:
    """Yield the first rows of a batch. `folder` is where the results are, relative to the report, if it is a folder."""
    for entry in state.entries(limit=limit):
        link = quote((folder / entry.name).as_posix()) if folder is not None and entry.state == "done" else None
        yield report_row(entry, state.pictures_of(entry), link=link)


def write_report(path: Path, title: str, about: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write the page. Rows are written one by one, so that thousands of pictures are never in memory at once.

    Raises:
        OutputUnavailable: the file cannot be written.
    """
    page = {name: (files(__package__) / "page" / f"report.{name}").read_text("utf-8") for name in ("html", "css", "js")}
    # A script that is not this one, however it came into the page, does not run.
    script_hash = base64.b64encode(hashlib.sha256(page["js"].encode()).digest()).decode()
    texts = {
        "title": html.escape(printable(title)),
        "about": html.escape(about),
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
