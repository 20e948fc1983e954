"""A worker that runs several jobs at once. They share passes of the UNet, and the fate of their worker."""

import re
import signal
from collections.abc import Iterator

import pytest

from diffedit import JobFailed, JobHandle, JobStatus, Stage, State, WorkerInfo
from diffedit_worker.local.process_group import Process
from diffedit_worker.local.stack import LocalServices
from tests.support.factories import PEAR, PICTURE, slow
from tests.support.services import WorkerGroup, log_of
from tests.support.waiting import until, until_status

# Jobs are submitted before a worker starts, so that it takes all of them at once.
pytestmark = pytest.mark.filterwarnings("ignore::diffedit.NoWorkerWarning")

JOBS = 4


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServices]:
    with LocalServices(tmp_path_factory.mktemp("shared")) as stack:
        stack.environment |= {"DIFFEDIT_WORKER_TTL": "3", "DIFFEDIT_BATCH_JOBS": str(JOBS)}
        yield stack


def submitted(workers: WorkerGroup, count: int, **asked: object) -> list[JobHandle]:
    """Submit edits that have no artifact in common, so that none waits for another one."""
    return [
        workers.client.edit(PICTURE, **{**PEAR, **slow(), "num_inference_steps": 150, **asked}) for _ in range(count)
    ]


def in_stage(jobs: list[JobHandle], stage: Stage) -> None:
    """Wait until all jobs are in this stage at the same time, each with a step done."""

    def all_there() -> bool:
        statuses = [job.status() for job in jobs]
        return all(status.stage is stage and status.step > 0 for status in statuses)

    until(all_there, f"a step of {stage} of each job")


def name_of(workers: WorkerGroup, process: Process) -> str:
    (name,) = [name for name, each in workers.processes.items() if each is process]
    return name


def test_jobs_share_passes_and_are_all_announced(stack: LocalServices, workers: WorkerGroup) -> None:
    jobs = submitted(workers, JOBS)
    (process,) = workers.start()
    in_stage(jobs, Stage.INVERT)
    seen: list[WorkerInfo] = []

    def all_named() -> bool:
        seen[:] = workers.client.health().workers
        return len(seen[0].jobs) == JOBS

    until(all_named, "a heartbeat that names all jobs")
    (info,) = seen
    assert set(info.jobs) == {job.id for job in jobs}
    assert (info.job in info.jobs, info.batch_jobs) == (True, JOBS)
    for job in jobs:
        assert set(job.wait(timeout=120).attempts.values()) == {1}
        assert job.result().manifest["batch_jobs"] == JOBS
    calls, passes = re.findall(
        r"so far (\d+) calls of the UNet in (\d+) passes", log_of(stack, name_of(workers, process))
    )[-1]
    assert int(calls) / int(passes) > 2


def test_a_cancelled_job_leaves_the_others_alone(workers: WorkerGroup) -> None:
    jobs = submitted(workers, JOBS)
    workers.start()
    in_stage(jobs, Stage.INVERT)
    jobs[1].cancel()
    statuses = [job.wait(timeout=120) for job in jobs if job is not jobs[1]]
    assert all(set(status.attempts.values()) == {1} for status in statuses)
    assert jobs[1].status().state is State.CANCELLED


def test_a_worker_that_is_stopped_requeues_all_its_jobs_and_no_attempt_is_counted(workers: WorkerGroup) -> None:
    jobs = submitted(workers, JOBS)
    (stopped,) = workers.start()
    in_stage(jobs, Stage.INVERT)
    stopped.send_signal(signal.SIGTERM)
    until(lambda: stopped.poll() is not None, "the end of the worker, in the middle of its stages")
    assert all(job.status().stage is Stage.INVERT for job in jobs)
    workers.start()
    for job in jobs:
        assert set(job.wait(timeout=120).attempts.values()) == {1}


def test_the_jobs_of_a_killed_worker_run_alone_and_succeed(stack: LocalServices, workers: WorkerGroup) -> None:
    jobs = submitted(workers, JOBS)
    (killed,) = workers.start()
    in_stage(jobs, Stage.INVERT)
    workers.kill(killed)
    (process,) = workers.start()
    for job in jobs:
        assert job.wait(timeout=120).attempts == {Stage.EMBED: 1, Stage.MASK: 1, Stage.INVERT: 2, Stage.EDIT: 1}
    alone = re.findall(r"job (\w+): stage invert runs alone", log_of(stack, name_of(workers, process)))
    assert {job.id for job in jobs} <= set(alone)


@pytest.mark.timeout(300)
def test_a_job_that_kills_its_workers_does_not_fail_the_jobs_beside_it(workers: WorkerGroup) -> None:
    poison, *others = jobs = submitted(workers, JOBS)
    workers.start()
    in_stage(jobs, Stage.INVERT)
    for attempt in (1, 2, 3):

        def runs(status: JobStatus, attempt: int = attempt) -> bool:
            return status.stage is Stage.INVERT and status.attempts[Stage.INVERT] == attempt and status.step > 0

        until_status(poison, runs, "a step of the inversion")
        workers.kill(workers.process_of(poison))
        until(lambda: not workers.client.health().workers, "the end of the heartbeat")
        workers.start()
    with pytest.raises(JobFailed) as caught:
        poison.wait(timeout=120)
    assert (caught.value.error_code, caught.value.stage) == ("worker_lost", "invert")
    for job in others:
        assert job.wait(timeout=120).attempts[Stage.INVERT] <= 2


def test_a_stuck_stage_costs_the_jobs_beside_it_no_attempt(workers: WorkerGroup) -> None:
    # Any step of an inversion takes longer.
    (ended,) = workers.start(DIFFEDIT_STAGE_TIMEOUT="1800,invert=0.0001")
    innocent = workers.client.preview_mask(PICTURE, **PEAR, num_maps_per_mask=64, seed=11)
    until_status(innocent, lambda status: status.stage is Stage.MASK and status.step > 0, "a step of the mask")
    stuck = workers.client.edit(PICTURE, **PEAR, **slow(), inversion_guidance_scale=2.0)
    until(lambda: ended.poll() is not None, "the worker ends itself")
    assert innocent.status().stage is Stage.MASK
    workers.start()
    assert innocent.wait(timeout=120).attempts == {Stage.EMBED: 1, Stage.MASK: 1}
    assert stuck.wait(timeout=120).attempts[Stage.INVERT] == 2
