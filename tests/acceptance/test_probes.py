"""The probes of a real worker: while Redis is frozen, no probe may end it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from diffedit_worker.local.stack import LocalServices
from tests.support.factories import PEAR, PICTURE, QUICK
from tests.support.services import WorkerGroup, log_of
from tests.support.waiting import until

WORKER_TTL = 3
HEARTBEATS = 10
"""Seconds in which Celery sends heartbeats: one every two seconds."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServices]:
    with LocalServices(tmp_path_factory.mktemp("probes")) as stack:
        stack.environment |= {"DIFFEDIT_WORKER_TTL": str(WORKER_TTL)}
        yield stack


class Probed:
    """A worker, and what its probes are told."""

    def __init__(self, workers: WorkerGroup, file: Path) -> None:
        self.file = file
        (self.process,) = workers.start(DIFFEDIT_METRICS_PORT="0", DIFFEDIT_HEARTBEAT_FILE=str(file))
        (self.name,) = workers.processes
        log = log_of(workers.stack, self.name)
        port = re.search(r"serving .*/livez.* on port (\d+)", log)
        assert port, log
        self._url = f"http://127.0.0.1:{port[1]}"

    def ask(self, path: str) -> tuple[int, dict[str, Any]]:
        try:
            with urllib.request.urlopen(self._url + path, timeout=10) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def alive(self, *options: str) -> int:
        """Return the exit code of `diffedit alive`."""
        command = [sys.executable, "-m", "diffedit", "alive", "--file", str(self.file), *options]
        return subprocess.run(command, capture_output=True, check=False).returncode


def test_a_frozen_redis_lets_the_worker_live_and_makes_it_unready_until_redis_answers(
    stack: LocalServices, workers: WorkerGroup, tmp_path: Path
) -> None:
    # Given a worker that is ready
    worker = Probed(workers, tmp_path / "worker")
    until(lambda: worker.ask("/readyz")[0] == 200, "a ready worker")
    until(lambda: worker.alive("--ready") == 0, "a heartbeat file that says so")

    # When Redis takes connections and answers nothing
    stack.processes["valkey"].send_signal(signal.SIGSTOP)
    frozen_at = time.monotonic()
    try:
        # Then the worker is no longer ready
        until(lambda: worker.ask("/readyz")[0] == 503, "a worker that is not ready")
        assert worker.ask("/readyz")[1]["why"] == ["Redis has not taken its heartbeat lately"]
        until(lambda: worker.alive("--ready") == 1, "a heartbeat file that says so")

        # But it lives, and each of its threads goes on. Celery has sent a heartbeat by then, which nobody takes.
        def has_turned_since() -> bool:
            status, body = worker.ask("/livez")
            assert status == 200 and body["live"], body
            assert worker.alive() == 0
            elapsed = time.monotonic() - frozen_at
            # None is an event loop that Celery has left to connect again.
            return all(age is None or age < elapsed - HEARTBEATS for age in body["turned"].values())

        until(has_turned_since, "a turn of each thread while Redis is frozen")
        assert set(worker.ask("/livez")[1]["turned"]) == {"event loop", "heartbeat", "maintenance"}
    finally:
        stack.processes["valkey"].send_signal(signal.SIGCONT)

    # And it is ready again when Redis answers
    until(lambda: worker.ask("/readyz")[0] == 200, "a worker that is ready again")
    until(lambda: worker.alive("--ready") == 0, "a heartbeat file that says so")
    assert worker.process.poll() is None
    workers.client.edit(PICTURE, **PEAR, **QUICK).wait(60)


def test_a_worker_without_redis_lives_and_one_that_is_frozen_does_not(
    stack: LocalServices, workers: WorkerGroup, tmp_path: Path
) -> None:
    worker = Probed(workers, tmp_path / "worker")
    until(lambda: worker.ask("/readyz")[0] == 200, "a ready worker")
    workers.kill(stack.processes["valkey"])
    try:
        until(lambda: "it has no connection to Redis" in worker.ask("/readyz")[1]["why"], "a lost connection")
        assert worker.ask("/livez")[0] == 200 and worker.alive() == 0
    finally:
        stack.start_valkey()
        stack.wait_ready()
    until(lambda: worker.ask("/readyz")[0] == 200, "a worker that is connected again")

    os.kill(worker.process.pid, signal.SIGSTOP)
    try:
        until(lambda: worker.alive("--max-age", "6") == 1, "a heartbeat file that is old")
    finally:
        os.kill(worker.process.pid, signal.SIGCONT)
    until(lambda: worker.alive() == 0, "a new heartbeat")
