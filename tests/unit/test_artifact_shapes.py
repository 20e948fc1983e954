"""Artifacts whose content nobody knows and which cannot be those of the job: they are deleted and made again.

Their files can be decoded, or are of types that this version does not read. What has a known content is in
test_contents.py.
"""

from itertools import product

import pytest
from PIL import Image

from diffedit.contract.job import Job, State
from diffedit.contract.object_keys import input_key
from diffedit.contract.stages import STAGE_OF, Artifact, Stage
from diffedit.pictures import encode_png
from tests.support.factories import a_job, a_request
from tests.support.inline_worker import QUICK, SAMPLE, InlineWorker
from tests.support.wrong_artifacts import WRONG

CASES = [(artifact, how) for artifact, changes in WRONG.items() for how in changes]


@pytest.fixture
def worker() -> InlineWorker:
    return InlineWorker()


@pytest.fixture(scope="module")
def edited() -> InlineWorker:
    """A worker that has made one edit with all stages. Each test puts its artifacts back."""
    worker = InlineWorker()
    worker.edit(source_prompt=None)
    return worker


def forget_contents(worker: InlineWorker, job_id: str) -> None:
    """Remove what is known about contents, as if a worker of 0.2.0 had made everything."""
    state = worker.job_store._state
    state.contents.clear()
    for name in [name for name in state.records[job_id] if name.startswith("content:")]:
        del state.records[job_id][name]


def test_there_is_a_wrong_value_for_each_artifact() -> None:
    assert set(WRONG) == set(STAGE_OF)


@pytest.mark.parametrize(("artifact", "how"), CASES)
def test_a_wrong_artifact_is_not_found_but_made_again(edited: InlineWorker, artifact: Artifact, how: str) -> None:
    (first,) = [status for status in edited.client.jobs(limit=1000) if status.created_artifacts == tuple(STAGE_OF)]
    key = first.artifact_keys[artifact]
    intact = edited.object_store.get(key)
    wrong = WRONG[artifact][how](intact)
    assert wrong != intact
    edited.object_store.put(key, wrong)
    forget_contents(edited, first.id)
    status = edited.edit(source_prompt=None).status()
    assert (status.state, status.created_artifacts) == (State.SUCCEEDED, (artifact,))
    assert edited.object_store.get(key) == intact


@pytest.mark.parametrize(("artifact", "how"), [case for case in CASES if case[0] is not Artifact.RESULT])
def test_an_artifact_that_is_wrong_when_a_stage_reads_it_is_made_again(
    worker: InlineWorker, artifact: Artifact, how: str
) -> None:
    reader = next(stage for stage in Stage if artifact in stage.needs)
    left, intact = iter([reader]), {}

    def before_stage(stage: Stage, job: Job) -> None:
        if stage is reader and next(left, None):
            key = worker.job_store.status(job.id).artifact_keys[artifact]
            intact[key] = worker.object_store.get(key)
            worker.object_store.put(key, WRONG[artifact][how](intact[key]))
            forget_contents(worker, job.id)

    worker.before_stage = before_stage
    status = worker.edit(source_prompt=None).status()
    assert (status.state, len(intact)) == (State.SUCCEEDED, 1)
    assert status.attempts[STAGE_OF[artifact]] == status.attempts[reader] == 2
    for key, data in intact.items():
        assert worker.object_store.get(key) == data


@pytest.mark.parametrize(
    ("size", "scheduler"), list(product([(64, 64), (40, 96), (200, 30), (17, 64)], ["ddim", "dpmsolver++"]))
)
def test_the_artifacts_of_pictures_of_any_shape_are_found_although_their_content_is_unknown(
    worker: InlineWorker, size: tuple[int, int], scheduler: str
) -> None:
    asked = {
        "image": Image.effect_noise(size, 90).convert("RGB"),
        "source_concept": "pear",
        "target_concept": "cherries",
        "num_prompts": 3,
        "profile": "tiny",
        "seed": 1,
        "num_inference_steps": 5,
        "strength": 0.58,
        "num_maps_per_mask": 1,
        "scheduler": scheduler,
    }
    first = worker.client.edit(**asked).status()
    assert first.state is State.SUCCEEDED
    forget_contents(worker, first.id)
    second = worker.client.edit(**asked).status()
    assert second.cache_hits == second.stages


def test_a_mask_of_the_user_with_another_size_is_the_users_fault(worker: InlineWorker) -> None:
    picture, mask = SAMPLE.read_bytes(), encode_png(Image.new("L", (64, 32), 255))
    keys = {"image": input_key(picture, "png"), "mask": input_key(mask, "png")}
    for key, data in zip(keys.values(), (picture, mask), strict=True):
        worker.object_store.put(key, data)
    job = a_job(a_request(QUICK, **keys))  # a client that checks less than ours
    worker.job_store.create_job(job)
    worker.send(job)
    error = worker.job_store.status(job.id).error
    assert error
    assert (error.stage, error.code) == (Stage.EDIT, "bad_picture")
    assert "64 x 32 pixels and the picture 64 x 64; use the same size" in error.message
    assert worker.object_store.exists(keys["mask"])
