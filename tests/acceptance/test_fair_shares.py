"""Owners who share one real worker, and queues that are paused."""

import pytest

from diffedit import Client, State
from diffedit.contract.stages import queue_names
from diffedit.jobs.backend import redis_backend
from diffedit.jobs.keys import job_key
from diffedit_worker.local.stack import LocalServices
from tests.support.factories import PEAR, PICTURE, QUICK
from tests.support.services import busy_worker, client_of, log_of
from tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("no_unfinished_jobs")

LEFT = "waits until its queue is resumed"
FEW = 8
"""Jobs: those that were in the queue already, and a few turns."""


def test_a_small_owner_behind_many_jobs_of_a_big_one_starts_after_a_few(client: Client) -> None:
    with busy_worker(client):
        big = [client.edit(PICTURE, **PEAR, **QUICK, seed=seed, owner="big") for seed in range(40)]
        small = client.edit(PICTURE, **PEAR, **QUICK, seed=100, owner="small")
    started = small.wait(timeout=60).started_at
    statuses = [job.status() for job in big]
    assert sum(status.started_at is not None and status.started_at < started for status in statuses) <= FEW
    used = {each.owner: each for each in client.usage("1d")}
    assert used["small"].succeeded == 1
    assert used["small"].pixels == 64 * 64
    assert used["small"].gpu_seconds > 0


def test_a_pause_holds_jobs_back_without_an_attempt_and_the_end_of_the_pause_lets_them_run(
    client: Client, stack: LocalServices
) -> None:
    store = redis_backend(client_of(stack)._settings).job_store
    queues = queue_names("tiny")
    store.pause_queues(queues, "a test")
    try:
        jobs = [client.edit(PICTURE, **PEAR, **QUICK, seed=seed) for seed in range(200, 203)]
        stale = store.queue_lengths(queues)
        message = store._redis.hget(job_key(jobs[0].id), "held")
        before = log_of(stack, "worker").count(LEFT)

        def is_left() -> bool:
            # As a client of another version sends it. The leader may be faster than the worker.
            store._redis.lpush(queues[1], message)
            return log_of(stack, "worker").count(LEFT) > before

        until(is_left, "the worker leaves a job of a paused queue")
        until(lambda: store.queue_lengths(queues) == stale, "its message is held back again")
        assert all(job.status().state is State.QUEUED and not job.status().attempts for job in jobs)
    finally:
        assert store.resume_queues(queues) == list(queues)
    for job in jobs:
        status = job.wait(timeout=60)
        assert (status.state, set(status.attempts.values())) == (State.SUCCEEDED, {1})
