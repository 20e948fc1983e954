"""The wheel in an empty environment: what it installs, that it runs there, and that type checkers know its types."""

import ast
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from diffedit import AsyncClient, AsyncEditResult, AsyncJobHandle, Client, EditResult, JobHandle, testing

ROOT = Path(__file__).parents[2]
TYPED = ROOT / "tests" / "typed"
APP, WRONG_CALLS = TYPED / "app.py", TYPED / "wrong_calls.py"

pytestmark = pytest.mark.timeout(300)  # packages are downloaded


def run(command: Sequence[str | Path], folder: Path, *, may_fail: bool = False) -> str:
    """Run a command outside of the repository, without its import paths. Return what it printed on stdout."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MYPYPATH")}
    done = subprocess.run(list(map(str, command)), cwd=folder, env=environment, capture_output=True, text=True)
    assert may_fail or done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with nothing but the wheel and the packages that it requires."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    run([*pip, "wheel", "--no-deps", "--wheel-dir", folder, ROOT], folder)
    (wheel,) = folder.glob("*.whl")
    run([sys.executable, "-m", "venv", "--without-pip", folder / "empty"], folder)
    python = folder / "empty" / "bin" / "python"
    run([*pip, "--python", python, "install", "--constraint", ROOT / "constraints.txt", wheel], folder)
    return python


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of a user's project with the two programs. Types are checked as strictly as both checkers can."""
    for program in (APP, WRONG_CALLS):
        (tmp_path / program.name).write_text(program.read_text())
    settings = {"typeCheckingMode": "strict", "include": [APP.name, WRONG_CALLS.name]}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    return tmp_path


def test_the_base_install_runs_without_torch_and_without_the_worker(python: Path, folder: Path) -> None:
    code = (
        "import sys, importlib.util, diffedit, diffedit.testing, diffedit.cli;"
        "print(*[name for name in ('torch', 'numpy') if importlib.util.find_spec(name)]);"
        "print(*[name for name in sys.modules if name.startswith('diffedit_worker')]);"
        "print(diffedit.__file__)"
    )
    installed, imported, place = run([python, "-c", code], folder).splitlines()
    assert (installed, imported) == ("", "")
    assert Path(place).is_relative_to(python.parents[1])
    assert run([python, APP], folder).splitlines()[0] == "succeeded 100%"


def test_the_wheel_holds_the_three_packages_and_nothing_else(python: Path) -> None:
    (wheel,) = python.parents[2].glob("*.whl")
    names = {name.partition("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {name for name in names if not name.endswith(".dist-info")} == {
        "diffedit",
        "diffedit_web",
        "diffedit_worker",
    }


def test_the_program_uses_every_public_method() -> None:
    nodes = list(ast.walk(ast.parse(APP.read_text())))
    used = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    kinds = (Client, JobHandle, EditResult, AsyncClient, AsyncJobHandle, AsyncEditResult)
    public = {name for kind in kinds for name in vars(kind) if not name.startswith("_")}
    doubles = {"JobBackend", "MemoryObjectStore", "memory_backend"}  # for those who build a client of their own
    assert (public | set(testing.__all__)) - used - doubles == set()


def reports(output: str) -> set[tuple[str, int]]:
    """Return the files and lines that a type checker reports as errors."""
    found = re.findall(r"([\w.]+\.py):(\d+)(?::\d+)?(?: -|:) error", output)
    return {(name, int(line)) for name, line in found}


@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_a_type_checker_accepts_the_program_and_finds_each_mistake(python: Path, folder: Path, checker: str) -> None:
    commands = {
        "mypy": ["mypy", "--strict", "--python-executable", python, "--cache-dir", folder, APP.name, WRONG_CALLS.name],
        "pyright": ["basedpyright", "--pythonpath", python],
    }
    command, *arguments = commands[checker]
    output = run([Path(sys.executable).with_name(command), *arguments], folder, may_fail=True)
    marked = [number for number, line in enumerate(WRONG_CALLS.read_text().splitlines(), start=1) if "# wrong" in line]
    assert len(marked) >= 5
    assert reports(output) == {(WRONG_CALLS.name, line) for line in marked}, output
