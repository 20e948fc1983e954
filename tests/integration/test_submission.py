"""A submission that Redis breaks off in the middle."""

import uuid
from collections.abc import Iterator

import pytest
import redis
from pydantic import SecretStr

from diffedit import BrokerUnavailable, Client, Settings
from diffedit.contract.job import Job
from diffedit.jobs.backend import redis_backend
from diffedit.retries import RedisPolicy
from tests.support.fake_service import TEXTS, png

pytestmark = pytest.mark.filterwarnings("ignore::diffedit.NoWorkerWarning")


@pytest.fixture
def server(settings: Settings) -> redis.Redis:
    return redis.Redis.from_url(settings.redis_url.get_secret_value())


@pytest.fixture
def lost_client(settings: Settings, server: redis.Redis) -> Iterator[Client]:
    """A client for which Redis is gone from the moment at which it sends its job."""
    user, address = f"u{uuid.uuid4().hex}", settings.redis_url.get_secret_value().rpartition("@")[2]
    server.acl_setuser(user, enabled=True, passwords=["+secret"], categories=["+@all"], keys=["*"], channels=["*"])

    def send(job: Job) -> None:
        server.acl_deluser(user)
        raise BrokerUnavailable("gone")

    own = settings.model_copy(update={"redis_url": SecretStr(f"redis://{user}:secret@{address}")})
    with Client(own, backend=redis_backend(own, policy=RedisPolicy(retries=0, seconds=10)), send=send) as client:
        yield client


@pytest.mark.parametrize("key", [None, "order-42"])
def test_an_error_after_which_redis_is_gone_says_that_the_job_may_run(
    lost_client: Client, settings: Settings, key: str | None
) -> None:
    with pytest.raises(BrokerUnavailable) as caught:
        lost_client.edit(png(), **TEXTS, idempotency_key=key)
    with Client(settings) as client:
        newest = client.jobs(limit=1)[0].id
        client.job(newest).cancel()
    assert f"job {newest} may be recorded nevertheless, and then it runs" in str(caught.value)
    assert ("call again with the same idempotency_key" in str(caught.value)) is bool(key)
