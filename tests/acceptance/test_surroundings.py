"""A worker under the variables of another Celery or Django application works as under none."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from diffedit import State
from diffedit.contract.stages import queue_names
from diffedit_worker.local.stack import LocalServices
from tests.support.factories import PEAR, PICTURE, QUICK
from tests.support.services import client_of, log_of
from tests.support.surroundings import OF_CELERY, OF_CELERYS_COMMAND, their_modules
from tests.support.waiting import until


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServices]:
    with LocalServices(tmp_path_factory.mktemp("services")) as stack:
        yield stack


@pytest.mark.parametrize(("name", "app"), [("of-diffedit", None), ("of-celery", "diffedit_worker.app")])
def test_a_worker_serves_its_own_queues_over_its_own_broker(
    stack: LocalServices, tmp_path: Path, name: str, app: str | None
) -> None:
    client = client_of(stack)
    paths = {"PYTHONPATH": os.pathsep.join([str(their_modules(tmp_path)), *sys.path])}
    worker = stack.start_worker(name, app=app, environment={**OF_CELERY, **OF_CELERYS_COMMAND, **paths})
    until(lambda: client.health().workers, "a ready worker")
    (info,) = client.health().workers
    assert sorted(info.queues) == sorted(queue_names("tiny"))
    job = client.edit(PICTURE, **PEAR, **QUICK)
    assert job.wait(timeout=60).state is State.SUCCEEDED
    assert "concurrency: 1 (pool)" in log_of(stack, name)
    stack.stop(worker)
    until(lambda: not client.health().workers, "the end of the worker")
