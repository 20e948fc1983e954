"""The `diffedit` command against a running stack, as a script would use it."""

import json
import os
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
from PIL import Image

from diffedit import Client, State
from diffedit.contract.job import ErrorInfo
from diffedit_worker.local.stack import Stack
from tests.support.factories import PEAR, SAMPLES

DIFFEDIT = Path(sys.executable).with_name("diffedit")
EDIT = ["edit", str(SAMPLES / "06.png"), "--source-prompt", PEAR["source_prompt"]]
EDIT += ["--target-prompt", PEAR["target_prompt"]]
QUICK = ["--num-inference-steps", "4", "--seed", "3"]
SLOW = ["--num-inference-steps", "500", "--caption", f"a pear {uuid.uuid4().hex}"]

pytestmark = pytest.mark.usefixtures("no_unfinished_jobs")


@pytest.fixture
def diffedit(stack: Stack, tmp_path: Path):
    def run(*words: str, code: int = 0, **environment: str) -> subprocess.CompletedProcess:
        env = {**os.environ, **stack.environment, "COLUMNS": "200", **environment}
        done = subprocess.run([DIFFEDIT, *words], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=90)
        assert done.returncode == code, done.stdout + done.stderr
        return done

    return run


def test_an_edit_is_saved_and_its_job_is_listed(diffedit, tmp_path: Path) -> None:
    done = diffedit(*EDIT, *QUICK, "--out", "pictures")
    files = done.stdout.split()
    assert sorted(Path(name).name for name in files) == ["grid.png", "manifest.json", "mask.png", "result.png"]
    assert all((tmp_path / name).exists() for name in files)
    job_id = done.stderr.split()[1]

    assert "succeeded" in diffedit("status", job_id).stdout
    assert job_id in diffedit("jobs", COLUMNS="60").stdout
    assert job_id in diffedit("jobs", "--state", "succeeded").stdout
    assert job_id not in diffedit("jobs", "--state", "failed").stdout
    diffedit("watch", job_id)
    diffedit("result", job_id, "--out", "again")
    assert (tmp_path / "again/result.png").read_bytes() == (tmp_path / "pictures/result.png").read_bytes()


def test_json_output(diffedit, tmp_path: Path) -> None:
    words = ["--param", "scheduler=dpmsolver++", "--no-wait", "--json"]
    job = json.loads(diffedit(*EDIT, *QUICK, *words).stdout)["id"]
    lines = diffedit("watch", job, "--json").stdout.splitlines()
    assert json.loads(lines[-1])["state"] == "succeeded"
    status = json.loads(diffedit("status", job, "--json").stdout)
    assert status["progress"] == 1
    assert status["request"]["params"]["scheduler"] == "dpmsolver++"
    saved = json.loads(diffedit("result", job, "--json").stdout)
    assert (tmp_path / saved["files"]["result"]).exists()
    assert json.loads(diffedit("jobs", "--json", "--limit", "1").stdout)[0]["id"] == job
    assert json.loads(diffedit("health", "--json").stdout)["broker"] == "ok"


def test_concepts_a_mask_and_a_preview(diffedit, tmp_path: Path) -> None:
    mask = Image.new("L", (64, 64))
    mask.paste(255, (30, 10, 60, 60))
    mask.save(tmp_path / "mask.png")
    picture = str(SAMPLES / "06.png")
    diffedit("edit", picture, "--source-concept", "pear", "--target-concept", "cherries", "--mask", "mask.png", *QUICK)
    assert (tmp_path / "out/result.png").exists()
    diffedit(*EDIT, *QUICK, "--mask-only", "--out", "preview")
    assert [path.name for path in (tmp_path / "preview").iterdir()] == ["mask.png"]


def test_cancel_and_retry(diffedit) -> None:
    job = diffedit(*EDIT, *SLOW, "--no-wait").stdout.strip()
    assert diffedit("cancel", job).stdout.strip() == "cancelled"
    diffedit("watch", job, code=6)
    retried = diffedit("retry", job).stdout.strip()
    assert retried != job
    assert json.loads(diffedit("cancel", retried, "--json").stdout)["state"] == "cancelled"


def test_garbage_collection(diffedit, stack: Stack) -> None:
    job = diffedit(*EDIT, *QUICK, "--json").stdout
    key = json.loads(job)["artifact_keys"]["result"]
    file = stack.directory / "s3/diffedit" / key
    old = time.time() - 3 * 24 * 3600
    os.utime(file, (old, old))
    stack.stop(stack.processes["s3"])  # rclone keeps the times in its memory
    stack.start_s3()
    stack.wait_ready()
    assert json.loads(diffedit("gc", "--older-than", "2d", "--dry-run", "--json").stdout)["objects"] == 1
    assert "1 objects" in diffedit("gc", "--older-than", "2d").stdout
    assert not file.exists()
    assert "retry" in diffedit("result", json.loads(job)["id"], code=1).stderr
    assert "older_than" in diffedit("gc", "--older-than", "now", code=2).stderr


def test_health_lists_workers_and_queues(diffedit) -> None:
    shown = diffedit("health").stdout
    assert "worker@" in shown
    assert "diffedit.tiny.diffusion" in shown


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        (["edit", "no/such.png", "--target", "x"], 2, "bad_picture"),
        ([*EDIT, "--strength", "7"], 2, "invalid_request"),
        (["status", uuid.uuid4().hex], 4, "job_not_found"),
        (["cancel", uuid.uuid4().hex], 4, "job_not_found"),
        ([*EDIT, *SLOW, "--timeout", "0.3"], 5, "job_timeout"),
    ],
)
def test_each_error_has_its_exit_code(diffedit, words: list[str], code: int, error: str) -> None:
    plain = diffedit(*words, code=code)
    assert error in plain.stderr
    assert "Traceback" not in plain.stderr
    as_json = json.loads(diffedit(*words, "--json", code=code).stderr)
    assert as_json["error"] == error
    assert error not in ("job_not_found", "job_timeout") or len(as_json["job_id"]) == 32


def test_services_that_are_down_are_named(diffedit) -> None:
    done = diffedit("status", uuid.uuid4().hex, code=3, DIFFEDIT_REDIS_URL="redis://:pass@127.0.0.1:1/0")
    assert "broker_unavailable" in done.stderr
    assert ":pass@" not in done.stderr
    diffedit("health", code=7, DIFFEDIT_REDIS_URL="redis://127.0.0.1:1/0")


def test_text_from_users_and_workers_cannot_control_the_terminal(diffedit, client: Client) -> None:
    for command in ("status", "watch", "result", "cancel", "retry"):
        assert "\x1b" not in diffedit(command, "\x1b[2Jx[/red]", code=4).stderr
    job = client.edit(SAMPLES / "06.png", **PEAR, num_inference_steps=500, caption="a pear with its own caption")
    message = "torn [/models] [enforce fail at x.cc:12] \x1b]0;title\x07"
    client._job_store.end_job(job.id, State.FAILED, ErrorInfo(stage=None, code="internal", message=message))
    shown = diffedit("status", job.id).stdout + diffedit("jobs").stdout
    assert "torn [/models] [enforce fail at x.cc:12]" in shown
    assert "\x1b" not in shown
