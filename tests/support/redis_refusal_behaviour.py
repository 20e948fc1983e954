"""What workers and clients do while Redis refuses: over Valkey in tests/acceptance, over Debian's in tests/system."""

import time

import pytest
import redis

from benchmarks.harness.redis_faults import FAULTS, refusing
from diffedit import BrokerFull, BrokerUnavailable, Client, Stage, State
from tests.support.factories import PEAR, PICTURE, QUICK
from tests.support.services import WorkerGroup, redis_of
from tests.support.waiting import until

SECONDS = 3.0
"""How long Redis refuses. A command of a worker is repeated for longer."""


class RedisRefusalBehaviour:
    """A subclass provides the fixture `workers`. `faults` names what its server can do."""

    faults = tuple(FAULTS)

    @pytest.mark.timeout(300)
    def test_a_worker_outlives_every_refusal_of_redis_and_its_jobs_lose_no_attempt(self, workers: WorkerGroup) -> None:
        (process,) = workers.start()
        server = redis_of(workers.stack, decode_responses=True)
        for number, fault in enumerate(self.faults):
            job = workers.job_in_stage(Stage.INVERT, num_inference_steps=200)
            waiting = workers.client.edit(PICTURE, **PEAR, **QUICK, seed=number)
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


def check_that_a_client_goes_on(client: Client, server: redis.Redis, fault: str) -> None:
    """Assert that a client reports the refusal as an outage, and that the same client works when it is over."""
    job = client.edit(PICTURE, **PEAR, **QUICK)
    with refusing(server, fault):
        with pytest.raises(BrokerUnavailable) as refusal:
            client.edit(PICTURE, **PEAR, **QUICK)
        assert (type(refusal.value) is BrokerFull) is (fault == "OOM")
        told = client.health().broker
        assert "maxmemory" in told if fault == "OOM" else "refuses commands" in told or fault == "LOADING"
    assert client.health().broker == "ok"
    assert client.edit(PICTURE, **PEAR, **QUICK).cancel()
    assert job.cancel()
    assert job.status().state is State.CANCELLED


def unblock(server: redis.Redis) -> int:
    """End each wait for a message with an error, as a new replica does. Return how many there were."""
    waiting = [client["id"] for client in server.client_list() if client["cmd"] == "brpop"]
    return sum(server.client_unblock(int(each), error=True) for each in waiting)
