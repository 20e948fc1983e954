"""The HTTP API while Redis is killed and starts again: streams go on, and a repeated request makes no second edit."""

import concurrent.futures
import json
import os
import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from diffedit import Client, Settings
from diffedit_worker.local.stack import LocalServices
from tests.support.services import until_on_disk
from tests.support.waiting import until
from tests.support.web_api import PROMPTS, png
from tests.support.web_server import served_process

pytestmark = pytest.mark.filterwarnings("ignore::diffedit.NoWorkerWarning")
FILES = {"image": ("green.png", png(), "image/png")}
AWAY = 2.0
"""Seconds for which Redis is away."""


@pytest.fixture
def own_stack(tmp_path: Path) -> Iterator[LocalServices]:
    with LocalServices(tmp_path / "stack") as stack:
        yield stack


def test_redis_is_killed_in_the_middle(own_stack: LocalServices, tmp_path: Path) -> None:
    client = Client(Settings.from_env(own_stack.environment))
    headers = {"Authorization": f"Bearer {client.add_api_key('u17', rate=60_000).text}"}
    with (
        served_process(own_stack.environment, tmp_path) as server,
        httpx.Client(base_url=server.url, headers=headers, timeout=60) as http,
        concurrent.futures.ThreadPoolExecutor(8) as pool,
    ):
        edit = http.post("/v1/edits", files=FILES, data=PROMPTS).json()
        seen: list[str] = []

        def follow() -> None:
            with http.stream("GET", edit["links"]["events"]) as response:
                for line in response.iter_lines():
                    if line.startswith("data: "):
                        seen.append(json.loads(line[6:])["state"])

        following = pool.submit(follow)
        until(lambda: seen == ["queued"], "the first event")

        def submit(number: int) -> str:
            key = {"Idempotency-Key": uuid.uuid4().hex}
            while True:
                response = http.post("/v1/edits", files=FILES, data={**PROMPTS, "seed": str(number)}, headers=key)
                if response.status_code == 202:
                    return str(response.json()["id"])
                assert response.status_code == 503, response.text
                assert response.json()["retryable"]
                time.sleep(0.2)

        until_on_disk(own_stack)
        valkey = own_stack.processes["valkey"]
        os.kill(valkey.pid, signal.SIGKILL)
        own_stack.stop(valkey)
        submitted = [pool.submit(submit, number) for number in range(6)]
        time.sleep(AWAY)
        own_stack.start_valkey()
        own_stack.wait_ready()
        ids = {each.result(timeout=60) for each in submitted}
        assert len(ids) == 6
        assert {status.id for status in client.jobs()} == {*ids, edit["id"]}
        client.job(edit["id"]).cancel()
        following.result(timeout=60)
        assert seen == ["queued", "cancelled"]
        assert "Traceback" not in server.log
