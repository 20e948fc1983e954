"""Redis is killed and started again while pages follow edits over HTTP and others are submitted: what is lost."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from benchmarks.harness.environment import Environment
from benchmarks.harness.web_pages import Page
from benchmarks.harness.web_server import ACCEPTED, http_client, post_edit, submitted
from diffedit import State
from diffedit_worker.local.stack import VALKEY

AWAY = 2.0
"""Seconds from the end of Redis to its next start."""
REPEAT = 0.5
"""Seconds after which a request that was answered with an error is sent again."""
KINDS = 20
"""So many of the submissions differ. The others find their results."""


@dataclass(frozen=True)
class Restart:
    """What became of pages and submissions when Redis was killed and started again.

    Attributes:
        states: the last states that the pages have seen, each with their number.
        reopened: how often a page had to connect again.
        repeated: how often a submission was answered with an error, and sent again with the same key.
        ids: the edits that the answers name, by their key.
        records: the edits that exist, by state.
    """

    states: Counter[str]
    reopened: int
    repeated: int
    ids: dict[str, set[str]]
    records: Counter[State]


async def survive(
    env: Environment,
    url: str,
    *,
    streams: int,
    edits: int,
    submissions: int,
    before: Callable[[], Awaitable[None]] | None = None,
) -> Restart:
    """Kill Redis and start it again while pages follow edits and more are submitted. Return what became of them.

    Args:
        env: the services, with a worker.
        url: of the server.
        streams: how many pages there are.
        edits: how many edits they follow.
        submissions: how many edits are submitted when Redis is killed, each with an idempotency key.
        before: called when the pages are open, before that.
    """
    async with http_client(env, url, "pages") as http, http_client(env, url, "submissions") as other:
        followed = [await submitted(http, env.new_edit()) for _ in range(edits)]
        pages = [
            Page(url, {"Authorization": http.headers["Authorization"]}, followed[number % edits])
            for number in range(streams)
        ]
        following = [asyncio.create_task(page.follow()) for page in pages]
        while not all(page.state for page in pages):
            await asyncio.sleep(0.1)
        if before:
            await before()
        kinds = [env.new_edit() for _ in range(KINDS)]
        calls = [_Submission(other, f"order-{number}", kinds[number % KINDS]) for number in range(submissions)]
        submitting = [asyncio.create_task(call.send()) for call in calls]
        while not any(task.done() for task in submitting):  # in the middle of them
            await asyncio.sleep(0.005)
        await asyncio.to_thread(_restart, env)
        await asyncio.gather(*submitting, *following)
        # Who sends a request again, though it was answered, gets the same edit.
        await asyncio.gather(*(call.send() for call in calls))
        for job_id in set().union(*(call.ids for call in calls)):
            await asyncio.to_thread(env.client.job(job_id).wait, 600)
    records = env.client.for_owner("submissions").jobs(limit=1000)
    return Restart(
        states=Counter(page.state for page in pages),
        reopened=sum(page.connections - 1 for page in pages),
        repeated=sum(call.repeated for call in calls),
        ids={call.key: call.ids for call in calls},
        records=Counter(status.state for status in records),
    )


def _restart(env: Environment) -> None:
    valkey = env.stack.processes[VALKEY]
    valkey.kill()
    env.stack.stop(valkey)
    time.sleep(AWAY)
    env.stack.start_valkey()
    env.stack.wait_ready()


@dataclass
class _Submission:
    """A submission that is sent until it is accepted, always with the same key, as a user would."""

    http: httpx.AsyncClient
    key: str
    edit: dict[str, Any]
    ids: set[str] = field(default_factory=set)
    repeated: int = 0

    async def send(self) -> None:
        while True:
            response = await post_edit(self.http, self.edit, {}, {"Idempotency-Key": self.key})
            if response.status_code == ACCEPTED:
                self.ids.add(response.json()["id"])
                return
            assert response.json()["retryable"], response.text
            self.repeated += 1
            await asyncio.sleep(REPEAT)
