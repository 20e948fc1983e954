"""The code that the documentation shows runs: Python blocks of pages, and the programs in `examples/`."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from PIL import Image

from diffedit import Client, State
from diffedit_worker.local.stack import LocalServices
from tests.support.factories import QUICK, SAMPLES

ROOT = Path(__file__).parents[2]
GUIDES = [f"docs/guides/{name}.md" for name in ("python", "browsers", "batch")]
PAGES = ["README.md", "docs/index.md", "docs/quickstart.md", *GUIDES]
BOWL = SAMPLES / "08.png"
BOWL_PROMPTS = {"source_prompt": "a bowl of fruits", "target_prompt": "a bowl of pears"}


def python_blocks(page: Path) -> Iterator[tuple[int, str]]:
    """Yield the number of the line above each ```python block, and the block."""
    text = page.read_text()
    for block in re.finditer(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL):
        yield text[: block.start(1)].count("\n"), block[1]


def unsuccessful(client: Client, before: set[str]) -> dict[str, str]:
    """Wait for every job that is not among `before`; return the errors of those that did not succeed."""
    for job_id in {status.id for status in client.jobs(limit=1000)} - before:
        list(client.job(job_id).watch(timeout=60))
    ended = [status for status in client.jobs(limit=1000) if status.id not in before]
    return {status.id: str(status.error) for status in ended if status.state is not State.SUCCEEDED}


def uploaded(client: Client) -> str:
    """Return the key of a picture that was sent as a browser sends it."""
    url = client.upload_url("image/png", size=BOWL.stat().st_size)
    urlopen(Request(url.url, BOWL.read_bytes(), url.headers, method=url.method)).close()
    return url.key


@pytest.fixture
def reader(stack: LocalServices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working directory of a reader who tries the code: two pictures, and the environment of a stack."""
    shutil.copy(BOWL, tmp_path / "bowl.png")
    with Image.open(BOWL) as bowl:
        Image.new("L", bowl.size, 255).save(tmp_path / "mask.png")
    (tmp_path / "worker").symlink_to(ROOT / "worker")
    for name, value in stack.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Image.Image, "show", lambda self: None)  # no viewer
    return tmp_path


@pytest.mark.parametrize("page", PAGES)
def test_the_python_code_of_a_page_runs_from_top_to_bottom(client: Client, reader: Path, page: str) -> None:
    job = client.edit(reader / "bowl.png", **BOWL_PROMPTS, **QUICK)
    job.wait(timeout=60)
    before = {status.id for status in client.jobs(limit=1000)}
    # What the pages take for granted.
    names = {"client": client, "picture": "bowl.png", "job": job, "job_id": job.id, "key": uploaded(client)}
    blocks = list(python_blocks(ROOT / page))
    assert blocks
    for lines_above, code in blocks:
        exec(compile("\n" * lines_above + code, page, "exec"), names)  # noqa: S102
    assert len(client.jobs(limit=1000)) > len(before)
    assert unsuccessful(client, before) == {}


def test_edit_folder_edits_each_picture_once(client: Client, reader: Path) -> None:
    (reader / "pictures").mkdir()
    for name in ("02.png", "03.png"):
        # Trailing bytes make it another picture, so that other tests do not find its caption.
        (reader / "pictures" / name).write_bytes((SAMPLES / name).read_bytes() + b"of the folder")
    (reader / "pictures/notes.txt").write_text("no picture")
    (reader / "pictures/more").mkdir()  # folders are left alone
    before = {status.id for status in client.jobs(limit=1000)}
    for _ in range(2):
        command = [
            sys.executable,
            str(ROOT / "examples/edit_folder.py"),
            "pictures",
            "a photograph of a cat on a table",
        ]
        done = subprocess.run([*command, "--out", "edited"], capture_output=True, text=True, check=True, timeout=90)
        assert "notes.txt: skipped" in done.stdout
        for name in ("02", "03"):
            assert f"{name}.png: edited/{name}/result.png" in done.stdout
            assert (reader / "edited" / name / "result.png").exists()
    assert unsuccessful(client, before) == {}
    assert len({status.id for status in client.jobs(limit=1000)} - before) == 2  # the second run queues nothing
