"""A flood: thousands of jobs wait and their messages have vanished, while workers run long jobs.

    python -m benchmarks.chaos.flood --jobs 10000

The jobs of the flood are of a profile that nobody serves, so that nothing but their rescue costs anything. The workers
keep running edits. No heartbeat may be late, no edit may be touched, and each job of the flood gets one message.
"""

import argparse
import json
import time
import uuid
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import redis

from benchmarks.harness.waiting import wait_until
from benchmarks.harness.worker_pool import WorkerPool
from diffedit import Client, EditOptions, EditParams, EditRequest, JobHandle, JobStatus, Settings, State
from diffedit.contract.job import Job
from diffedit.contract.object_keys import input_key
from diffedit.errors import NoWorkerWarning
from diffedit.jobs import keys
from diffedit.jobs.backend import redis_backend
from diffedit_worker.local.stack import LocalServices
from diffedit_worker.models.profiles import SAMPLES

PROFILE = "flood"
WORKERS = 2
WORKER_TTL = 3.0
INTERVAL = 0.05
SETTLED_AFTER = 3.0
"""Times the TTL of a worker. Whoever sends messages once more does so within this time."""
LONG_EDIT: EditOptions = {
    "source_prompt": "a photograph of a pear on a green table",
    "target_prompt": "a photograph of some cherries on a green table",
    "num_inference_steps": 500,
    "num_maps_per_mask": 2,
}


@dataclass
class FloodOutcome:
    """What came of a flood.

    Attributes:
        jobs: the jobs that waited without a message.
        messages: how many messages each of them had in the end, as pairs of a number of messages and a number of jobs.
        seconds: from the moment when all jobs waited until each had a message, or until the time was up.
        edits: the edits that workers ran meanwhile.
        touched: what happened to an edit that should not.
        counted_dead: how often a living worker had no heartbeat when it was looked at.
        looks: how often the heartbeats were looked at.
        oldest_heartbeat: the age of the oldest heartbeat that was seen, as a part of the time after which it expires.
    """

    jobs: int
    messages: dict[int, int] = field(default_factory=dict)
    seconds: float = 0.0
    edits: int = 0
    touched: list[str] = field(default_factory=list)
    counted_dead: int = 0
    looks: int = 0
    oldest_heartbeat: float = 0.0

    @property
    def ok(self) -> bool:
        return self.messages == {1: self.jobs} and not self.touched and not self.counted_dead


class Flood:
    """Floods a system whose workers are idle, and watches them.

    `settings` are those of a client, `worker_ttl` is that of the workers.
    """

    def __init__(self, settings: Settings, worker_ttl: float, timeout: float = 900) -> None:
        settings = settings.model_copy(update={"max_queued": 10**6})
        self._client = Client(settings)
        self._backend = redis_backend(settings)
        self._redis: redis.Redis = redis.Redis.from_url(settings.redis_url.get_secret_value(), decode_responses=True)
        self._worker_ttl = worker_ttl
        self._timeout = timeout
        self._workers = [worker.id for worker in self._backend.worker_registry.workers()]
        self._edits: dict[str, JobHandle] = {}
        self._seen: dict[str, JobStatus] = {}

    def run(self, jobs: int) -> FloodOutcome:
        """Flood the system with `jobs` jobs, wait until they are rescued, and remove them."""
        outcome = FloodOutcome(jobs)
        self._watch(outcome)
        with self._flooded(jobs) as (queue, ids):
            began = time.monotonic()

            def rescued() -> bool:
                self._watch(outcome)
                return bool(self._redis.llen(queue) + self._redis.zcard(keys.BACKLOG + queue) >= len(ids))

            wait_until(rescued, self._timeout, interval=INTERVAL)
            outcome.seconds = time.monotonic() - began
            wait_until(lambda: self._watch(outcome), SETTLED_AFTER * self._worker_ttl, interval=INTERVAL)
            sent = Counter(_job_of(message) for message in self._redis.lrange(queue, 0, -1))
            sent.update(map(str, self._redis.zrange(keys.BACKLOG + queue, 0, -1)))
            outcome.messages = dict(Counter(sent[job_id] for job_id in ids))
        for edit in self._edits.values():
            edit.cancel()
        outcome.edits = len(self._edits)
        return outcome

    @contextmanager
    def _flooded(self, jobs: int) -> Iterator[tuple[str, list[str]]]:
        """Let jobs wait without messages. Yield their queue and their ids."""
        params = EditParams(profile=PROFILE)
        request = EditRequest(image=input_key(b"flood", "png"), source_prompt="a", target_prompt="b", params=params)
        flood = [Job(id=uuid.uuid4().hex, request=request) for _ in range(jobs)]
        queue, store = flood[0].queue, self._backend.job_store
        try:
            for job in flood:
                store.create_job(job)
            # The leader has begun to rescue the first of them: their messages vanish, too.
            self._redis.delete(queue, keys.BACKLOG + queue)
            yield queue, [job.id for job in flood]
        finally:
            for job in flood:
                store.end_job(job.id, State.CANCELLED)
            self._redis.delete(queue)

    def _watch(self, outcome: FloodOutcome) -> None:
        """Look at the heartbeats and the edits, and keep all workers busy."""
        outcome.looks += 1
        for worker in self._workers:
            left = self._redis.pttl(keys.HEARTBEAT + worker) / 1000
            outcome.counted_dead += left < 0
            outcome.oldest_heartbeat = max(outcome.oldest_heartbeat, 1 - max(left, 0) / self._worker_ttl)
        statuses = {job_id: self._client.job(job_id).status() for job_id in self._running_edits()}
        for job_id, status in statuses.items():
            outcome.touched += _harm(self._seen.get(job_id), status)
            self._seen[job_id] = status
        for _ in range(len(self._workers) - sum(not status.is_terminal for status in statuses.values())):
            options: EditOptions = {**LONG_EDIT, "caption": f"a pear {uuid.uuid4().hex}"}  # shares no artifact
            edit = self._client.edit(SAMPLES / "06.png", **options)
            self._edits[edit.id] = edit

    def _running_edits(self) -> list[str]:
        return [job_id for job_id in self._edits if not (job_id in self._seen and self._seen[job_id].is_terminal)]


def _harm(before: JobStatus | None, now: JobStatus) -> list[str]:
    """Return what happened to an edit that can only be due to others."""
    harm = [f"{now.id}: {stage} was started {number} times" for stage, number in now.attempts.items() if number > 1]
    if before and before.stage is now.stage and before.step > now.step:
        harm.append(f"{now.id}: {now.stage} was at step {before.step} and is at step {now.step}")
    if now.is_terminal and now.state is not State.SUCCEEDED:
        harm.append(f"{now.id}: {now.state}")
    return harm if not before or now.attempts != before.attempts or now.step < before.step else []


def _job_of(message: bytes | str) -> str:
    return str(json.loads(message)["headers"]["job_id"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--out", type=Path, default=Path("out/flood"), help="directory of logs and data")
    args = parser.parse_args()
    warnings.simplefilter("ignore", NoWorkerWarning)
    with LocalServices(args.out, fresh=True) as stack:
        stack.environment["DIFFEDIT_WORKER_TTL"] = f"{WORKER_TTL:g}"
        settings = Settings.from_env(stack.environment)
        WorkerPool(stack).start(WORKERS, Client(settings))
        time.sleep(WORKER_TTL)
        print(Flood(settings, WORKER_TTL).run(args.jobs))


if __name__ == "__main__":
    main()
