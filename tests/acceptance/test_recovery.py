"""Nothing is lost: whatever dies, every job comes to its end. Real workers, killed and stopped for real."""

import os
import signal
import threading
import time
import uuid
from collections.abc import Iterator

import pytest
import redis

from diffedit import BrokerUnavailable, Client, JobFailed, JobHandle, JobStatus, Settings, Stage, State
from diffedit.contract.job import Job
from diffedit.jobs.backend import redis_backend
from diffedit.jobs.dispatch import celery_app, send
from diffedit_worker.local.process_group import Process
from diffedit_worker.local.stack import Stack
from tests.acceptance.conftest import PEAR, QUICK, SAMPLES, slow, until, until_status
from tests.support.proxies import Exchange, FaultProxy

PICTURE = SAMPLES / "06.png"
QUEUES = ("diffedit.tiny.language", "diffedit.tiny.diffusion")
IMPATIENT = {"DIFFEDIT_WORKER_TTL": "3"}


class Crew:
    """Workers that may be killed, and are replaced as a supervisor would."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.client = Client(Settings.from_env(stack.environment))
        self.settings = Settings.from_env(stack.environment)
        self.server = redis.Redis.from_url(stack.environment["DIFFEDIT_REDIS_URL"], decode_responses=True)
        self.processes: dict[str, Process] = {}

    def hire(self, count: int = 1, queues: tuple[str, ...] = (), **environment: str) -> None:
        names = {f"w{uuid.uuid4().hex[:6]}" for _ in range(count)}
        usual = self.stack.environment
        self.stack.environment = usual | environment
        self.processes |= {name: self.stack.start_worker(name, queues) for name in names}
        self.stack.environment = usual
        until(lambda: names <= {each.name.partition("@")[0] for each in self.client.health().workers}, "the workers")

    def of(self, job: JobHandle) -> Process:
        """The process that works on this job."""
        holder = job.status().worker
        (name,) = [worker.name for worker in self.client.health().workers if worker.id == holder]
        return self.processes[name.partition("@")[0]]

    def kill(self, process: Process, number: int = signal.SIGKILL) -> None:
        os.kill(process.pid, number)
        if number == signal.SIGKILL:
            self.stack.stop(process)

    def says(self, process: Process, words: str) -> bool:
        (name,) = [name for name, each in self.processes.items() if each is process]
        return words in (self.stack.directory / f"logs/{name}.log").read_text()

    def in_mid(self, stage: Stage, **asked: object) -> JobHandle:
        """A job in the middle of this stage, in the hands of a worker that says so."""
        job = self.client.edit(PICTURE, **{**PEAR, **slow(), **asked})
        until_status(job, lambda status: status.stage is stage and status.step > 0, f"{stage} began")
        return job


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("recovery")) as stack:
        stack.environment |= IMPATIENT
        yield stack


@pytest.fixture
def crew(stack: Stack) -> Iterator[Crew]:
    crew = Crew(stack)
    yield crew
    for status in crew.client.jobs(limit=1000):
        if not status.is_terminal:
            crew.client.job(status.id).cancel()
    for process in crew.processes.values():
        stack.stop(process)


def test_a_killed_workers_job_goes_on_with_another(crew: Crew) -> None:
    crew.hire(2)
    job = crew.in_mid(Stage.INVERT)
    crew.kill(crew.of(job))
    status = job.wait(timeout=60)
    assert status.attempts == {Stage.EMBED: 1, Stage.MASK: 1, Stage.INVERT: 2, Stage.EDIT: 1}


def test_a_worker_that_leaves_hands_its_job_on_at_once_and_costs_no_attempt(crew: Crew) -> None:
    crew.hire(2)
    job = crew.in_mid(Stage.INVERT)
    leaver = crew.of(job)
    crew.kill(leaver, signal.SIGTERM)
    until(lambda: leaver.poll() is not None, "it is gone, in mid-stage")
    status = job.wait(timeout=60)
    assert set(status.attempts.values()) == {1}


def test_the_job_of_a_frozen_worker_goes_on_and_it_does_no_harm_when_it_thaws(crew: Crew) -> None:
    crew.hire(2)
    job = crew.in_mid(Stage.INVERT)
    frozen = crew.of(job)
    crew.kill(frozen, signal.SIGSTOP)
    until_status(job, lambda status: status.attempts.get(Stage.INVERT) == 2, "another worker took it")
    crew.kill(frozen, signal.SIGCONT)
    status = job.wait(timeout=60)
    assert status.attempts[Stage.INVERT] == 2
    until(lambda: len(crew.client.health().workers) == 2, "it is back")
    assert crew.client.edit(PICTURE, **PEAR, **QUICK).wait(timeout=60).state is State.SUCCEEDED


def test_jobs_whose_messages_vanish_are_done_all_the_same(crew: Crew) -> None:
    jobs = [crew.client.edit(PICTURE, **PEAR, **QUICK, seed=seed) for seed in range(3)]
    crew.server.delete(*QUEUES)
    crew.hire()
    for job in jobs:
        assert job.wait(timeout=60).state is State.SUCCEEDED


def test_a_job_that_was_never_sent_is_done(crew: Crew) -> None:
    crew.hire()
    request = crew.client.edit(PICTURE, **PEAR, **QUICK).status().request
    job = Job(id=uuid.uuid4().hex, request=request)
    redis_backend(crew.settings).job_store.create_job(job)  # and here the client dies
    assert crew.client.job(job.id).wait(timeout=60).state is State.SUCCEEDED


def test_messages_that_come_twice_change_nothing(crew: Crew) -> None:
    job = crew.client.edit(PICTURE, **PEAR, **QUICK)
    wire = Job(id=job.id, request=job.status().request)
    for _ in range(4):
        send(celery_app(crew.settings), wire)
    crew.hire(2)
    status = job.wait(timeout=60)
    assert set(status.attempts.values()) == {1}
    until(lambda: not any(crew.server.llen(queue) for queue in QUEUES), "the others are dropped")
    assert job.status() == status


def test_a_long_queue_is_not_taken_for_a_loss(crew: Crew) -> None:
    crew.hire()
    blocker = crew.in_mid(Stage.INVERT)
    jobs = [crew.client.edit(PICTURE, **PEAR, **QUICK, seed=seed) for seed in range(20)]
    lengths = set()

    def watched() -> bool:
        lengths.add(crew.server.llen(QUEUES[0]))
        return crew.client.job(blocker.id).status().stage is Stage.EDIT

    until(watched, "the queue has waited for longer than a message may be missing")
    assert max(lengths) == 20  # nothing was sent again
    blocker.cancel()
    statuses: list[JobStatus] = [job.wait(timeout=60) for job in jobs]
    assert all(set(status.attempts.values()) == {1} for status in statuses)


def test_a_job_that_kills_its_workers_fails_and_the_others_go_on(crew: Crew) -> None:
    crew.hire()
    poison = crew.in_mid(Stage.INVERT)
    other = crew.client.edit(PICTURE, **PEAR, **QUICK)
    for attempt in (1, 2, 3):
        until_status(poison, lambda s, n=attempt: s.attempts.get(Stage.INVERT) == n and s.step > 0, "it began")
        crew.kill(crew.of(poison))
        until(lambda: not crew.client.health().workers, "it counts as dead")
        crew.hire()
    with pytest.raises(JobFailed) as caught:
        poison.wait(timeout=60)
    assert (caught.value.failure, caught.value.stage) == ("worker_lost", "invert")
    assert other.wait(timeout=60).state is State.SUCCEEDED


def test_a_stage_that_hangs_ends_its_worker_and_at_last_the_job(stack: Stack, crew: Crew) -> None:
    stack.environment |= {"DIFFEDIT_STAGE_TIMEOUT": "4", "DIFFEDIT_MAX_ATTEMPTS": "2"}
    try:
        # Guidance doubles the work of the 400 steps.
        job = crew.client.edit(PICTURE, **PEAR, **slow(), inversion_guidance_scale=2.0)
        for _ in (1, 2):
            crew.hire()
            (process,) = [process for process in crew.processes.values() if process.poll() is None]
            until(lambda p=process: p.poll() is not None, "the worker ended itself")
            assert process.poll() == 1
            stack.stop(process)
        crew.hire()
        with pytest.raises(JobFailed) as caught:
            job.wait(timeout=60)
        assert (caught.value.failure, caught.value.stage) == ("timeout", "invert")
    finally:
        for name in ("DIFFEDIT_STAGE_TIMEOUT", "DIFFEDIT_MAX_ATTEMPTS"):
            del stack.environment[name]


def test_a_server_that_restarts_loses_no_job_no_wait_and_nothing_of_a_running_stage(stack: Stack, crew: Crew) -> None:
    crew.hire()
    running = crew.in_mid(Stage.INVERT, num_inference_steps=200)
    waiting = crew.client.edit(PICTURE, **PEAR, **QUICK)
    crew.kill(stack.processes["valkey"])
    back = threading.Timer(4, stack.start_valkey)  # when every worker's sign of life has run out
    back.start()
    for job in (running, waiting):
        assert set(job.wait(timeout=90).attempts.values()) == {1}
    back.join()


def test_an_edit_that_raised_is_done_once_when_it_is_asked_again(stack: Stack, crew: Crew) -> None:
    def too_late(job: Job) -> None:
        crew.kill(stack.processes["valkey"])
        send(celery_app(crew.settings), job)

    before = len(crew.client.jobs(limit=1000))
    asked = {**PEAR, **QUICK, "idempotency_key": uuid.uuid4().hex}
    with pytest.raises(BrokerUnavailable):
        Client(crew.settings, send=too_late).edit(PICTURE, **asked)
    stack.start_valkey()
    stack.wait_ready()
    assert len(crew.client.jobs(limit=1000)) == before + 1  # it is recorded, and nobody knows it
    crew.hire()
    assert crew.client.edit(PICTURE, **asked).wait(timeout=60).state is State.SUCCEEDED
    assert len(crew.client.jobs(limit=1000)) == before + 1


def test_a_whole_group_that_is_told_twice_to_leave_hands_its_job_on(crew: Crew) -> None:
    crew.hire(2)
    job = crew.in_mid(Stage.INVERT, num_inference_steps=200)
    leaver = crew.of(job)
    for _ in range(2):
        os.killpg(leaver.pid, signal.SIGTERM)
        time.sleep(0.01)  # or the two would be one
    until(lambda: leaver.poll() is not None, "it is gone, in mid-stage")
    assert set(job.wait(timeout=60).attempts.values()) == {1}


def test_a_worker_that_is_killed_while_it_tries_to_leave_loses_nothing(stack: Stack, crew: Crew) -> None:
    with FaultProxy(stack.environment["DIFFEDIT_S3_ENDPOINT_URL"]) as proxy:
        proxy.meets("GET", Exchange.is_slow, seconds=60)
        crew.hire(DIFFEDIT_S3_ENDPOINT_URL=proxy.url)
        job = crew.client.edit(PICTURE, **PEAR, **QUICK)
        until(lambda: not proxy.pending, "the mask's stage waits for the picture")
        stuck = crew.of(job)
        os.killpg(stuck.pid, signal.SIGTERM)
        until(lambda: crew.says(stuck, "Warm shutdown"), "it tries to leave")
        os.killpg(stuck.pid, signal.SIGTERM)
        crew.hire()
        assert job.status().stage is Stage.MASK and stuck.poll() is None
        crew.kill(stuck)
        status = job.wait(timeout=60)
    assert status.attempts == {Stage.EMBED: 1, Stage.MASK: 2, Stage.INVERT: 1, Stage.EDIT: 1}


def test_a_job_cancelled_between_two_stages_goes_no_further(crew: Crew) -> None:
    crew.hire(queues=QUEUES[:1])
    job, other = (crew.client.edit(PICTURE, **PEAR, **QUICK, seed=seed, caption=uuid.uuid4().hex) for seed in (1, 2))
    for each in (job, other):
        until_status(each, lambda status: Stage.EMBED in status.timings, "it waits for its next stage")
    assert job.cancel()
    crew.hire(queues=QUEUES[1:])
    assert other.wait(timeout=60).state is State.SUCCEEDED
    assert (job.status().state, job.status().attempts) == (State.CANCELLED, {Stage.EMBED: 1})


def test_a_cancel_that_races_the_finish_agrees_with_the_record(crew: Crew) -> None:
    crew.hire()
    crew.client.edit(PICTURE, **PEAR, **QUICK).wait(timeout=60)
    jobs = [crew.client.edit(PICTURE, **PEAR, **QUICK, seed=seed) for seed in range(12)]
    answers = {}
    for job in jobs:
        until_status(job, lambda status: status.is_terminal or status.stage is Stage.EDIT, "it is about to end")
        answers[job.id] = job.cancel()
    for job in jobs:
        state = job.status().state
        assert state is (State.CANCELLED if answers[job.id] else State.SUCCEEDED)
        assert (Stage.EDIT in job.status().timings) is not answers[job.id]
    # The worker is past all of their messages.
    crew.client.edit(PICTURE, **PEAR, **QUICK, seed=99).wait(timeout=60)
    assert {job.id: job.status().state is State.CANCELLED for job in jobs} == answers
