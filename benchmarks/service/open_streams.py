"""A thousand pages that follow edits through one process of `diffedit serve`, while Redis is killed and comes back."""

import asyncio
import resource
import statistics
import time
from collections.abc import Iterator, Sequence

import httpx
import psutil

from benchmarks.harness.environment import Environment, service_environment
from benchmarks.harness.results import ResultRow, measurement
from benchmarks.harness.web_server import http_client, submitted, web_server
from benchmarks.service.redis_restart import survive
from diffedit import State

STREAMS, EDITS, SUBMISSIONS, REQUESTS = 1000, 50, 200, 200


def open_streams() -> Iterator[ResultRow]:
    """Measure the server's memory, its connections to Redis, and an unrelated request, with and without the streams.

    Then Redis is killed while edits are submitted, and everything must end as it would have.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 4 * STREAMS), most))
    with service_environment() as env, web_server(env) as (url, process):
        env.start_workers(1)
        yield from asyncio.run(_measured(env, url, process))


async def _measured(env: Environment, url: str, process: psutil.Process) -> Sequence[ResultRow]:
    async with http_client(env, url, "benchmark") as http:
        began = time.monotonic()
        waiting = await asyncio.gather(*(submitted(http, env.new_edit(), lane="batch") for _ in range(SUBMISSIONS)))
        submissions = time.monotonic() - began
        for edit in waiting:
            env.client.job(edit["id"]).cancel()
        alone = await _latencies(http, waiting[0]["links"]["self"])
        memory, connections = process.memory_info().rss, len(env.redis.client_list())
        among: list[float] = []

        async def measure() -> None:
            nonlocal memory, connections
            among.extend(await _latencies(http, waiting[0]["links"]["self"]))
            memory = process.memory_info().rss - memory
            connections = len(env.redis.client_list()) - connections

        restart = await survive(env, url, streams=STREAMS, edits=EDITS, submissions=SUBMISSIONS, before=measure)
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
        ResultRow(
            f"Redis killed and started again among {SUBMISSIONS} submissions: edits that succeed",
            f"{restart.records[State.SUCCEEDED]} of {len(restart.ids)}, {restart.repeated} requests repeated",
            target=f"{SUBMISSIONS}",
        ),
        ResultRow(
            "Redis killed and started again: streams that show the end of their edit",
            f"{restart.states['succeeded']}, {restart.reopened} opened again",
            target=f"{STREAMS}",
        ),
    ]


async def _latencies(http: httpx.AsyncClient, path: str) -> list[float]:
    seconds = []
    for _ in range(REQUESTS):
        began = time.monotonic()
        (await http.get(path)).raise_for_status()
        seconds.append(time.monotonic() - began)
    return seconds
