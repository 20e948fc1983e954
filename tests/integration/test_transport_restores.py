"""A message that a worker received and did not acknowledge is not lost when it closes its connection."""

import uuid

import pytest
import redis
from kombu import Connection, Consumer

from diffedit import Settings
from diffedit.contract.job import Job
from diffedit.jobs.backend import redis_backend
from diffedit.jobs.dispatch import celery_app
from tests.support.factories import a_job


@pytest.fixture
def server(settings: Settings) -> redis.Redis:
    return redis.Redis.from_url(settings.redis_url.get_secret_value(), decode_responses=True)


@pytest.fixture
def job() -> Job:
    """A job with a queue of its own."""
    job = a_job()
    params = job.request.params.model_copy(update={"profile": f"p{uuid.uuid4().hex[:8]}"})
    return job.model_copy(update={"request": job.request.model_copy(update={"params": params})})


def received(connection: Connection, queue: str) -> list[str]:
    """Receive one message from the queue and leave it unacknowledged. Return its job."""
    jobs: list[str] = []
    with Consumer(connection, [connection.SimpleQueue(queue).queue], accept=["json"]) as consumer:
        consumer.register_callback(lambda body, message: jobs.append(message.headers["job_id"]))
        connection.drain_events(timeout=5)
    return jobs


def test_a_message_that_is_not_acknowledged_returns_to_its_queue(
    settings: Settings, server: redis.Redis, job: Job
) -> None:
    job_store, later = redis_backend(settings).job_store, job.model_copy(update={"id": uuid.uuid4().hex})
    job_store.send(job)
    job_store.send(later)
    before = server.lrange(job.queue, 0, -1)
    with celery_app(settings).connection_for_read() as connection:
        assert received(connection, job.queue) == [job.id]
        assert len(server.lrange(job.queue, 0, -1)) == 1
        assert server.exists("unacked", "unacked_index") == 0, "no second copy is kept"
    assert server.lrange(job.queue, 0, -1) == before[::-1], "it is the last one, and as it was"
    with celery_app(settings).connection_for_read() as connection:
        assert [received(connection, job.queue) for _ in range(2)] == [[later.id], [job.id]]
