"""`diffedit batch` and `diffedit sweep` over real services: killed at any moment, nothing is lost or made twice."""

import json
import os
import signal
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from diffedit import Client, State
from diffedit.batch.state import BatchState
from diffedit.errors import BatchInUse
from diffedit.objects.s3 import S3ObjectStore
from diffedit.settings import Settings
from diffedit_worker.local.programs import diffedit_command
from diffedit_worker.local.stack import LocalServices
from tests.support.factories import PEAR, PICTURE, QUICK, SAMPLES
from tests.support.waiting import until

ROWS = 24


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """A manifest whose rows have pictures that no other test has."""
    rows = []
    for number in range(ROWS):
        with Image.open(PICTURE) as sample:
            picture = sample.convert("RGB")
        picture.putpixel((0, 0), (number, 77, 77))
        picture.save(tmp_path / f"{number}.png")
        rows.append({"picture": f"{number}.png", **PEAR, **QUICK, "seed": 1})
    rows[3] |= {"strength": 7}
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def started(stack: LocalServices, folder: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        diffedit_command(*words),
        cwd=folder,
        env={**os.environ, **stack.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(stack: LocalServices, folder: Path, *words: str, code: int = 0) -> str:
    with started(stack, folder, *words) as command:
        output, errors = command.communicate(timeout=100)
    assert command.returncode == code, output + errors
    return output


def ids_of(client: Client) -> set[str]:
    return {status.id for status in client.jobs(limit=1000)}


def test_a_command_that_is_killed_goes_on_and_submits_nothing_twice(
    stack: LocalServices, client: Client, manifest: Path
) -> None:
    folder, before = manifest.parent, ids_of(client)
    words = ("batch", "rows.jsonl", "--out", "out", "--in-flight", "4")
    for how, code in ((signal.SIGKILL, -9), (signal.SIGINT, 130), (signal.SIGKILL, -9)):
        there = len(list(folder.glob("out/*.png")))
        with started(stack, folder, *words) as command:
            until(lambda before=there: len(list(folder.glob("out/*.png"))) > before, "another result")
            command.send_signal(signal.SIGSTOP)  # so that it cannot end before the signal
            with pytest.raises(BatchInUse):
                BatchState(folder / "out/batch.sqlite")
            command.send_signal(how)
            command.send_signal(signal.SIGCONT)
            _, errors = command.communicate(timeout=60)
        assert command.returncode == code, errors
    summary = json.loads(run(stack, folder, *words, "--report", "--json", code=1))
    assert (summary["total"], summary["done"], summary["failed"]) == (ROWS, ROWS - 1, 1)
    assert summary["codes"] == {"invalid_request": 1}
    results = sorted(folder.glob("out/*.png"))
    assert len(results) == ROWS - 1
    for path in results:
        with Image.open(path) as image:
            image.load()
    made = [client.job(job_id).status() for job_id in ids_of(client) - before]
    assert Counter(status.state for status in made) == {State.SUCCEEDED: ROWS - 1}
    assert len({status.request.image for status in made}) == ROWS - 1
    assert (folder / "out/report.html").read_text().count('"afterPicture"') == ROWS - 1
    failed = json.loads((folder / "out/failed.jsonl").read_text())
    assert failed["_row"] == 4 and Path(failed["picture"]).samefile(folder / "3.png")


def test_results_go_to_a_prefix_of_a_bucket(stack: LocalServices, client: Client, tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for name in ("02.png", "03.png"):
        (pictures / name).write_bytes((SAMPLES / name).read_bytes())
    words = ["batch", "pictures", "--target", "a photograph of a cat on a table", "--param", "num_inference_steps=4"]
    output = run(stack, tmp_path, *words, "--out", "s3://diffedit/batches/first")
    assert "2 of 2 rows done" in output and "state: pictures.batch.sqlite" in output
    store = S3ObjectStore(Settings.from_env(stack.environment))
    for name in ("02.png", "03.png"):
        assert store.get(f"batches/first/{name}").startswith(b"\x89PNG")


def test_a_sweep_inverts_its_picture_once(stack: LocalServices, client: Client, tmp_path: Path) -> None:
    with Image.open(PICTURE) as sample:
        picture = sample.convert("RGB")
    picture.putpixel((0, 0), (1, 2, 3))
    picture.save(tmp_path / "pear.png")
    words = ["sweep", "pear.png", "--target", "some cherries on a table", "--target", "a ball on a table"]
    words += ["--guidance", "3,7.5", "--ratio", "2,3", "--seed", "1,2,3", "--steps", "2", "--out", "out", "--json"]
    answer = json.loads(run(stack, tmp_path, *words))
    assert (answer["edits"], answer["failed"]) == (24, 0)
    assert {name: answer["made"][name] for name in ("caption", "trajectory", "mask", "result")} == {
        "caption": 1,
        "trajectory": 1,
        "mask": 12,
        "result": 24,
    }
    assert len(list((tmp_path / "out").glob("*.png"))) == 25
