"""A Redis that answers and refuses what writes, or everything: workers wait, lose nothing and go on."""

import time
from collections.abc import Iterator

import pytest
import redis

from diffedit import Stage, State
from diffedit_worker.local.stack import LocalServices
from tests.support.factories import PEAR, PICTURE, QUICK
from tests.support.redis_faults import FAULTS, refusing
from tests.support.services import WorkerGroup, redis_of
from tests.support.waiting import until

SECONDS = 3.0
"""How long Redis refuses. A command of a worker is repeated for longer."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServices]:
    with LocalServices(tmp_path_factory.mktemp("refusals")) as stack:
        yield stack


@pytest.mark.timeout(300)
def test_a_worker_outlives_every_refusal_of_redis_and_its_jobs_lose_no_attempt(
    stack: LocalServices, workers: WorkerGroup
) -> None:
    (process,) = workers.start()
    server = redis_of(stack, decode_responses=True)
    for fault in FAULTS:
        job = workers.job_in_stage(Stage.INVERT, num_inference_steps=150)
        waiting = workers.client.edit(PICTURE, **PEAR, **QUICK, seed=sorted(FAULTS).index(fault))
        with refusing(server, fault):
            time.sleep(SECONDS)
            assert process.poll() is None, fault
        statuses = [each.wait(timeout=60) for each in (job, waiting)]
        assert [status.state for status in statuses] == [State.SUCCEEDED] * 2, fault
        assert {number for status in statuses for number in status.attempts.values()} == {1}, (fault, statuses)
    # The worker is idle now: it waits for a message.
    until(lambda: unblock(server), "the worker waits for a message")
    assert workers.client.edit(PICTURE, **PEAR, **QUICK, seed=99).wait(timeout=60).state is State.SUCCEEDED
    assert process.poll() is None


def unblock(server: redis.Redis) -> int:
    """End each wait for a message with an error, as a new replica does. Return how many there were."""
    waiting = [client["id"] for client in server.client_list() if client["cmd"] == "brpop"]
    return sum(server.client_unblock(int(each), error=True) for each in waiting)
