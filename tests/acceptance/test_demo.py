"""`diffedit demo` and `diffedit up` make an edit, and leave no process behind, however they end."""

import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from PIL import Image

from diffedit import Client, Settings
from tests.support.factories import PEAR, PICTURE, SAMPLES
from tests.support.processes import children_of
from tests.support.waiting import until
from tests.support.webhook_receiver import receiving

DIFFEDIT = Path(sys.executable).with_name("diffedit")


@contextmanager
def started(*words: str, cwd: Path) -> Iterator[subprocess.Popen]:
    """Run a `diffedit` command in its own session; kill it at the end if it still runs."""
    with open(cwd / "output.txt", "wb") as output:
        process = subprocess.Popen([DIFFEDIT, *words], cwd=cwd, stdout=output, stderr=output, start_new_session=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def printed(cwd: Path) -> str:
    return (cwd / "output.txt").read_text()


def test_the_demo_edits_a_picture_and_stops_everything(tmp_path: Path) -> None:
    done = subprocess.run([DIFFEDIT, "demo"], cwd=tmp_path, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    out = tmp_path / "out"
    original = np.asarray(Image.open(SAMPLES / "08.png").convert("RGB"), dtype=np.int16)
    result = np.asarray(Image.open(out / "result.png").convert("RGB"), dtype=np.int16)
    mask = np.asarray(Image.open(out / "mask.png")) > 127
    assert np.abs(result - original)[mask].mean() > 20
    assert (np.abs(result - original).sum(axis=2) == 0).mean() > 0.5
    with Image.open(out / "grid.png") as grid:
        assert grid.width > 3 * 64
    assert "bowl of fruits" in json.loads((out / "manifest.json").read_text())["texts"]["caption"]
    for expected in ("succeeded", "already there: invert", "What to try next", "diffedit up --web"):
        assert expected in done.stdout
    assert children_of(tmp_path) == []


# The demo has printed `moment` when it gets the signal. tests/integration/test_local.py interrupts it earlier.
@pytest.mark.parametrize("moment", ["Valkey and S3 are up", "A worker is ready", "into"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_demo_that_gets_a_signal_leaves_no_process_behind(tmp_path: Path, moment: str, number: int) -> None:
    with started("demo", cwd=tmp_path) as demo:
        until(lambda: moment in printed(tmp_path), moment)
        demo.send_signal(number)
        assert demo.wait(timeout=20) == (-number if number == signal.SIGKILL else 130)
        until(lambda: children_of(tmp_path) == [], "the end of the child processes", timeout=10)


def test_a_demo_succeeds_after_another_was_killed(tmp_path: Path) -> None:
    with started("demo", cwd=tmp_path) as demo:
        until(lambda: "A worker is ready" in printed(tmp_path), "a worker")
        demo.kill()
    subprocess.run([DIFFEDIT, "demo"], cwd=tmp_path, capture_output=True, check=True, timeout=110)


def test_up_serves_commands_that_use_its_environment(tmp_path: Path) -> None:
    with started("up", "--dir", "data", cwd=tmp_path) as up:
        until(lambda: "ready" in printed(tmp_path), "a ready worker")
        lines = subprocess.run(
            [DIFFEDIT, "env", "--dir", "data"], cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout.splitlines()
        environment = {**os.environ, **dict(line.split("=", 1) for line in lines)}
        assert "env --dir data)" in printed(tmp_path)
        assert environment["AWS_SECRET_ACCESS_KEY"] not in printed(tmp_path)
        words = ["edit", str(SAMPLES / "01.png"), "--target", "a photograph of a ball on a green table", "--steps", "4"]
        subprocess.run([DIFFEDIT, *words], cwd=tmp_path, env=environment, check=True, timeout=60)
        assert (tmp_path / "out/result.png").exists()

        second = subprocess.run([DIFFEDIT, "up", "--dir", "data"], cwd=tmp_path, capture_output=True, text=True)
        assert second.returncode == 1
        assert f"in use by process {up.pid}" in second.stderr
        up.send_signal(signal.SIGINT)
        assert up.wait(timeout=20) == 130
    assert children_of(tmp_path) == []


def test_up_with_the_web_server_takes_edits_over_http_and_sends_webhooks(tmp_path: Path) -> None:
    with receiving() as receiver, started("up", "--web", "--port", "0", "--dir", "data", cwd=tmp_path) as up:
        until(lambda: "/\n" in printed(tmp_path) or up.poll() is not None, "the address", timeout=110)
        url = re.search(r"^(http://127\.0\.0\.1:\d+)/$", printed(tmp_path), re.MULTILINE)[1]
        with httpx.Client(base_url=url, timeout=90) as http:
            data = {**PEAR, "num_inference_steps": "4", "webhook": receiver.url}
            files = {"image": PICTURE.read_bytes()}
            response = http.post("/v1/edits", files=files, data=data, headers={"Prefer": "wait=60"})
            assert response.json()["state"] == "succeeded", response.text
            linked = httpx.get(url + response.json()["links"]["result"], follow_redirects=True, timeout=30)
            assert Image.open(io.BytesIO(linked.content)).size == (64, 64)
            until(lambda: len(receiver.requests) == 2, "the events of the edit", timeout=30)
            assert {json.loads(body)["type"] for *_, body in receiver.requests} == {"edit.started", "edit.succeeded"}
        names = {path.stem for path in (tmp_path / "data/logs").iterdir()}
        assert names == {"valkey", "s3", "worker1", "web", "webhooks"}
        port = url.rpartition(":")[2]
        second = subprocess.run(
            [DIFFEDIT, "up", "--web", "--port", port, "--dir", "other"], cwd=tmp_path, capture_output=True, text=True
        )
        assert second.returncode == 1
        assert f"cannot_listen: another program uses port {port} of 127.0.0.1" in second.stderr
        assert not (tmp_path / "other").exists()
        up.send_signal(signal.SIGTERM)
        assert up.wait(timeout=30) == 130
    assert children_of(tmp_path) == []
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)


def test_up_prints_which_child_process_ended_and_why(tmp_path: Path) -> None:
    with started("up", "--workers", "0", "--dir", "data", cwd=tmp_path) as up:
        until(lambda: "are up" in printed(tmp_path), "services")
        (server,) = [child for child in psutil.Process(up.pid).children() if "valkey" in child.name()]
        server.kill()
        assert up.wait(timeout=20) == 1
    assert "valkey ended with status -9" in printed(tmp_path)
    assert children_of(tmp_path) == []


def test_env_prints_the_environment_that_the_next_run_of_up_has(tmp_path: Path) -> None:
    def announced() -> str:
        return subprocess.run(
            [DIFFEDIT, "env", "--dir", "data"], cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout

    before = announced()
    with started("up", "--workers", "0", "--dir", "data", cwd=tmp_path) as up:
        until(lambda: "are up" in printed(tmp_path), "services")
        assert announced() == before
        assert Client(Settings.from_env(dict(line.split("=", 1) for line in before.splitlines()))).jobs() == []
        up.send_signal(signal.SIGTERM)
        up.wait(timeout=20)
    assert announced() == before
