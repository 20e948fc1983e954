"""The wheel of the last release, which other tests run beside the present code (tests/releases)."""

import base64
import csv
import hashlib
import io
import zipfile
from pathlib import Path

import pytest

from benchmarks.harness.previous_release import MODEL, WHEELS, unpack_release
from diffedit import __version__
from diffedit_worker.models.profiles import fingerprint
from tests.releases import keep


@pytest.fixture
def wheel() -> Path:
    (wheel,) = WHEELS.glob("*.whl")
    return wheel


def test_the_kept_wheel_is_of_an_older_version_and_holds_no_weights(wheel: Path) -> None:
    version = wheel.name.split("-")[1]
    assert [int(part) for part in version.split(".")] < [int(part) for part in __version__.split(".")]
    assert wheel.stat().st_size < 500_000


def test_the_bundled_model_is_still_the_one_of_the_last_release(wheel: Path, tmp_path: Path) -> None:
    unpack_release(tmp_path)
    (record,) = tmp_path.glob("*.dist-info/RECORD")
    rows = [row for row in csv.reader(io.StringIO(record.read_text())) if row[0].startswith(keep.MODEL)]
    assert rows
    for name, digest, _ in rows:
        there = hashlib.sha256((tmp_path / name).read_bytes()).digest()
        assert digest == "sha256=" + base64.urlsafe_b64encode(there).decode().rstrip("="), name
    assert fingerprint(tmp_path / keep.MODEL) == fingerprint(MODEL)


def test_a_kept_wheel_replaces_the_one_before_and_leaves_out_the_model(monkeypatch, tmp_path: Path) -> None:
    folder, built = tmp_path / "releases", tmp_path / "pkg-2.0-py3-none-any.whl"
    folder.mkdir()
    (folder / "pkg-1.0-py3-none-any.whl").touch()
    with zipfile.ZipFile(built, "w") as archive:
        for name in ("diffedit/client.py", f"{keep.MODEL}unet/weights.safetensors"):
            archive.writestr(name, name)
    monkeypatch.setattr(keep, "HERE", folder)
    kept = keep.keep(built)
    assert list(folder.iterdir()) == [kept]
    assert zipfile.ZipFile(kept).namelist() == ["diffedit/client.py"]
