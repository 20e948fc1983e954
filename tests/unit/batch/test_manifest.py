"""Manifests: what each format means, and what is refused before anything is submitted."""

import json
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from diffedit import InvalidRequest
from diffedit.batch.manifest import Manifest, ManifestRow


def rows_of(path: Path, text: str | bytes, common: dict[str, Any] | None = None) -> list[ManifestRow]:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return list(Manifest(path, common or {}))


def test_json_lines_are_options_of_edits(tmp_path: Path) -> None:
    lines = [
        '{"picture": "a/b.png", "target_prompt": "x", "seed": 3, "_sku": 7, "mask": null}',
        "",
        '{"image": "/c.png"}',
    ]
    first, second = rows_of(tmp_path / "m.jsonl", "\n".join(lines), {"target_prompt": "for all", "lane": "batch"})
    assert first.options == {
        "lane": "batch",
        "picture": str(tmp_path / "a/b.png"),
        "target_prompt": "x",
        "seed": 3,
    }
    assert (first.position, first.path, first.own) == (1, "a/b", {"sku": 7})
    assert second.options == {"lane": "batch", "image": "/c.png", "target_prompt": "for all"}


@pytest.mark.parametrize("ending", [".csv", ".tsv"])
def test_cells_of_csv_have_the_type_of_their_column(tmp_path: Path, ending: str) -> None:
    cells = [
        ["picture", "target_prompt", "seed", "strength", "mask_cleanup", "mask_thresholding_ratio", "tags", "_note"],
        ["a.png", "7", "7", "0.5", "True", "otsu", '"{""album"": ""9""}"', "7"],
        ["b.png", "ä", "", "", "", "2", "", ""],
    ]
    text = "\n".join({".csv": ",", ".tsv": "\t"}[ending].join(row) for row in cells)
    first, second = rows_of(tmp_path / f"m{ending}", b"\xef\xbb\xbf" + text.encode())
    expected = {"target_prompt": "7", "seed": 7, "strength": 0.5, "mask_cleanup": True, "tags": {"album": "9"}}
    assert {name: first.options[name] for name in expected} == expected
    assert first.options["mask_thresholding_ratio"] == "otsu" and first.own == {"note": "7"}
    assert second.options == {
        "picture": str(tmp_path / "b.png"),
        "target_prompt": "ä",
        "mask_thresholding_ratio": 2,
    }


def test_parquet_has_paths_or_bytes_of_pictures(tmp_path: Path) -> None:
    pictures = [{"bytes": b"first", "path": None}, {"bytes": None, "path": "b.png"}]
    table = pyarrow.table({"image": pictures, "target_prompt": ["x", "y"], "seed": [1, None]})
    parquet.write_table(table, tmp_path / "m.parquet")
    first, second = Manifest(tmp_path / "m.parquet", {})
    assert first.options == {"image": b"first", "target_prompt": "x", "seed": 1}
    assert second.options == {"image": str(tmp_path / "b.png"), "target_prompt": "y"}


def test_without_pyarrow_parquet_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(InvalidRequest, match=r"pip install 'diffedit-service\[parquet\]'"):
        rows_of(tmp_path / "m.parquet", b"PAR1")


def test_a_folder_has_its_pictures_but_no_hidden_ones_and_no_results(tmp_path: Path) -> None:
    for name in ("b.PNG", "a/c.jpg", "a/.hidden.png", ".cache/d.png", "notes.txt", "out/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    rows = list(Manifest(tmp_path, {"target_prompt": "x"}, skip=tmp_path / "out"))
    assert [row.path for row in rows] == ["a/c", "b"]
    assert rows[0].options == {"picture": str(tmp_path / "a/c.jpg"), "target_prompt": "x"}


def test_a_digest_is_of_what_a_row_asks_for(tmp_path: Path) -> None:
    def digest(common: dict[str, Any], **row: Any) -> str:
        (found,) = rows_of(tmp_path / "m.jsonl", json.dumps({"picture": "a.png", **row}), common)
        return found.digest

    base = digest({"target_prompt": "x"}, seed=1)
    assert base == digest({}, seed=1, target_prompt="x", _own="mine")
    different = [digest({"target_prompt": "y"}, seed=1), digest({"target_prompt": "x"}, seed=2)]
    assert len({base, *different}) == 3


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("m.jsonl", "{", "line 1: this is not JSON"),
        ("m.jsonl", "[]", "must be a JSON object"),
        ("m.jsonl", '{"picture": "a.png", "stepps": 3}', "stepps: no option"),
        ("m.jsonl", '{"picture": "a.png", "idempotency_key": "x"}', "idempotency_key: no option"),
        ("m.jsonl", '{"target_prompt": "x"}', "row 1: give one of image, picture, uploaded"),
        ("m.jsonl", '{"picture": "a.png", "image": "a.png"}', "give one of"),
        ("m.csv", "picture,seed\na.png", "not as many columns"),
        ("m.csv", "picture\na.png,3", "not as many columns"),
        ("m.jsonl", b"\xff\xfe", "cannot be read"),
        ("m.txt", "", "a manifest is a folder, or a file that ends with"),
    ],
)
def test_what_is_no_manifest_is_refused(tmp_path: Path, name: str, text: str | bytes, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        rows_of(tmp_path / name, text)


def test_a_manifest_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="no such file or folder"):
        Manifest(tmp_path / "none.csv", {})
