"""Redis loses all its data amid running jobs, and an operator restores them: does every job end, and as it must?

    python -m benchmarks.chaos.loss --jobs 200

Workers run edits while clients submit more. When a fifth of the jobs has ended, FLUSHALL deletes everything. Clients go
on; then `diffedit restore` runs, twice. Rows:

    ended before       jobs that ended before the loss. Their records are lost, their results stay in the bucket
    restored           jobs that `diffedit restore` recorded again, and the seconds that it took
    restored again     jobs that its second run recorded: there must be none
    ended twice        restored jobs that had ended already: in the last moments, before the leader deleted their copies
    lost               jobs that were never seen to end
    double outcomes    jobs that were seen to end in two ways
    wrong              parts of results that differ from the same edit, computed without services
    doubled            jobs with a record that nobody submitted
    copies left        copies of submissions in the bucket when all jobs have ended

The exit code is 1 unless the rows from "lost" on, "restored again" and the failed jobs are 0.
"""

import argparse
import json
import os
import subprocess
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import redis

from benchmarks.chaos.observer import Observer
from benchmarks.chaos.truth import contents_of, differences, true_contents
from benchmarks.chaos.workload import Submission, schedule_submissions
from benchmarks.harness.waiting import wait_until
from benchmarks.harness.worker_pool import WorkerPool
from diffedit import Client, Settings, State
from diffedit.contract.object_keys import SUBMISSIONS
from diffedit.errors import NoWorkerWarning
from diffedit.jobs.backend import redis_backend
from diffedit.objects.s3 import S3ObjectStore
from diffedit_worker.local.stack import LocalServices, no_proxy

WORKER_TTL = 3.0
ENVIRONMENT = {"DIFFEDIT_WORKER_TTL": f"{WORKER_TTL:g}", "DIFFEDIT_BATCH_JOBS": "3"}
ENDED_BEFORE = 0.2
"""The part of the jobs that has ended when the data are lost."""
SUBMITTED_BEFORE = 0.9
"""The part of the jobs that is submitted before. The others are submitted between the loss and the restoration."""
SUBMITTERS = 4


@dataclass
class LossOutcome:
    """What came of a loss of all data. The rows above say what the fields mean; lists hold ids of jobs."""

    jobs: int
    ended_before: int = 0
    running_at_the_loss: int = 0
    restored: int = 0
    restored_again: int = 0
    restore_seconds: float = 0.0
    ended_twice: int = 0
    states: Counter[State] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    double_outcomes: list[str] = field(default_factory=list)
    compared: int = 0
    wrong: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    copies_left: int = 0
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        harm = (self.lost, self.double_outcomes, self.wrong, self.doubled, self.copies_left, self.restored_again)
        return not any(harm) and self.states.keys() <= {State.SUCCEEDED}


class Loss:
    """Lets the Redis of this stack lose its data while its workers run jobs."""

    def __init__(self, stack: LocalServices) -> None:
        settings = Settings.from_env(stack.environment)
        self._environment = {**os.environ, **stack.environment, **no_proxy()}
        self._client = Client(settings)
        self._object_store = S3ObjectStore(settings)
        self._observer = Observer(redis_backend(settings).job_store)
        self._redis: redis.Redis = redis.Redis.from_url(settings.redis_url.get_secret_value(), decode_responses=True)

    def run(self, submissions: Sequence[Submission], timeout: float = 600) -> LossOutcome:
        """Submit these edits, lose all data, restore, and wait until all jobs have ended."""
        outcome, began = LossOutcome(len(submissions)), time.monotonic()
        finished, observer = threading.Event(), self._observer
        early = round(SUBMITTED_BEFORE * len(submissions))
        with ThreadPoolExecutor(SUBMITTERS + 1) as pool:
            watching = pool.submit(observer.observe, finished)
            try:
                list(pool.map(self._submit, submissions[:early]))
                wait_until(lambda: len(observer.outcomes) >= ENDED_BEFORE * len(submissions), timeout)
                outcome.running_at_the_loss = self._redis.hlen("diffedit:running")
                self._redis.flushall()
                ended = set(observer.outcomes)
                list(pool.map(self._submit, submissions[early:]))
                restoring = time.monotonic()
                outcome.restored = self._restore()
                outcome.restore_seconds = time.monotonic() - restoring
                outcome.restored_again = self._restore()
                wait_until(lambda: not self._unfinished(), timeout)
                observer.read(list(observer.statuses))
            finally:
                finished.set()
            watching.result()
        outcome.seconds, outcome.ended_before = time.monotonic() - began, len(ended)
        outcome.ended_twice = sum(observer.statuses[job_id] is not None for job_id in ended)
        self._judge(outcome, submissions)
        return outcome

    def _submit(self, submission: Submission) -> None:
        job = self._client.edit(submission.picture, **submission.options)
        self._observer.add_job(submission.idempotency_key, job.id)

    def _restore(self) -> int:
        """Restore as an operator does. Return how many jobs were restored."""
        program = "from diffedit.cli import app; app()"
        command = [sys.executable, "-c", program, "restore", "--since", "1h", "--json"]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=True)
        restored: dict[str, Any] = json.loads(done.stdout)
        return int(restored["restored"])

    def _unfinished(self) -> list[str]:
        return [job_id for job_id in self._observer.statuses if not self._observer.outcomes.get(job_id)]

    def _judge(self, outcome: LossOutcome, submissions: Sequence[Submission]) -> None:
        observer = self._observer
        outcome.states = Counter(state for states in observer.outcomes.values() for state in states)
        outcome.lost = self._unfinished()
        outcome.double_outcomes = [job_id for job_id, states in observer.outcomes.items() if len(states) > 1]
        outcome.doubled = [each.id for each in self._client.jobs(limit=10_000) if each.id not in observer.statuses]
        truth = true_contents(submissions)
        for key, jobs in observer.jobs.items():
            for job_id in jobs:
                if (status := observer.statuses[job_id]) and status.state is State.SUCCEEDED:
                    contents = contents_of(self._client.job(job_id).result(timeout=60))
                    outcome.wrong += [f"{part} of {job_id}" for part in differences(contents, truth[key])]
                    outcome.compared += 1
        wait_until(lambda: not self._object_store.stored_in(SUBMISSIONS), 10 * WORKER_TTL)
        outcome.copies_left = len(self._object_store.stored_in(SUBMISSIONS))


def edits(seed: int, jobs: int) -> list[Submission]:
    """Return edits of the workload of `make chaos`, each once."""
    drawn = {each.idempotency_key: each for each in schedule_submissions(seed, jobs, seconds=1.0)}
    return list(drawn.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("out/loss"), help="directory of logs and data")
    args = parser.parse_args()
    warnings.simplefilter("ignore", NoWorkerWarning)
    with LocalServices(args.out, fresh=True) as stack:
        stack.environment |= ENVIRONMENT
        WorkerPool(stack).start(args.workers, Client(Settings.from_env(stack.environment)))
        outcome = Loss(stack).run(edits(args.seed, args.jobs))
    for name, value in asdict(outcome).items():
        shown = f"{value:.1f}" if isinstance(value, float) else value
        print(f"{name.replace('_', ' '):20} {shown}")
    sys.exit(not outcome.ok)


if __name__ == "__main__":
    main()
