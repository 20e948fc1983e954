"""No job is lost when a worker or a service dies. Real workers are killed and stopped."""

import os
import signal
import threading
import time
import uuid
from collections.abc import Iterator

import pytest

from diffedit import BrokerUnavailable, Client, JobFailed, JobStatus, Stage, State
from diffedit.contract.job import Job
from diffedit.jobs.backend import redis_backend
from diffedit_worker.local.stack import LocalServices
from tests.support.factories import PEAR, PICTURE, QUICK, slow
from tests.support.proxies import Exchange, FaultProxy
from tests.support.services import WorkerGroup
from tests.support.waiting import until, until_status

QUEUES = ("diffedit.tiny.language", "diffedit.tiny.diffusion")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServices]:
    with LocalServices(tmp_path_factory.mktemp("recovery")) as stack:
        stack.environment |= {"DIFFEDIT_WORKER_TTL": "3"}
        yield stack


def test_another_worker_finishes_the_job_of_a_killed_worker(workers: WorkerGroup) -> None:
    workers.start(2)
    job = workers.job_in_stage(Stage.INVERT)
    workers.kill(workers.process_of(job))
    status = job.wait(timeout=60)
    assert status.attempts == {Stage.EMBED: 1, Stage.MASK: 1, Stage.INVERT: 2, Stage.EDIT: 1}


def test_a_worker_that_is_stopped_requeues_its_job_and_no_attempt_is_counted(workers: WorkerGroup) -> None:
    workers.start(2)
    job = workers.job_in_stage(Stage.INVERT)
    stopped = workers.process_of(job)
    stopped.send_signal(signal.SIGTERM)
    until(lambda: stopped.poll() is not None, "the end of the worker, in the middle of a stage")
    status = job.wait(timeout=60)
    assert set(status.attempts.values()) == {1}


def test_another_worker_finishes_the_job_of_a_frozen_worker_which_does_no_harm_when_it_continues(
    workers: WorkerGroup,
) -> None:
    workers.start(2)
    job = workers.job_in_stage(Stage.INVERT)
    frozen = workers.process_of(job)
    frozen.send_signal(signal.SIGSTOP)
    until_status(job, lambda status: status.attempts.get(Stage.INVERT) == 2, "another worker has started the stage")
    frozen.send_signal(signal.SIGCONT)
    status = job.wait(timeout=60)
    assert status.attempts[Stage.INVERT] == 2
    until(lambda: len(workers.client.health().workers) == 2, "the heartbeat of the worker that continues")
    assert workers.client.edit(PICTURE, **PEAR, **QUICK).wait(timeout=60).state is State.SUCCEEDED


def test_jobs_whose_messages_are_lost_succeed(workers: WorkerGroup) -> None:
    jobs = [workers.client.edit(PICTURE, **PEAR, **QUICK, seed=seed) for seed in range(3)]
    workers.redis.delete(*QUEUES)
    workers.start()
    for job in jobs:
        assert job.wait(timeout=60).state is State.SUCCEEDED


def test_a_job_whose_client_died_before_it_sent_the_message_succeeds(workers: WorkerGroup) -> None:
    workers.start()
    request = workers.client.edit(PICTURE, **PEAR, **QUICK).status().request
    job = Job(id=uuid.uuid4().hex, request=request)
    redis_backend(workers.settings).job_store.create_job(job)  # the client dies before it sends the message
    assert workers.client.job(job.id).wait(timeout=60).state is State.SUCCEEDED


def test_duplicate_messages_change_nothing(workers: WorkerGroup) -> None:
    job = workers.client.edit(PICTURE, **PEAR, **QUICK)
    wire = Job(id=job.id, request=job.status().request)
    for _ in range(4):
        redis_backend(workers.settings).job_store.send(wire)
    workers.start(2)
    status = job.wait(timeout=60)
    assert set(status.attempts.values()) == {1}
    until(lambda: not any(workers.redis.llen(queue) for queue in QUEUES), "the workers have dropped the duplicates")
    assert job.status() == status


