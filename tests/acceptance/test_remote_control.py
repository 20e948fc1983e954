"""What an operator tells a running worker: the signals and remote commands of Celery. No job is lost."""

import signal
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery

from diffedit import Settings, Stage, State
from diffedit.contract.stages import queue_names
from diffedit.jobs.dispatch import celery_app
from diffedit_worker.local.process_group import Process
from diffedit_worker.local.stack import LocalServices
from tests.support.factories import PEAR, PICTURE, QUICK
from tests.support.services import WorkerGroup, names_of_workers
from tests.support.waiting import until, until_status

DIFFUSION = "diffedit.tiny.diffusion"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServices]:
    with LocalServices(tmp_path_factory.mktemp("control")) as stack:
        # So long that no job is rescued and no worker counts as dead during a test.
        stack.environment |= {"DIFFEDIT_WORKER_TTL": "600"}
        yield stack


@pytest.fixture
def app(stack: LocalServices) -> Celery:
    return celery_app(Settings.from_env(stack.environment))


def command(app: Celery, name: str, **arguments: Any) -> dict[str, Any]:
    """Send a remote command to the only worker, and return its answer."""
    (answers,) = app.control.broadcast(name, arguments=arguments, reply=True, timeout=10, limit=1)
    (answer,) = answers.values()
    return answer


def running_task(app: Celery) -> str:
    (tasks,) = app.control.inspect(timeout=10, limit=1).active().values()
    return str(tasks[0]["id"])


def shut_down(app: Celery, process: Process) -> None:
    app.control.broadcast("shutdown")


def send(which: signal.Signals) -> Any:
    return lambda app, process: process.send_signal(which)


@pytest.mark.parametrize(
    ("module", "leave", "exit_status"),
    [
        (None, shut_down, 0),
        ("diffedit_worker.app", shut_down, 0),
        (None, send(signal.SIGTERM), 0),
        (None, send(signal.SIGQUIT), 0),
        (None, send(signal.SIGINT), 1),
    ],
    ids=["shutdown", "shutdown of celery worker", "SIGTERM", "SIGQUIT", "SIGINT"],
)
def test_a_worker_that_leaves_stops_its_stage_returns_its_job_and_unregisters(
    stack: LocalServices, workers: WorkerGroup, app: Celery, module: str | None, leave: Any, exit_status: int
) -> None:
    process = stack.start_worker("leaving", app=module)
    workers.processes["leaving"] = process
    until(lambda: names_of_workers(workers.client) == {"leaving"}, "the heartbeat of the worker")
    job = workers.job_in_stage(Stage.INVERT)

    leave(app, process)

    until(lambda: process.poll() is not None, "the end of the worker")
    assert process.poll() == exit_status
    status = job.status()
    assert Stage.INVERT not in status.timings  # the stage was not completed, and its attempt does not count
    assert status.attempts == {Stage.EMBED: 1, Stage.MASK: 1, Stage.INVERT: 0}
    assert workers.redis.llen(DIFFUSION) == 1
    assert names_of_workers(workers.client) == set()
    assert not workers.has_logged(process, "Traceback")


HARMLESS: dict[str, dict[str, Any]] = {
    "add_consumer": {"queue": DIFFUSION},
    "pool_shrink": {"n": 1},
    "pool_grow": {"n": 1},
    "pool_restart": {},
    "autoscale": {"max": 3, "min": 1},
    "rate_limit": {"task_name": "diffedit.edit", "rate_limit": "1/h"},
    "time_limit": {"task_name": "diffedit.edit", "soft": 0.001, "hard": 0.002},
    "no_such_command": {},
}
"""Commands and their arguments."""


def test_remote_commands_harm_neither_the_worker_nor_its_jobs(workers: WorkerGroup, app: Celery) -> None:
    """Every command reaches the same stage of one job: whichever stops it shows in the job's attempts."""
    (process,) = workers.start()
    job = workers.job_in_stage(Stage.INVERT, inversion_guidance_scale=2.0)  # longer than all commands

    for name, arguments in HARMLESS.items():
        assert command(app, name, **arguments).keys() <= {"ok", "error"}, name
        assert process.poll() is None, name
    task = running_task(app)
    command(app, "revoke", task_id=task)
    command(app, "revoke", task_id=task, terminate=True, signal="KILL")
    assert job.status().stage is Stage.INVERT

    others = [workers.client.edit(PICTURE, **PEAR, **QUICK, seed=seed) for seed in range(2)]
    for each in (job, *others):
        status = each.wait(timeout=100)
        assert (status.state, set(status.attempts.values())) == (State.SUCCEEDED, {1})
    assert process.poll() is None


def test_a_worker_can_be_told_to_read_no_queue_and_to_read_it_again(workers: WorkerGroup, app: Celery) -> None:
    (process,) = workers.start()
    job = workers.job_in_stage(Stage.INVERT)

    for queue in queue_names("tiny"):
        command(app, "cancel_consumer", queue=queue)
    until_status(job, lambda status: Stage.INVERT in status.timings, "the end of the running stage")
    until(lambda: workers.redis.llen(DIFFUSION) == 1, "the message of the next stage")
    assert app.control.inspect(timeout=10, limit=1).active_queues().popitem()[1] == []
    assert process.poll() is None

    command(app, "add_consumer", queue=DIFFUSION)
    assert set(job.wait(timeout=60).attempts.values()) == {1}
