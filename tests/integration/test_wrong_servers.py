"""A server that cannot serve is refused as soon as it is connected, and says why. What could lose jobs is a warning."""

import pytest
import redis

from diffedit import BrokerUnavailable, Client, Settings
from diffedit.jobs.backend import redis_backend
from tests.support.factories import a_job
from tests.support.resp_server import RespServer

REDIS_6 = b"%3\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n6.2.14\r\n$5\r\nproto\r\n:3\r\n"
REDIS_5 = b"-ERR unknown command `HELLO`, with args beginning with: `3`, \r\n"


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("hello", "found"), [(REDIS_6, "Redis 6.2.14"), (REDIS_5, "this server")], ids=["6", "5"])
def test_an_old_redis_is_refused_with_its_version(hello: bytes, found: str) -> None:
    problem = f"{found} is too old; Redis 7 or newer, or Valkey, is needed"
    with RespServer(lambda words: hello if words[0] == b"HELLO" else b"+PONG\r\n") as old:
        settings = Settings(redis_url=f"redis://127.0.0.1:{old.port}/0")
        client = Client(settings)
        with pytest.raises(BrokerUnavailable, match=problem):
            client.job("a" * 32).status()
        assert old.commands.count(b"HELLO") == 1, "no further attempt helps"
        with pytest.raises(BrokerUnavailable, match=problem):
            redis_backend(settings).job_store.send(a_job())
        assert problem in client.health().broker
        assert set(old.commands) == {b"PING", b"HELLO"}, "it was asked for nothing else"


def test_health_warns_of_a_policy_that_deletes_jobs(settings: Settings) -> None:
    server = redis.Redis.from_url(settings.redis_url.get_secret_value())
    with Client(settings) as client:
        assert client.health().broker_warnings == ()
        for policy in ("allkeys-lru", "volatile-ttl"):
            server.config_set("maxmemory-policy", policy)
            try:
                health = client.health()
            finally:
                server.config_set("maxmemory-policy", "noeviction")
            assert health.broker == "ok"
            (warning,) = health.broker_warnings
            assert warning.startswith(f"maxmemory-policy is {policy}") and "noeviction" in warning