def test_a_job_that_waits_long_in_a_queue_is_not_sent_again(workers: WorkerGroup) -> None:
    workers.start()
    blocker = workers.job_in_stage(Stage.INVERT)
    jobs = [workers.client.edit(PICTURE, **PEAR, **QUICK, seed=seed) for seed in range(20)]
    lengths = set()

    def last_stage_started() -> bool:
        lengths.add(workers.client._job_store.queue_lengths(QUEUES[:1])[QUEUES[0]])  # with those that are held back
        return workers.client.job(blocker.id).status().stage is Stage.EDIT

    until(last_stage_started, "the last stage of the job that runs")
    assert max(lengths) == 20  # maintenance has sent no message again
    blocker.cancel()
    statuses: list[JobStatus] = [job.wait(timeout=60) for job in jobs]
    assert all(set(status.attempts.values()) == {1} for status in statuses)


def test_a_job_that_kills_its_workers_fails_and_other_jobs_succeed(workers: WorkerGroup) -> None:
    workers.start()
    poison = workers.job_in_stage(Stage.INVERT)
    other = workers.client.edit(PICTURE, **PEAR, **QUICK)
    for attempt in (1, 2, 3):
        until_status(
            poison, lambda s, n=attempt: s.attempts.get(Stage.INVERT) == n and s.step > 0, "a step of the inversion"
        )
        workers.kill(workers.process_of(poison))
        until(lambda: not workers.client.health().workers, "the end of the heartbeat")
        workers.start()
    with pytest.raises(JobFailed) as caught:
        poison.wait(timeout=60)
    assert (caught.value.error_code, caught.value.stage) == ("worker_lost", "invert")
    assert other.wait(timeout=60).state is State.SUCCEEDED


def test_a_step_that_exceeds_the_timeout_ends_its_worker_and_finally_fails_the_job(
    stack: LocalServices, workers: WorkerGroup
) -> None:
    # Any step takes longer.
    limits = {"DIFFEDIT_STAGE_TIMEOUT": "1800,invert=0.0001", "DIFFEDIT_MAX_ATTEMPTS": "2"}
    # Guidance doubles the work of the 400 steps.
    job = workers.client.edit(PICTURE, **PEAR, **slow(), inversion_guidance_scale=2.0)
    for _ in (1, 2):
        (process,) = workers.start(**limits)
        until(lambda p=process: p.poll() is not None, "the worker ends itself")
        assert process.poll() == 1
        stack.stop(process)
    workers.start(**limits)
    with pytest.raises(JobFailed) as caught:
        job.wait(timeout=60)
    assert (caught.value.error_code, caught.value.stage) == ("timeout", "invert")


def test_a_restart_of_redis_interrupts_no_job_no_wait_and_no_running_stage(
    stack: LocalServices, workers: WorkerGroup
) -> None:
    workers.start()
    running = workers.job_in_stage(Stage.INVERT, num_inference_steps=200)
    waiting = workers.client.edit(PICTURE, **PEAR, **QUICK)
    workers.kill(stack.processes["valkey"])
    back = threading.Timer(4, stack.start_valkey)  # after the heartbeats of all workers have expired
    back.start()
    for job in (running, waiting):
        assert set(job.wait(timeout=90).attempts.values()) == {1}
    back.join()


def test_a_pause_of_redis_in_which_all_heartbeats_expire_interrupts_no_job(
    stack: LocalServices, workers: WorkerGroup
) -> None:
    workers.start(2)
    jobs = [workers.job_in_stage(Stage.INVERT) for _ in range(2)]
    stack.processes["valkey"].send_signal(signal.SIGSTOP)
    time.sleep(5)  # no command fails, so nobody sees an outage
    stack.processes["valkey"].send_signal(signal.SIGCONT)
    for job in jobs:
        assert set(job.wait(timeout=90).attempts.values()) == {1}


