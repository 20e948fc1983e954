"""The page of a report: one file, whatever texts users give. `tests/system/test_report_page.py` opens it."""

import base64
import hashlib
import json
import re
from itertools import chain
from pathlib import Path
from urllib.parse import unquote

import pytest

from diffedit.batch.report import ROWS_PER_PAGE, report_row, write_pages, write_report
from diffedit.batch.state import BatchState, Entry, Pictures
from diffedit.errors import OutputUnavailable

NASTY = "</script><script>alert(1)</script><!-- \u2028 & {{data}} {{script}} 'x' \"y\""


def an_entry(**fields: object) -> Entry:
    known = {"position": 1, "name": "a.png", "state": "done", "summary": {}, "code": None, "message": None}
    return Entry(digest="d", occurrence=1, attempt=0, job=None, **{**known, **fields})  # type: ignore[arg-type]


def page(path: Path, *entries: Entry, title: str = "rows.csv") -> str:
    write_report(path, title, "about", (report_row(entry, Pictures()) for entry in entries))
    return path.read_text("utf-8")


def data_of(text: str) -> list[dict[str, object]]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found
    return list(json.loads(found[1]))


def test_a_page_needs_no_other_file_and_no_network(tmp_path: Path) -> None:
    text = page(tmp_path / "report.html", an_entry())
    assert not re.search(r"(src|href)=", text.split("<script>")[0]) and "://" not in text
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{allowed}'" in text and "default-src 'none'" in text


def test_texts_of_users_stay_texts(tmp_path: Path) -> None:
    summary = {"texts": {"source_prompt": NASTY, "target_prompt": NASTY}}
    entry = an_entry(name=NASTY, state="failed", code="x", message=NASTY, summary=summary)
    text = page(tmp_path / "report.html", entry, title=NASTY)
    assert text.count("<script") == 2 and "alert(1)</script>" not in text.replace("&lt;/script&gt;", "")
    (row,) = data_of(text)
    assert row["from"] == row["to"] == row["message"] == NASTY


def test_a_row_has_scores_texts_and_pictures() -> None:
    summary = {
        "texts": {"target_concept": "basket"},
        "caption": "a bowl",
        "params": {"num_inference_steps": 4, "seed": 1},
        "scores": {"mask": 0.25, "change": 0.1},
        "seconds": 1.5,
        "found": ["caption"],
    }
    row = report_row(an_entry(summary=summary), Pictures(b"b", b"m", b"a"), link="a.png")
    assert (row["from"], row["to"], row["params"]) == ("a bowl", "basket", "steps 4, seed 1")
    assert (row["mask"], row["change"], row["seconds"], row["found"], row["file"]) == (0.25, 0.1, 1.5, 1, "a.png")
    assert base64.b64decode(row["afterPicture"]) == b"a"


def test_no_rows_are_a_page_as_well(tmp_path: Path) -> None:
    assert data_of(page(tmp_path / "report.html")) == []


def test_many_rows_have_several_pages_that_lead_to_each_other(tmp_path: Path) -> None:
    rows, path = 2 * ROWS_PER_PAGE + 5, tmp_path / "rows & more.html"
    with BatchState(tmp_path / "batch.sqlite") as state:
        state.register((f"{position:x}", position, f"{position}.png") for position in range(1, rows + 1))
        for entry in state.entries(first=2 * ROWS_PER_PAGE, last=2 * ROWS_PER_PAGE + 2):
            state.failed(entry, None, "empty_mask", "no", {})
        write_pages(path, "rows.csv", "about", state, None)
        pages = [path, *(tmp_path / f"rows & more-{number}.html" for number in (2, 3))]
        assert sorted(tmp_path.glob("*.html")) == sorted(pages)
        numbers = [[row["n"] for row in data_of(page.read_text("utf-8"))] for page in pages]
        assert list(chain(*numbers)) == list(range(1, rows + 1))
        assert [len(each) for each in numbers] == [ROWS_PER_PAGE, ROWS_PER_PAGE, 5]
        for current, each in enumerate(pages):
            links = re.findall(r'<a href="([^"]+)"( aria-current="page")?>(.*?)</a>', each.read_text("utf-8"))
            assert [unquote(link) for link, _, _ in links] == [page.name for page in pages]
            assert [bool(is_current) for _, is_current, _ in links] == [number == current for number in range(3)]
            assert [text for _, _, text in links] == [
                "1–1,000",
                "1,001–2,000 <span>1 failed</span>",
                "2,001–2,005 <span>2 failed</span>",
            ]
        state.register((f"{position:x}", position, f"{position}.png") for position in range(1, 10))
        write_pages(path, "rows.csv", "about", state, None)
        assert list(tmp_path.glob("*.html")) == [path] and "<nav" not in path.read_text("utf-8")


def test_a_report_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "report.html").mkdir()
    with pytest.raises(OutputUnavailable):
        page(tmp_path / "report.html", an_entry())
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
