"""A runner that runs several stages at once, over the memory doubles and the bundled model."""

from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import pytest
import torch

from diffedit import Client, JobHandle, Settings, State
from diffedit.contract.job import Job
from diffedit.contract.stages import Artifact, Lane, Stage
from diffedit_worker.diffusion import batching, diffedit
from diffedit_worker.models.loading import Models
from diffedit_worker.models.profiles import load_profiles
from tests.support.inline_worker import QUICK, SAMPLE, TEXTS, InlineWorker
from tests.support.waiting import until

FOREVER = 60.0


@cache
def shared_tiny(profile: str) -> Models:
    """Return models that three jobs share, the same ones for all tests of a process."""
    return Models(load_profiles(None)[profile], device="cpu", batch_jobs=3)


@pytest.fixture
def worker() -> InlineWorker:
    worker = InlineWorker()
    worker.models_of = shared_tiny
    worker.restart(side_by_side=True)
    return worker


def run_at_once(worker: InlineWorker, jobs: list[Job]) -> None:
    with ThreadPoolExecutor(len(jobs)) as pool:
        for future in [pool.submit(worker.send, job) for job in jobs]:
            future.result(FOREVER)


def submitted(worker: InlineWorker, count: int, **asked: object) -> tuple[list[JobHandle], list[Job]]:
    """Submit jobs that have no artifact in common, and return them with what their messages name."""
    sent: list[Job] = []
    client = Client(Settings(), backend=worker.backend, object_store=worker.object_store, send=sent.append)
    asked = {**TEXTS, **QUICK, "num_inference_steps": 12, **asked}
    own = [{"caption": f"pear {number}", "target_prompt": f"{number} cherries on a table"} for number in range(count)]
    return [client.edit(SAMPLE, **{**asked, **each}) for each in own], sent


def test_jobs_share_passes_and_their_results_are_those_of_jobs_that_run_alone(worker: InlineWorker) -> None:
    jobs, sent = submitted(worker, 3, num_maps_per_mask=6)
    alone = InlineWorker()
    expected, alone_sent = submitted(alone, 3, num_maps_per_mask=6)
    before = shared_tiny("tiny").denoiser.counts
    run_at_once(worker, sent)
    for job in alone_sent:
        alone.send(job)
    after = shared_tiny("tiny").pass_counts
    assert after.shared > before.shared
    for job, same in zip(jobs, expected, strict=True):
        ours, theirs = job.result(timeout=1), same.result(timeout=1)
        difference = np.abs(np.asarray(ours.image, int) - np.asarray(theirs.image, int))
        assert difference.max() <= 1
        assert ours.mask.tobytes() == theirs.mask.tobytes()
        assert (ours.manifest["batch_jobs"], theirs.manifest["batch_jobs"]) == (3, 1)
        assert job.status().artifact_keys == same.status().artifact_keys


def test_a_job_without_neighbours_has_the_same_result_to_the_last_bit(worker: InlineWorker) -> None:
    (job,), sent = submitted(worker, 1)
    alone = InlineWorker()
    (same,), alone_sent = submitted(alone, 1)
    worker.send(sent[0])
    alone.send(alone_sent[0])
    assert job.result(timeout=1).image.tobytes() == same.result(timeout=1).image.tobytes()
    assert job.status().contents[Artifact.TRAJECTORY] == same.status().contents[Artifact.TRAJECTORY]


def test_a_cancelled_job_leaves_the_others_alone(worker: InlineWorker) -> None:
    jobs, sent = submitted(worker, 3)
    worker.before_report(lambda job_id, step: job_id == jobs[0].id and step == 2 and jobs[0].cancel())
    run_at_once(worker, sent)
    assert [job.status().state for job in jobs] == [State.CANCELLED, State.SUCCEEDED, State.SUCCEEDED]


def test_the_calls_of_a_batch_job_yield(worker: InlineWorker, monkeypatch) -> None:
    seen, difference_map = {}, diffedit.difference_map

    def noted(*args, **kwargs):
        seen[lane] = batching._yields.get()
        return difference_map(*args, **kwargs)

    monkeypatch.setattr(diffedit, "difference_map", noted)
    for lane in Lane:
        _, (job,) = submitted(worker, 1, lane=lane, seed=len(seen))
        worker.send(job)
    assert seen == {Lane.INTERACTIVE: False, Lane.BATCH: True}


def test_a_stage_whose_last_attempt_was_lost_runs_alone(worker: InlineWorker) -> None:
    (job,), (sent,) = submitted(worker, 1)
    worker.job_store.start_stage(job.id, Stage.EMBED, "a worker that died")
    worker.job_store.requeue(sent)
    alone = {}
    worker.before_report(
        lambda job_id, step: alone.update({worker.stage_of(job_id): worker.runner.running_stages[0].alone})
    )
    worker.send(sent)
    assert job.status().attempts == {Stage.EMBED: 2, Stage.MASK: 1, Stage.INVERT: 1, Stage.EDIT: 1}
    assert alone == {Stage.EMBED: True, Stage.MASK: False, Stage.INVERT: False, Stage.EDIT: False}


def test_a_stage_that_waits_to_run_alone_has_not_started_and_returns_to_its_queue_when_the_worker_stops(
    worker: InlineWorker,
) -> None:
    returned: list[Job] = []
    worker.restart(side_by_side=True, context={"enqueue": returned.append})
    (job,), (sent,) = submitted(worker, 1)
    worker.job_store.start_stage(job.id, Stage.EMBED, "a worker that died")
    worker.job_store.requeue(sent)
    with ThreadPoolExecutor(1) as pool, worker.runner._gate.beside_others(lambda: None):
        future = pool.submit(worker.runner.run, Stage.EMBED, job.id)
        until(lambda: worker.runner.running_stages, "the stage has come")
        (stage,) = worker.runner.running_stages
        came_at = stage.last_step_at
        until(lambda: stage.last_step_at > came_at, "waiting does not count as hanging")
        assert job.status().attempts == {Stage.EMBED: 1}
        worker.shutting_down = True
        assert future.result(FOREVER) is None
    assert [each.id for each in returned] == [job.id]
    assert job.status().attempts == {Stage.EMBED: 1}


@pytest.mark.parametrize("failures", [1, 2])
def test_a_stage_that_runs_out_of_memory_is_tried_again_alone(worker: InlineWorker, monkeypatch, failures: int) -> None:
    alone, difference_map = [], diffedit.difference_map

    def without_memory(*args, **kwargs):
        alone.append(worker.runner._gate._alone)
        if len(alone) <= failures:
            raise torch.OutOfMemoryError
        return difference_map(*args, **kwargs)

    monkeypatch.setattr(diffedit, "difference_map", without_memory)
    own = Models(load_profiles(None)["tiny"], device="cpu", batch_jobs=2)
    worker.models_of = lambda name: own
    worker.restart(side_by_side=True)
    (job,), (sent,) = submitted(worker, 1)
    worker.send(sent)
    assert alone == [False, True]
    assert own.max_batch == 4
    assert job.status().state is (State.SUCCEEDED if failures == 1 else State.RUNNING)
    assert not worker.runner._gate._alone and worker.runner._gate._side_by_side == 0
