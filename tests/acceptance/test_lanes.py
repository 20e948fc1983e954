"""Lanes, limits of queues and time limits of jobs, with one real worker that is kept busy."""

import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from diffedit import Client, JobExpired, QueueFull, Stage, State
from diffedit_worker.local.stack import LocalServices
from tests.support.factories import PEAR, PICTURE, QUICK, slow
from tests.support.services import busy_worker, client_of, log_of, redis_of
from tests.support.waiting import until, until_status

pytestmark = pytest.mark.usefixtures("no_unfinished_jobs")


def test_interactive_jobs_run_before_batch_jobs_that_were_submitted_earlier(client: Client) -> None:
    with busy_worker(client):
        batch = [client.edit(PICTURE, **PEAR, **QUICK, seed=seed, lane="batch") for seed in range(3)]
        interactive = [client.edit(PICTURE, **PEAR, **QUICK, seed=seed) for seed in range(3, 6)]
    last = max(job.wait(timeout=60).finished_at for job in interactive)
    statuses = [job.wait(timeout=60) for job in batch]
    assert all(status.finished_at > last for status in statuses)
    assert [status.finished_at for status in statuses] == sorted(status.finished_at for status in statuses)
    # A worker finishes a started job before it starts another. The upload of one result may still run.
    assert statuses[0].finished_at <= statuses[2].started_at


def test_a_job_that_does_not_start_in_time_expires_and_never_runs(client: Client) -> None:
    with busy_worker(client):
        job = client.edit(PICTURE, **PEAR, **QUICK, start_timeout=0.5)
        with pytest.raises(JobExpired, match=r"start_timeout of 0\.5 s"):
            job.wait(timeout=60)
    assert client.edit(PICTURE, **PEAR, **QUICK).wait(timeout=60).state is State.SUCCEEDED
    assert (job.status().state, job.status().attempts) == (State.EXPIRED, {})


def test_a_job_that_misses_its_deadline_expires_and_the_worker_is_free(client: Client, stack: LocalServices) -> None:
    job, server = client.edit(PICTURE, **PEAR, **slow(), deadline=60), redis_of(stack)
    status = until_status(job, lambda status: status.stage is Stage.INVERT and status.step > 0, "a step")
    assert server.zscore("diffedit:expiring", job.id) == pytest.approx(status.created_at.timestamp() + 60, abs=0.01)
    server.zadd("diffedit:expiring", {job.id: 0})  # its time is over, in the middle of a stage
    with pytest.raises(JobExpired, match="deadline of 60 s"):
        job.wait(timeout=60)
    assert client.edit(PICTURE, **PEAR, **QUICK).wait(timeout=60).state is State.SUCCEEDED
    status = job.status()
    assert (status.state, status.stage) == (State.EXPIRED, Stage.INVERT)


def test_a_job_expires_without_a_worker_for_it_and_without_a_client_that_polls(
    client: Client, stack: LocalServices
) -> None:
    with pytest.warns(UserWarning, match="no live worker"):
        job = client.edit(PICTURE, **PEAR, profile="unserved", start_timeout=0.2)
    server = redis_of(stack, decode_responses=True)
    until(lambda: server.hget(f"diffedit:job:{job.id}", "outcome") == "expired", "maintenance ends the job")


def test_a_full_lane_refuses_jobs_until_another_has_started(client: Client, stack: LocalServices) -> None:
    narrow = client_of(stack, DIFFEDIT_MAX_QUEUED="1")
    with busy_worker(client):
        waiting = narrow.edit(PICTURE, **PEAR, **QUICK)
        jobs = len(client.jobs())
        with pytest.raises(QueueFull, match="1 jobs wait in the interactive lane"):
            narrow.edit(PICTURE, **PEAR, **QUICK)
        assert len(client.jobs()) == jobs
        narrow.edit(PICTURE, **PEAR, **QUICK, lane="batch")
    waiting.wait(timeout=60)
    assert narrow.edit(PICTURE, **PEAR, **QUICK).wait(timeout=60).state is State.SUCCEEDED


def test_twenty_clients_with_one_idempotency_key_make_one_job(client: Client, stack: LocalServices) -> None:
    key, jobs = uuid.uuid4().hex, len(client.jobs(limit=1000))
    clients = [client_of(stack) for _ in range(20)]
    for one in clients:
        one.health()  # now, because to start twenty boto3 clients takes seconds, and the worker is busy for some only
    with busy_worker(client), ThreadPoolExecutor(20) as pool:
        ids = set(pool.map(lambda one: one.edit(PICTURE, **PEAR, **QUICK, idempotency_key=key).id, clients))
        (job_id,) = ids
        messages = redis_of(stack).llen("diffedit.tiny.language")
        # On a slow machine, maintenance sends a message before the client has sent its own.
        sent_again = log_of(stack, "worker").count(f"job {job_id}: it waits without a message")
        assert messages == 1 + sent_again
    status = client.job(job_id).wait(timeout=60)
    assert set(status.attempts.values()) == {1}
    assert len(client.jobs(limit=1000)) == jobs + 2  # the job and the one that kept the worker busy
