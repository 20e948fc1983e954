"""`diffedit serve` as a process, for one benchmark, and edits that are submitted to it."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks.harness.environment import Environment
from benchmarks.harness.waiting import wait_until

START = 60.0
"""Seconds that the server has to start."""
ACCEPTED = 202
QUICK = {"num_inference_steps": "4", "num_maps_per_mask": "2", "seed": "0"}
PROGRAM = "import sys; from diffedit.cli import app; sys.exit(app())"


@contextmanager
def web_server(env: Environment) -> Iterator[tuple[str, psutil.Process]]:
    """Run the server over the services of `env` on a free port. Gives its URL and its process."""
    log = Path(env.stack.directory) / "serve.log"
    command = [sys.executable, "-P", "-c", PROGRAM, "serve", "--port", "0", "--log-level", "info"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, env={**os.environ, **env.stack.environment}, stdout=output, stderr=output)
    try:
        wait_until(lambda: "running on" in log.read_text() or process.poll() is not None, START)
        found = re.search(r"running on (http://\S+)", log.read_text())
        assert found, log.read_text()
        yield found[1], psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(timeout=30)


def http_client(env: Environment, url: str, owner: str) -> httpx.AsyncClient:
    """Return a client of the server with an API key of this owner. It opens as many connections as it needs."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
    headers = {"Authorization": f"Bearer {env.client.add_api_key(owner, rate=60_000).text}"}
    return httpx.AsyncClient(base_url=url, headers=headers, timeout=600, limits=limits)


async def submitted(http: httpx.AsyncClient, edit: Mapping[str, Any], **options: str) -> dict[str, Any]:
    """Submit a short edit with the arguments of `Environment.new_edit`, and return its first status."""
    response = await post_edit(http, edit, options)
    assert response.status_code == ACCEPTED, response.text
    return dict(response.json())


async def post_edit(
    http: httpx.AsyncClient,
    edit: Mapping[str, Any],
    options: Mapping[str, str],
    headers: Mapping[str, str] | None = None,
) -> httpx.Response:
    """Submit a short edit, and return the answer."""
    prompts = {name: edit[name] for name in ("source_prompt", "target_prompt")}
    return await http.post(
        "/v1/edits", files={"image": edit["image"]}, data={**prompts, **QUICK, **options}, headers=headers
    )