def test_an_edit_that_raised_runs_once_when_it_is_repeated_with_its_idempotency_key(
    stack: LocalServices, workers: WorkerGroup
) -> None:
    def send_without_redis(job: Job) -> None:
        workers.kill(stack.processes["valkey"])
        redis_backend(workers.settings).job_store.send(job)

    before = len(workers.client.jobs(limit=1000))
    asked = {**PEAR, **QUICK, "idempotency_key": uuid.uuid4().hex}
    with pytest.raises(BrokerUnavailable):
        Client(workers.settings, send=send_without_redis).edit(PICTURE, **asked)
    stack.start_valkey()
    stack.wait_ready()
    assert len(workers.client.jobs(limit=1000)) == before + 1  # the job is recorded, but no client knows its id
    workers.start()
    assert workers.client.edit(PICTURE, **asked).wait(timeout=60).state is State.SUCCEEDED
    assert len(workers.client.jobs(limit=1000)) == before + 1


def test_a_process_group_that_gets_sigterm_twice_requeues_its_job(workers: WorkerGroup) -> None:
    workers.start(2)
    job = workers.job_in_stage(Stage.INVERT, num_inference_steps=200)
    stopped = workers.process_of(job)
    for _ in range(2):
        os.killpg(stopped.pid, signal.SIGTERM)
        time.sleep(0.01)  # two signals at once would be delivered as one
    until(lambda: stopped.poll() is not None, "the end of the worker, in the middle of a stage")
    assert set(job.wait(timeout=60).attempts.values()) == {1}


def test_a_worker_that_is_killed_during_its_warm_shutdown_loses_no_job(
    stack: LocalServices, workers: WorkerGroup
) -> None:
    with FaultProxy(stack.environment["DIFFEDIT_S3_ENDPOINT_URL"]) as proxy:
        workers.start(DIFFEDIT_S3_ENDPOINT_URL=proxy.url)
        proxy.meets("GET", Exchange.is_slow, seconds=60)
        job = workers.client.edit(PICTURE, **PEAR, **QUICK)
        until(lambda: not proxy.pending, "a stage downloads the picture")
        stage, stuck = job.status().stage, workers.process_of(job)
        os.killpg(stuck.pid, signal.SIGTERM)
        until(lambda: workers.has_logged(stuck, "Warm shutdown"), "the start of the warm shutdown")
        os.killpg(stuck.pid, signal.SIGTERM)
        assert stage and job.status().stage is stage and stuck.poll() is None
        workers.kill(stuck)
        workers.start()
        status = job.wait(timeout=60)
    assert status.attempts == {**dict.fromkeys(status.stages, 1), stage: 2}


def test_a_job_that_is_cancelled_between_two_stages_starts_no_further_stage(workers: WorkerGroup) -> None:
    workers.start(queues=QUEUES[:1])
    job, other = (workers.client.edit(PICTURE, **PEAR, **QUICK, seed=seed, caption=uuid.uuid4().hex) for seed in (1, 2))
    for each in (job, other):
        until_status(each, lambda status: Stage.EMBED in status.timings, "the end of the first stage")
    assert job.cancel()
    workers.start(queues=QUEUES[1:])
    assert other.wait(timeout=60).state is State.SUCCEEDED
    assert (job.status().state, job.status().attempts) == (State.CANCELLED, {Stage.EMBED: 1})


def test_a_cancel_during_the_last_stage_returns_what_the_record_says(workers: WorkerGroup) -> None:
    workers.start()
    workers.client.edit(PICTURE, **PEAR, **QUICK).wait(timeout=60)
    jobs = [workers.client.edit(PICTURE, **PEAR, **QUICK, seed=seed) for seed in range(12)]
    answers = {}
    for job in jobs:
        until_status(job, lambda status: status.is_terminal or status.stage is Stage.EDIT, "the last stage")
        answers[job.id] = job.cancel()
    for job in jobs:
        state = job.status().state
        assert state is (State.CANCELLED if answers[job.id] else State.SUCCEEDED)
        assert (Stage.EDIT in job.status().timings) is not answers[job.id]
    # When this one has succeeded, the worker has seen the messages of all others.
    workers.client.edit(PICTURE, **PEAR, **QUICK, seed=99).wait(timeout=60)
    assert {job.id: job.status().state is State.CANCELLED for job in jobs} == answers
