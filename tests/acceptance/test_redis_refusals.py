"""A Redis that answers and refuses what writes, or everything: workers wait, lose nothing and go on."""

from collections.abc import Iterator

import pytest

from diffedit import State
from diffedit.contract.stages import queue_names
from diffedit_worker.local.stack import LocalServices
from tests.support.factories import PEAR, PICTURE, QUICK
from tests.support.redis_refusal_behaviour import RedisRefusalBehaviour, unblock
from tests.support.services import WorkerGroup, redis_of
from tests.support.waiting import until


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServices]:
    with LocalServices(tmp_path_factory.mktemp("refusals")) as stack:
        yield stack


class TestValkey(RedisRefusalBehaviour):
    """Over the embedded server."""


def test_a_worker_outlives_what_somebody_has_put_in_the_place_of_its_queues(
    stack: LocalServices, workers: WorkerGroup
) -> None:
    (process,) = workers.start(DIFFEDIT_WORKER_TTL="3")
    server = redis_of(stack, decode_responses=True)
    queues = queue_names("tiny")
    for queue in queues:
        server.delete(queue)
        server.set(queue, "no list")
    unblock(server)
    until(lambda: not server.exists(*queues), "the worker deletes what is no list")
    assert workers.client.edit(PICTURE, **PEAR, **QUICK, seed=98).wait(timeout=60).state is State.SUCCEEDED
    assert process.poll() is None
    assert set(queues) <= set(workers.client.health().damaged)
