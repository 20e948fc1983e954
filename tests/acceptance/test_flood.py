"""Thousands of jobs lose their messages at once, while workers run long jobs: their rescue must not kill others."""

from collections.abc import Iterator

import pytest

from benchmarks.chaos.flood import Flood
from diffedit_worker.local.stack import LocalServices
from tests.support.services import WorkerGroup
from tests.support.waiting import until

JOBS = 2000
"""One worker sends some hundreds in a second, so that these take longer than a heartbeat lives."""
TTL = 3.0


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServices]:
    with LocalServices(tmp_path_factory.mktemp("flood")) as stack:
        stack.environment["DIFFEDIT_WORKER_TTL"] = f"{TTL:g}"
        yield stack


@pytest.mark.timeout(400)
@pytest.mark.filterwarnings("ignore::diffedit.NoWorkerWarning")
def test_the_rescue_of_thousands_of_jobs_delays_no_heartbeat_and_touches_no_running_job(workers: WorkerGroup) -> None:
    workers.start(2)
    until(lambda: not workers.redis.exists("diffedit:outage"), "the time after which workers may count as dead")
    outcome = Flood(workers.settings, TTL).run(JOBS)
    assert outcome.messages == {1: JOBS}
    assert outcome.touched == []
    assert outcome.counted_dead == 0
    assert outcome.oldest_heartbeat < 1, "a part of the TTL"
    assert outcome.edits >= 2
