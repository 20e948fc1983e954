"""A Redis that answers and refuses: a client reports an outage, and goes on when it is over."""

import threading
import time

import pytest
import redis

from diffedit import BrokerFull, BrokerUnavailable, Client, Settings, State
from tests.support.fake_service import TEXTS, png
from tests.support.redis_faults import FAULTS, refusing

pytestmark = pytest.mark.filterwarnings("ignore::diffedit.NoWorkerWarning")


@pytest.mark.parametrize("fault", FAULTS)
def test_a_client_reports_the_outage_and_goes_on_after_it(settings: Settings, fault: str) -> None:
    server = redis.Redis.from_url(settings.redis_url.get_secret_value())
    with Client(settings) as client:
        job = client.edit(png(), **TEXTS)
        with refusing(server, fault):
            with pytest.raises(BrokerUnavailable) as refusal:
                client.edit(png(), **TEXTS)
            assert (type(refusal.value) is BrokerFull) is (fault == "OOM")
            assert client.health().broker != "ok"
        assert client.health().broker == "ok"
        assert client.edit(png(), **TEXTS).cancel()
        assert job.cancel()
        assert job.status().state is State.CANCELLED


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
