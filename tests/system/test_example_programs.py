"""The examples for programs that are no dependency of ours: Apache Airflow, Hugging Face's `datasets`, notebooks.

Each runs in `.venv/examples`, where `make test-system` installs these programs and only the client of ours.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from PIL import Image

from diffedit.objects.s3 import S3ObjectStore
from diffedit.settings import Settings
from diffedit_worker.local.stack import LocalServices
from tests.support.factories import SAMPLES

ROOT = Path(__file__).parents[2]
PROGRAMS = ROOT / ".venv/examples/bin"
PEAR, CAT = "a photograph of a pear on a table", "a photograph of a cat on a table"
DAY = "2026-01-02"

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def environment(stack: LocalServices) -> dict[str, str]:
    """The environment of a program in `.venv/examples` that uses the stack."""
    assert PROGRAMS.exists(), f"{PROGRAMS} is missing: run make test-system"
    path = f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}"
    ours = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return {**ours, **stack.environment, "PATH": path, "HF_HUB_OFFLINE": "1"}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of two pictures."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("02.png", "03.png"):
        shutil.copy(SAMPLES / name, folder)
    return folder


def run(folder: Path, environment: Mapping[str, str], *words: str, code: int = 0) -> str:
    done = subprocess.run(words, cwd=folder, env=dict(environment), capture_output=True, text=True, timeout=240)
    assert done.returncode == code, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_a_dag_of_airflow_edits_the_manifest_of_its_day(
    stack: LocalServices, environment: dict[str, str], pictures: Path, tmp_path: Path
) -> None:
    dags = tmp_path / "airflow/dags"
    dags.mkdir(parents=True)
    shutil.copy(ROOT / "examples/airflow_dag.py", dags)
    manifest = tmp_path / f"{DAY}.csv"
    rows = [f"pictures/{name}.png,{PEAR},{CAT},4" for name in ("02", "none")]
    manifest.write_text("\n".join(["picture,source_prompt,target_prompt,num_inference_steps", *rows]))
    airflow = {**environment, "AIRFLOW_HOME": str(tmp_path / "airflow"), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    run(tmp_path, airflow, "airflow", "db", "migrate")
    params = json.dumps({"manifests": str(tmp_path), "results": "s3://diffedit/nights"})

    def states(code: int) -> dict[str, str]:
        run(tmp_path, airflow, "airflow", "dags", "test", "nightly_edits", DAY, "--conf", params, code=code)
        asked = ["airflow", "tasks", "states-for-dag-run", "nightly_edits", DAY, "--output", "json"]
        return {task["task_id"]: task["state"] for task in json.loads(run(tmp_path, airflow, *asked))}

    assert states(1) == {"edit": "success", "complain": "failed"}
    manifest.write_text("\n".join([manifest.read_text().splitlines()[0], rows[0]]))
    assert states(0) == {"edit": "success", "complain": "success"}
    store = S3ObjectStore(Settings.from_env(stack.environment))
    assert store.get(f"nights/{DAY}/00001-02.png").startswith(b"\x89PNG")


MAKE_DATASET = """
from datasets import Dataset, Features, Image, Value
columns = {"image": ["pictures/02.png", "tiny.png", "pictures/03.png"], "label": [1, 2, 3]}
features = Features({"image": Image(), "label": Value("int64")})
Dataset.from_dict(columns, features=features).to_parquet("given/train.parquet")
"""
READ_DATASET = """
import json
from datasets import load_from_disk
rows = load_from_disk("edited")
print(json.dumps([[row["label"], row["edited"] and row["edited"].size, row["error"]] for row in rows]))
"""


def test_map_over_a_dataset_adds_columns_in_its_order(
    environment: dict[str, str], pictures: Path, tmp_path: Path
) -> None:
    Image.new("RGB", (2, 2)).save(tmp_path / "tiny.png")
    (tmp_path / "given").mkdir()
    run(tmp_path, environment, "python", "-c", MAKE_DATASET)
    run(tmp_path, environment, "python", str(ROOT / "examples/edit_dataset.py"), "given", PEAR, CAT, "--out", "edited")
    first, second, third = json.loads(run(tmp_path, environment, "python", "-c", READ_DATASET).splitlines()[-1])
    assert (first, third) == ([1, [64, 64], None], [3, [64, 64], None])
    assert second[:2] == [2, None] and second[2].startswith("bad_picture")


def test_a_notebook_shows_progress_and_results(environment: dict[str, str], pictures: Path, tmp_path: Path) -> None:
    shutil.copy(ROOT / "examples/notebook.ipynb", tmp_path)
    run(tmp_path, environment, "jupyter", "execute", "--output=done.ipynb", "notebook.ipynb")
    cells = [cell for cell in json.loads((tmp_path / "done.ipynb").read_text())["cells"] if cell["cell_type"] == "code"]
    _, one, many = ([output.get("data", {}) for output in cell["outputs"]] for cell in cells)
    status, result = ("".join(data["text/html"]) for data in one)
    assert "succeeded" in status and result.count("data:image/webp") == 3
    *shown, failed = many
    assert ["".join(data["text/html"]).count("data:image/webp") for data in shown] == [3, 3]
    assert failed["text/plain"] == ["[]"]
