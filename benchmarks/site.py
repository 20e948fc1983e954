"""Real Valkey, S3 server and workers, to measure at."""

import io
import itertools
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis
from PIL import Image

from benchmarks.figures import seconds
from benchmarks.midsize import midsize
from diffedit import Client, JobHandle, Settings
from diffedit_worker.local.stack import Stack
from diffedit_worker.models.devices import limit_cpu_threads
from diffedit_worker.models.loading import Models
from diffedit_worker.models.profiles import load_profiles

SIMULATED, TIMED = "benchmarks.simulated", "benchmarks.timed"
CONCEPTS: dict[str, Any] = {"source_concept": "pear", "target_concept": "ball"}
"""An edit of six stages."""


class Site:
    """A stack with workers, and a client."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.settings = Settings.from_env(stack.environment)
        self.client = Client(self.settings)
        self.server = redis.Redis.from_url(stack.environment["DIFFEDIT_REDIS_URL"], decode_responses=True)
        self._numbers = itertools.count()

    def hire(self, count: int, app: str, **environment: str) -> None:
        """Start workers and wait until they are ready."""
        self.stack.environment |= environment
        for number in range(count):
            self.stack.start_worker(f"worker{number}", app=app)
        while len(self.client.health().workers) < count:
            self.stack.check()
            time.sleep(0.05)

    def picture(self) -> bytes:
        """One that nobody has seen, so that nothing of its edit is found done."""
        buffer, number = io.BytesIO(), next(self._numbers)
        Image.new("RGB", (64, 64), (number % 256, number // 256 % 256, number // 65536)).save(buffer, "PNG")
        return buffer.getvalue()

    def novel(self) -> dict[str, Any]:
        """An edit of four stages, none of which is found done: a new picture, and words that nobody has said. With some
        seeds random weights see no difference between them."""
        number = next(self._numbers)
        words = {"source_prompt": f"a pear on table {number}", "target_prompt": f"a ball on table {number}"}
        return {"image": self.picture(), **words, "seed": 0}

    def edited(self, image: bytes, **asked: Any) -> float:
        """Seconds from the submission of an edit until the picture that came of it is here."""
        return seconds(lambda: self.client.edit(image, **asked).result().image)

    def ended(self, job: JobHandle) -> None:
        """Wait without the pauses of a polite client."""
        while not self.server.hexists(f"diffedit:job:{job.id}", "outcome"):
            time.sleep(0.001)
        assert job.status().state == "succeeded", job.status().error


@contextmanager
def site(**environment: str) -> Iterator[Site]:
    with tempfile.TemporaryDirectory() as directory, Stack(Path(directory)) as stack:
        stack.environment |= environment
        yield Site(stack)


@contextmanager
def midsize_site(app: str, **environment: str) -> Iterator[tuple[Site, Models]]:
    """One warm worker with the mid-size model, and the same model in this process."""
    with tempfile.TemporaryDirectory() as directory:
        profiles = midsize(Path(directory))
        with site(DIFFEDIT_PROFILE="midsize", DIFFEDIT_PROFILES=str(profiles)) as here:
            here.hire(1, app, **environment)
            here.edited(here.picture(), **CONCEPTS, num_inference_steps=2, seed=0)
            models = Models(load_profiles(profiles)["midsize"], device="cpu")
            limit_cpu_threads(models.profile, models.device)
            yield here, models
