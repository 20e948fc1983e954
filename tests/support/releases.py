"""Three releases of the code that other processes run: the last one, the present one, and one that is newer.

The newer one is a copy of the present code with one more parameter, one more field in a worker's announcement, and the
next contract.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import diffedit
import diffedit_worker
from benchmarks.harness.previous_release import MODEL, unpack_release
from diffedit.contract import versions

CLIENT = Path(__file__).with_name("release_client.py")
NEWER_CONTRACT = versions.CONTRACT + 1
ADDITIONS = {
    "diffedit/contract/versions.py": {
        f"CONTRACT = {versions.CONTRACT}\n": f"CONTRACT = {NEWER_CONTRACT}\n",
    },
    "diffedit/contract/request.py": {
        "\nclass EditParams(": "\nfrom diffedit.contract.versions import Since\n\n\nclass EditParams(",
        "    @classmethod\n    def resolve": (
            f"    tiles: Annotated[int, Since({NEWER_CONTRACT})] = Field(default=1, ge=1)\n\n"
            "    @classmethod\n    def resolve"
        ),
    },
    "diffedit/jobs/workers.py": {
        "    paused: bool = False\n": '    paused: bool = False\n    power: str = "350 W"\n',
    },
}
"""What the newer release replaces, by file."""


@dataclass(frozen=True)
class Release:
    """Code that a process imports if it is started with `environment`.

    Attributes:
        folders: where the two packages are.
        contract: what its workers announce; None in 0.2.0.
    """

    folders: tuple[Path, ...]
    contract: int | None

    @property
    def environment(self) -> dict[str, str]:
        return {"PYTHONPATH": os.pathsep.join(map(str, self.folders))}


def last_release(directory: Path) -> Release:
    """Return the last release, whose wheel is unpacked into `directory`."""
    unpack_release(directory)
    return Release((directory,), contract=None)


def present_release() -> Release:
    folders = [Path(str(package.__file__)).parents[1] for package in (diffedit, diffedit_worker)]
    return Release(tuple(folders), versions.CONTRACT)


def newer_release(directory: Path) -> Release:
    """Return a newer release, which is written into `directory`."""
    for package, folder in zip(("diffedit", "diffedit_worker"), present_release().folders, strict=True):
        ignored = shutil.ignore_patterns(MODEL.name, "__pycache__")
        shutil.copytree(folder / package, directory / package, ignore=ignored)
    (directory / "diffedit_worker" / "models" / MODEL.name).symlink_to(MODEL)
    for name, replacements in ADDITIONS.items():
        path = directory / name
        text = path.read_text()
        for old, new in replacements.items():
            assert text.count(old) == 1, f"{name} has changed; this module replaces {old!r} in it"
            text = text.replace(old, new)
        path.write_text(text)
    return Release((directory,), NEWER_CONTRACT)


class ReleaseClient:
    """A client in a process that runs the code of a release."""

    def __init__(self, release: Release, environment: Mapping[str, str]) -> None:
        # -P: this script's folder is no place to import from.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-W", "ignore", CLIENT],
            env={**os.environ, **environment, **release.environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started = self._read()
        assert Path(started["file"]).is_relative_to(release.folders[0])
        assert started["has_contract"] is (release.contract is not None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def __call__(self, call: str, job: str | None = None, **given: Any) -> Any:
        """Call a method of the client, or of the handle of a job, and return its answer as plain values."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"call": call, "job": job, "given": given}) + "\n")
        self._process.stdin.flush()
        answer = self._read()
        assert "error" not in answer, f"{call}: {answer['error']}"
        return answer["value"]

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer
