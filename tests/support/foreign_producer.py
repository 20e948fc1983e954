"""A producer that is not our client: it puts anything into queues, Redis and S3, past every check of a client."""

import json
from base64 import b64encode
from typing import Any
from uuid import uuid4

from diffedit import Client, Settings, State
from diffedit.contract.job import Job
from diffedit.contract.object_keys import input_key
from diffedit.jobs.backend import redis_backend
from diffedit.jobs.dispatch import celery_app
from diffedit.objects.s3 import S3ObjectStore
from diffedit_worker.local.stack import LocalServices
from tests.support.factories import PEAR, PICTURE, QUICK, a_job, a_request
from tests.support.services import redis_of
from tests.support.waiting import until

LANGUAGE, DIFFUSION = "diffedit.tiny.language", "diffedit.tiny.diffusion"
EMBED = "diffedit.embed"


def envelope(content: Any = ([7], {}, {}), headers: Any = None, properties: Any = None, **more: Any) -> str:
    """Return a message in the form that Celery puts into Redis; the arguments replace its parts."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    message = {
        "body": b64encode(body).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"lang": "py", "task": EMBED, "id": str(uuid4())} if headers is None else headers,
        "properties": {
            "delivery_tag": str(uuid4()),
            "body_encoding": "base64",
            "delivery_info": {"exchange": "", "routing_key": LANGUAGE},
            **(properties or {}),
        },
    }
    return json.dumps({**message, **{name.replace("_", "-"): value for name, value in more.items()}})


class ForeignProducer:
    """Puts messages into the queue of a live worker, and unchecked jobs into the job store.

    Attributes:
        worker: the process of the worker that reads the queue.
    """

    def __init__(self, stack: LocalServices) -> None:
        settings = Settings.from_env(stack.environment)
        self.app, self.job_store, self.object_store = (
            celery_app(settings),
            redis_backend(settings).job_store,
            S3ObjectStore(settings),
        )
        self.redis, self.worker = redis_of(stack), stack.processes["worker"]

    def record(self, picture: bytes, extension: str = "png", mask: bytes | None = None) -> Job:
        """Return a new job of unchecked inputs that waits for its first stage; no message is sent for it."""
        keys = {"image": input_key(picture, extension)}
        if mask is not None:
            keys["mask"] = input_key(mask, "png")
            self.object_store.put(keys["mask"], mask)
        job = a_job(a_request(params={**QUICK, "seed": 5}, **keys))
        self.object_store.put(job.request.image, picture)
        self.job_store.create_job(job)
        return job

    def wait_until_taken(self) -> None:
        """Wait until the worker has taken every message from its queue; fail if it ends."""
        until(lambda: self.worker.poll() is not None or not self.redis.llen(LANGUAGE), "an empty queue", timeout=20)
        assert self.worker.poll() is None

    def ended(self, job: Job) -> dict[str, str]:
        """Wait for the end of a job; return its record from Redis, which the job store may not be able to read."""
        until(lambda: self.redis.hexists(f"diffedit:job:{job.id}", "outcome"), f"the end of job {job.id}")
        fields = self.redis.hgetall(f"diffedit:job:{job.id}")
        return {name.decode(): value.decode() for name, value in fields.items()}

    def assert_worker_works(self, client: Client) -> None:
        """Assert that the same process finishes a good edit, and that no message waits or is unacknowledged."""
        assert client.edit(PICTURE, **PEAR, **QUICK).wait(timeout=60).state is State.SUCCEEDED
        assert self.worker.poll() is None
        assert [self.redis.llen(name) for name in (LANGUAGE, DIFFUSION)] == [0, 0]
        until(lambda: not self.redis.hlen("unacked"), "no unacknowledged message", timeout=5)
