"""The examples for many edits: a DAG of Airflow, `datasets` of Hugging Face, a notebook."""

import importlib.util
import json
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

from diffedit import Client, EditResult, JobStatus
from diffedit_worker.local.stack import LocalServices
from tests.support.factories import PEAR, QUICK, SAMPLES

EXAMPLES = Path(__file__).parents[2] / "examples"


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def user(stack: LocalServices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of a user with some pictures, and the environment of a stack."""
    (tmp_path / "pictures").mkdir()
    for name in ("02.png", "03.png"):
        shutil.copy(SAMPLES / name, tmp_path / "pictures")
    for name, value in stack.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_task_of_airflow_edits_a_manifest_and_may_be_repeated(user: Path) -> None:
    rows = [{"picture": f"pictures/{name}.png", **PEAR, **QUICK} for name in ("02", "03", "none")]
    (user / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    dag = example("airflow_dag")
    summaries = [dag.edit_manifest("rows.jsonl", "out") for _ in range(2)]
    assert [(summary["done"], summary["codes"]) for summary in summaries] == [(2, {"bad_picture": 1})] * 2
    with pytest.raises(RuntimeError, match="exit code 2"):
        dag.edit_manifest("none.jsonl", "out")


def test_the_dag_is_made_of_two_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    # Airflow is no dependency of ours. This is what its decorators do with functions.
    tasks: list[str] = []

    def task(function: Any = None, **options: Any) -> Any:
        if function is None:
            return task
        tasks.append(function.__name__)
        return lambda *args: function.__name__

    sdk = ModuleType("airflow.sdk")
    vars(sdk).update(task=task, dag=lambda **options: lambda function: lambda: (function(), options)[1])
    monkeypatch.setitem(sys.modules, "airflow", ModuleType("airflow"))
    monkeypatch.setitem(sys.modules, "airflow.sdk", sdk)
    dag = example("airflow_dag").nightly_dag
    assert tasks == ["edit", "complain"] and dag["schedule"] == "0 2 * * *"


def test_columns_of_a_dataset_keep_their_order(client: Client) -> None:
    edit = example("edit_dataset").editor(client, **PEAR, **QUICK)
    images = [Image.open(SAMPLES / name) for name in ("06.png", "07.png", "06.png")]
    tiny = Image.new("RGB", (2, 2))
    columns = edit({"image": [*images[:2], tiny, images[2]], "label": [1, 2, 3, 4]})
    assert columns["label"] == [1, 2, 3, 4]
    assert [getattr(image, "size", None) for image in columns["edited"]] == [(64, 64), (64, 64), None, (64, 64)]
    assert [bool(error) for error in columns["error"]] == [False, False, True, False]
    assert columns["error"][2].startswith("bad_picture")


def test_the_cells_of_the_notebook_run(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []

    class Handle:
        def update(self, value: Any) -> None:
            shown.append(value)

    def display(value: Any, display_id: bool = False) -> Handle:
        shown.append(value)
        return Handle()

    ipython = ModuleType("IPython.display")
    vars(ipython)["display"] = display
    monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", ipython)
    notebook = json.loads((EXAMPLES / "notebook.ipynb").read_text())
    names: dict[str, Any] = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            exec("".join(cell["source"]), names)  # noqa: S102
    assert names["failed"] == []
    assert {type(value) for value in shown} == {JobStatus, EditResult}
    assert all(value._repr_html_().startswith("<div>") for value in shown)
