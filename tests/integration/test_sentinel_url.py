"""A client whose URL names a sentinel. Over real sentinels: tests/system/test_sentinel.py."""

import pytest

from diffedit import BrokerUnavailable, Client, Settings
from tests.support.fake_service import TEXTS, png
from tests.support.resp_server import RespServer

DEAD = 1
"""A port on which nothing listens."""


@pytest.mark.filterwarnings("ignore::diffedit.NoWorkerWarning")
def test_records_and_messages_go_to_the_server_that_the_sentinel_names_at_the_time(settings: Settings) -> None:
    plain = settings.redis_url.get_secret_value()
    user, _, address = plain.removeprefix("redis://").rpartition("@")
    named = DEAD

    def answer(words: list[bytes]) -> bytes:
        if words[0] == b"AUTH":
            return b"+OK\r\n" if words[1:] == [b"s3cret"] else b"-WRONGPASS\r\n"
        port = str(named).encode() if words[1:] == [b"GET-MASTER-ADDR-BY-NAME", b"Main"] else b"2"
        return b"*2\r\n$9\r\n127.0.0.1\r\n$%d\r\n%s\r\n" % (len(port), port)

    with RespServer(answer) as sentinel:
        url = f"redis+sentinel://{user}@127.0.0.1:{DEAD},127.0.0.1:{sentinel.port}/Main/0?sentinel_password=s3cret"
        with Client(settings.model_copy(update={"redis_url": type(settings.redis_url)(url)})) as client:
            with pytest.raises(BrokerUnavailable, match=f"127.0.0.1:{DEAD}"):
                client.edit(png(), **TEXTS)
            named = int(address.rpartition(":")[2].partition("/")[0])
            job = client.edit(png(), **TEXTS)  # a record by redis-py, a message by kombu
            assert client.health().broker == "ok"
    with Client(settings) as direct:
        known = direct.job(job.id)
        assert direct.health().queues[known.status().job.queue] >= 1
        assert known.cancel()
