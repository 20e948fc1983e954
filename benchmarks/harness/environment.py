"""A real Valkey, a real S3 server and real workers, for one benchmark."""

import io
import itertools
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis
from PIL import Image

from benchmarks.harness.midsize_model import make_midsize_model
from benchmarks.harness.results import seconds_of
from benchmarks.harness.waiting import wait_until
from benchmarks.harness.worker_pool import WorkerPool
from diffedit import Client, JobHandle, Settings
from diffedit.jobs.keys import job_key
from diffedit_worker.local.stack import LocalServices
from diffedit_worker.models.devices import limit_cpu_threads
from diffedit_worker.models.loading import Models
from diffedit_worker.models.profiles import load_profiles

SIMULATED_WORKER, TRACED_WORKER = "benchmarks.harness.simulated_worker", "benchmarks.harness.traced_worker"
"""The Celery applications that a benchmark may start instead of the real one."""

CONCEPTS: dict[str, Any] = {"source_concept": "pear", "target_concept": "ball", "concept_prompts": "sentences"}
"""The arguments of an edit of six stages that uses all models."""

PROMPTS: dict[str, Any] = {"source_prompt": "a pear on a table", "target_prompt": "a ball on a table"}
"""The arguments of an edit of four stages."""

JOB_TIMEOUT = 600.0


class Environment:
    """The services, the workers and a client.

    Attributes:
        stack: the service processes; `stack.environment` holds the variables of their clients.
        redis: a connection to Valkey, to read what the client does not show.
    """

    def __init__(self, stack: LocalServices) -> None:
        self.stack = stack
        self.settings = Settings.from_env(stack.environment)
        self.client = Client(self.settings)
        self.redis = redis.Redis.from_url(stack.environment["DIFFEDIT_REDIS_URL"], decode_responses=True)
        self.workers = WorkerPool(stack)
        self._numbers = itertools.count()

    def start_workers(self, count: int, app: str | None = None, **environment: str) -> None:
        """Start workers with these additional environment variables and wait until they are ready."""
        self.workers.start(count, self.client, app, **environment)

    def new_picture(self) -> bytes:
        """Return a new PNG of 64 x 64 pixels, so that no artifact of its edit is in the cache."""
        buffer, number = io.BytesIO(), next(self._numbers)
        Image.new("RGB", (64, 64), (number % 256, number // 256 % 256, number // 65536)).save(buffer, "PNG")
        return buffer.getvalue()

    def new_edit(self) -> dict[str, Any]:
        """Return the arguments of an edit of four stages that finds no artifact in the cache.

        The picture and the prompts are new. The seed is fixed, because with some seeds a model with random weights sees
        no difference between two prompts, and the mask would be empty.
        """
        number = next(self._numbers)
        prompts = {"source_prompt": f"a pear on table {number}", "target_prompt": f"a ball on table {number}"}
        return {"image": self.new_picture(), **prompts, "seed": 0}

    def time_edit(self, image: bytes, **arguments: Any) -> float:
        """Return the seconds from the submission of an edit until its result picture is downloaded."""
        return seconds_of(lambda: self.client.edit(image, **arguments).result().image)

    def wait_succeeded(self, job: JobHandle) -> None:
        """Wait until the job has succeeded. Checks every millisecond, unlike the client, which would add its pauses."""
        wait_until(lambda: self.redis.hexists(job_key(job.id), "outcome"), JOB_TIMEOUT, interval=0.001)
        status = job.status()
        assert status.state == "succeeded", status.error or status.state


@contextmanager
def service_environment(**environment: str) -> Iterator[Environment]:
    """Run the services, without workers, in a temporary directory. `environment` holds variables for the workers.

    A worker runs one job at a time, unless they say otherwise, so that what is measured does not depend on a default.
    """
    with tempfile.TemporaryDirectory() as directory, LocalServices(Path(directory)) as stack:
        stack.environment |= {"DIFFEDIT_BATCH_JOBS": "1", **environment}
        yield Environment(stack)


@contextmanager
def midsize_environment(app: str | None = None, **environment: str) -> Iterator[tuple[Environment, Models]]:
    """Run the services and one warm worker with the mid-size model; load the same model in this process."""
    with tempfile.TemporaryDirectory() as directory:
        profiles = make_midsize_model(Path(directory))
        with service_environment(DIFFEDIT_PROFILE="midsize", DIFFEDIT_PROFILES=str(profiles)) as env:
            env.start_workers(1, app, **environment)
            env.time_edit(env.new_picture(), **CONCEPTS, num_inference_steps=2, seed=0)
            models = Models(load_profiles(profiles)["midsize"], device="cpu")
            limit_cpu_threads(models.profile, models.device)
            yield env, models
