"""Workers that let their stages end before they leave: on SIGTERM, and when an administrator asks. Real workers."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from diffedit import Stage, State
from diffedit_worker.local.process_group import Process
from diffedit_worker.local.stack import LocalServices
from tests.support.services import WorkerGroup, names_of_workers
from tests.support.waiting import until

DIFFUSION = "diffedit.tiny.diffusion"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServices]:
    with LocalServices(tmp_path_factory.mktemp("drain")) as stack:
        stack.environment |= {"DIFFEDIT_WORKER_TTL": "3"}
        yield stack


def state_of_worker(workers: WorkerGroup) -> list[str]:
    return [worker.state for worker in workers.client.admin.workers()]


def until_ended(process: Process) -> None:
    until(lambda: process.poll() is not None, "the end of the worker")
    assert process.poll() == 0


def messages(workers: WorkerGroup) -> int:
    return int(workers.redis.llen(DIFFUSION))


def test_with_drain_stage_a_worker_that_gets_sigterm_ends_its_stage_first(workers: WorkerGroup) -> None:
    (process,) = workers.start(DIFFEDIT_DRAIN="stage")
    job = workers.job_in_stage(Stage.INVERT)
    process.send_signal(signal.SIGTERM)
    until(lambda: state_of_worker(workers) == ["draining"], "the worker announces that it drains")
    assert job.status().stage is Stage.INVERT
    assert not workers.client.health().ok  # it takes no jobs
    until_ended(process)
    status = job.status()
    assert (status.state, status.attempts) == (State.RUNNING, {Stage.EMBED: 1, Stage.MASK: 1, Stage.INVERT: 1})
    assert Stage.INVERT in status.timings  # the stage is done, and the next one is left to others
    assert messages(workers) == 1 and names_of_workers(workers.client) == set()


def test_a_second_sigterm_stops_the_stage_at_its_next_step(workers: WorkerGroup) -> None:
    (process,) = workers.start(DIFFEDIT_DRAIN="stage")
    job = workers.job_in_stage(Stage.INVERT)
    process.send_signal(signal.SIGTERM)
    until(lambda: state_of_worker(workers) == ["draining"], "the worker announces that it drains")
    process.send_signal(signal.SIGTERM)
    until_ended(process)
    status = job.status()
    assert status.attempts == {Stage.EMBED: 1, Stage.MASK: 1, Stage.INVERT: 0}
    assert Stage.INVERT not in status.timings


def test_a_worker_that_is_drained_ends_and_a_new_one_of_its_name_takes_jobs(
    stack: LocalServices, workers: WorkerGroup
) -> None:
    workers.processes["gpu-3"] = process = stack.start_worker("gpu-3")
    until(lambda: names_of_workers(workers.client) == {"gpu-3"}, "the heartbeat of the worker")
    job = workers.job_in_stage(Stage.INVERT)
    command = [sys.executable, "-c", "from diffedit.cli import app; app()", "admin", "drain", "gpu-3"]
    environment = {**os.environ, **stack.environment}
    drained = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert drained.stdout.startswith("gpu-3@") and drained.stdout.endswith("drained\n")
    until_ended(process)
    status = job.status()  # the command takes a while to start, so the next stage may have begun before
    assert set(status.attempts.values()) == {1} and status.stage in status.timings
    assert not workers.has_logged(process, "Traceback")
    workers.processes["gpu-3"] = stack.start_worker("gpu-3")
    assert job.wait(timeout=60).attempts == dict.fromkeys((Stage.EMBED, Stage.MASK, Stage.INVERT, Stage.EDIT), 1)
    until(lambda: state_of_worker(workers) in (["idle"], ["busy"]), "the heartbeat of the new worker")


def test_a_job_that_failed_succeeds_under_its_id_and_finds_what_was_made(workers: WorkerGroup) -> None:
    workers.start()
    job = workers.job_in_stage(Stage.INVERT, num_inference_steps=200)
    store = workers.client._job_store
    store.end_job(job.id, State.FAILED)
    (changed,) = workers.client.admin.retry(state="failed", since="1h")
    assert changed.done
    status = job.wait(timeout=60)
    assert status.id == job.id and status.attempts[Stage.EDIT] == 1
    assert {Stage.EMBED, Stage.MASK} <= set(status.cache_hits)
    assert job.result().image.size == (64, 64)
