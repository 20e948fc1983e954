"""Redis is killed and started again while pages follow edits and others are submitted: nothing is lost."""

import asyncio
from pathlib import Path

import pytest

from benchmarks.harness.environment import Environment
from benchmarks.service.redis_restart import survive
from diffedit import State
from diffedit_worker.local.stack import LocalServices
from tests.support.waiting import until
from tests.support.web_server import served_process


@pytest.mark.timeout(300)
def test_open_streams_and_submissions_survive_a_restart_of_redis(tmp_path: Path) -> None:
    with LocalServices(tmp_path / "stack") as stack, served_process(stack.environment, tmp_path) as server:
        stack.start_worker()
        env = Environment(stack)
        until(lambda: env.client.health().ok, "a ready worker", 60)
        restart = asyncio.run(survive(env, server.url, streams=40, edits=6, submissions=20))
        assert restart.states == {"succeeded": 40}
        # Each key has one edit, and no edit exists that nobody was told of.
        assert sorted(map(len, restart.ids.values())) == [1] * 20
        assert len(set().union(*restart.ids.values())) == 20
        assert restart.records == {State.SUCCEEDED: 20}
        assert "Traceback" not in server.log
