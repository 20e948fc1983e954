"""A thousand pages that follow edits through one process of `diffedit serve`, while a worker makes the edits."""

import asyncio
import resource
import statistics
import time
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil

from benchmarks.harness.environment import Environment, service_environment
from benchmarks.harness.results import ResultRow, measurement
from benchmarks.harness.web_server import web_server

STREAMS, EDITS, SUBMISSIONS, REQUESTS = 1000, 50, 200, 200
QUICK: dict[str, Any] = {"num_inference_steps": "4", "num_maps_per_mask": "2", "seed": "0"}


def open_streams() -> Iterator[ResultRow]:
    """Measure the server's memory, its connections to Redis, and an unrelated request, with and without the streams."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 4 * STREAMS), most))
    with service_environment() as env, web_server(env) as (url, process):
        env.start_workers(1)
        key = env.client.add_api_key("benchmark", rate=60_000).text
        yield from asyncio.run(_measured(env, url, process, key))


async def _measured(env: Environment, url: str, process: psutil.Process, key: str) -> Sequence[ResultRow]:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=600, limits=limits) as http:
        began = time.monotonic()
        waiting = await asyncio.gather(*(_submitted(http, env, lane="batch") for _ in range(SUBMISSIONS)))
        submissions = time.monotonic() - began
        for edit in waiting:
            env.client.job(edit["id"]).cancel()
        alone = await _latencies(http, waiting[0]["links"]["self"])
        memory, connections = process.memory_info().rss, len(env.redis.client_list())
        edits = [await _submitted(http, env) for _ in range(EDITS)]
        streams = [asyncio.ensure_future(_followed(url, headers, edits[each % EDITS])) for each in range(STREAMS)]
        await asyncio.sleep(5)  # until all are open, and beyond
        among = await _latencies(http, waiting[0]["links"]["self"])
        memory = process.memory_info().rss - memory
        connections = len(env.redis.client_list()) - connections
        ends = await asyncio.gather(*streams)
    assert set(ends) == {"succeeded"}, set(ends)
    return [
        ResultRow(
            f"{SUBMISSIONS} submissions over HTTP at once", measurement(submissions, "{} s"), target="none refused"
        ),
        ResultRow(f"memory of {STREAMS} open event streams in one server", measurement(memory / 2**20, "{} MiB", 0)),
        ResultRow(f"connections to Redis that {STREAMS} open event streams add", f"{connections}", target="a handful"),
        ResultRow(
            f"an unrelated request while {STREAMS} streams follow {EDITS} edits, median",
            measurement(1000 * statistics.median(among), "{} ms"),
            measurement(1000 * statistics.median(alone), "{} ms without streams and edits"),
        ),
        ResultRow(
            f"an unrelated request while {STREAMS} streams follow {EDITS} edits, 99 % are faster than",
            measurement(1000 * statistics.quantiles(among, n=100)[-1], "{} ms"),
            measurement(1000 * statistics.quantiles(alone, n=100)[-1], "{} ms without streams and edits"),
        ),
    ]


async def _submitted(http: httpx.AsyncClient, env: Environment, **options: str) -> dict[str, Any]:
    new = env.new_edit()
    data = {"source_prompt": new["source_prompt"], "target_prompt": new["target_prompt"], **QUICK, **options}
    response = await http.post("/v1/edits", files={"image": new["image"]}, data=data)
    assert response.status_code == 202, response.text
    return dict(response.json())


async def _latencies(http: httpx.AsyncClient, path: str) -> list[float]:
    seconds = []
    for _ in range(REQUESTS):
        began = time.monotonic()
        (await http.get(path)).raise_for_status()
        seconds.append(time.monotonic() - began)
    return seconds


async def _followed(url: str, headers: dict[str, str], edit: dict[str, Any]) -> str:
    """Return the last state that a stream shows. A plain socket, so that the reader costs little."""
    place = urlsplit(url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    lines = [f"GET {edit['links']['events']} HTTP/1.1", f"Host: {place.netloc}", *map(": ".join, headers.items())]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    state = ""
    while (line := await reader.readline()) and line.strip() != b"0":  # the last chunk
        if line.startswith(b"data: "):
            state = line.partition(b'"state":"')[2].partition(b'"')[0].decode()
    writer.close()
    return state
