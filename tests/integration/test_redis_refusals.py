"""A Redis that answers and refuses: a client reports an outage, and goes on when it is over."""

import threading
import time

import pytest
import redis

from benchmarks.harness.redis_faults import FAULTS, refusing
from diffedit import Client, Settings, State
from tests.support.fake_service import TEXTS, png
from tests.support.redis_refusal_behaviour import check_that_a_client_goes_on

pytestmark = pytest.mark.filterwarnings("ignore::diffedit.NoWorkerWarning")


@pytest.mark.parametrize("fault", FAULTS)
def test_a_client_reports_the_outage_and_goes_on_after_it(settings: Settings, fault: str) -> None:
    server = redis.Redis.from_url(settings.redis_url.get_secret_value())
    with Client(settings) as client:
        check_that_a_client_goes_on(client, server, fault)


def test_a_wait_outlasts_a_fail_over(settings: Settings) -> None:
    """The server that a client knows becomes a replica, and the primary again."""
    server = redis.Redis.from_url(settings.redis_url.get_secret_value())
    with Client(settings) as client:
        job = client.edit(png(), **TEXTS)

        def fail_over() -> None:
            with refusing(server, "MASTERDOWN"):
                time.sleep(5)
            job.cancel()

        thread = threading.Thread(target=fail_over)
        thread.start()
        while server.info("replication")["role"] != "slave":
            time.sleep(0.01)
        for status in job.watch(timeout=60):
            last = status
        thread.join()
        assert last.state is State.CANCELLED
