"""The runner over the memory doubles and the bundled model: one stage at a time, as the queue would hand them on."""

import json
import uuid
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from api_client import Client, EditParams, EditRequest, Settings, WorkerInfo
from api_client.contract import Job, Slot, Stage, State
from api_client.errors import JobFailed
from api_client.testing import MemoryBoard, MemoryStore
from tests.requests import a_request
from worker import diffedit
from worker.models import Models
from worker.profiles import ModelSource, load_profiles
from worker.runner import Runner, manifest_key

SAMPLE = Path(__file__).parents[2] / "worker/tiny/samples/06.png"
TEXTS = {
    "source_prompt": "a photograph of a pear on a green table",
    "target_prompt": "a photograph of some cherries on a green table",
}
QUICK = {"num_inference_steps": 3, "num_maps_per_mask": 1, "seed": 7, "model": "tiny"}


@cache
def tiny(name: str) -> Models:
    return Models(load_profiles(None)[name], device="cpu")


class Rig:
    """A client whose jobs run in this thread, at the moment of submission."""

    def __init__(self) -> None:
        self.board, self.store = MemoryBoard(), MemoryStore()
        queues = ("diffedit.tiny.language", "diffedit.tiny.diffusion")
        self.board.announce(WorkerInfo(name="rig", profile="tiny", device="cpu", queues=queues))
        self.runner = Runner(self.board, self.store, tiny)
        self.before: Callable[[Stage, Job], object] = lambda stage, job: None
        self.client = Client(Settings(), board=self.board, store=self.store, send=self.send)

    def send(self, job: Job) -> None:
        handed: Job | None = job
        for stage in job.request.stages:
            self.before(stage, job)
            handed = handed and self.runner.run(stage, handed)

    def edit(self, **asked):
        return self.client.edit(SAMPLE, **{**TEXTS, **QUICK, **asked})


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.fixture(scope="module")
def edited() -> Rig:
    """One edit is done already; each test that uses this changes another knob."""
    rig = Rig()
    rig.edit()
    return rig


def test_a_job_runs_through_and_says_how_it_was_made(rig: Rig) -> None:
    job = rig.edit()
    status = job.status()
    assert status.state is State.SUCCEEDED
    assert status.progress == 1
    assert set(status.timings) == set(status.stages) == {Stage.EMBED, Stage.MASK, Stage.INVERT, Stage.EDIT}
    result = job.result(timeout=1)
    assert result.image.size == result.mask.size == result.original.size
    assert result.manifest["request"] == status.request.model_dump(mode="json")
    assert result.manifest["texts"]["prompts"]["target"] == [TEXTS["target_prompt"]]
    assert rig.store.exists(manifest_key(status.refs[Slot.RESULT]))


def test_the_result_can_be_made_again_from_its_manifest(rig: Rig) -> None:
    first = rig.edit().result(timeout=1)
    again = Rig()
    request = EditRequest.model_validate(first.manifest["request"])
    asked = {name: value for name, value in request.model_dump().items() if name not in ("image", "goal", "params")}
    second = again.client.edit(SAMPLE, **asked, **request.params.model_dump()).result(timeout=1)
    assert second.image.tobytes() == first.image.tobytes()
    assert second.status.refs == first.status.refs


def test_the_same_job_again_finds_everything_done(rig: Rig) -> None:
    rig.edit()
    status = rig.edit().status()
    assert status.cache_hits == status.stages


def test_another_target_shares_the_inversion_and_a_negative_prompt_leaves_it(rig: Rig) -> None:
    rig.edit()
    other = rig.edit(target_prompt="a photograph of a ball on a green table").status()
    assert other.cache_hits == (Stage.INVERT,)
    negative = rig.edit(negative_prompt="a photograph of a dog on a green table").status()
    assert negative.cache_hits == (Stage.INVERT,)


@pytest.mark.parametrize(
    ("change", "made_again"),
    [
        ({"seed": 8}, {Stage.MASK, Stage.EDIT}),
        ({"num_maps_per_mask": 2}, {Stage.MASK, Stage.EDIT}),
        ({"mask_thresholding_ratio": 2.5}, {Stage.MASK, Stage.EDIT}),
        ({"mask_cleanup": False}, {Stage.MASK, Stage.EDIT}),
        ({"strength": 0.5}, {Stage.INVERT, Stage.EDIT}),
        ({"inversion_guidance_scale": 2.0}, {Stage.INVERT, Stage.EDIT}),
        ({"guidance_scale": 3.0}, {Stage.EDIT}),
        ({"num_inference_steps": 4}, {Stage.MASK, Stage.INVERT, Stage.EDIT}),
        ({"caption": "a pear"}, {Stage.EMBED, Stage.INVERT, Stage.EDIT}),
    ],
)
def test_a_changed_knob_remakes_what_depends_on_it_and_no_more(edited: Rig, change: dict, made_again: set) -> None:
    status = edited.edit(**change).status()
    assert set(status.stages) - set(status.cache_hits) == made_again


def test_a_mask_preview_stops_at_the_mask_and_the_edit_goes_on_from_it(rig: Rig) -> None:
    preview = rig.client.preview_mask(SAMPLE, **TEXTS, **QUICK)
    status = preview.status()
    assert status.stages == (Stage.EMBED, Stage.MASK)
    assert status.state is State.SUCCEEDED
    edit = rig.edit()
    assert edit.status().cache_hits == (Stage.EMBED, Stage.MASK)
    assert edit.result(timeout=1).mask.tobytes() == preview.result(timeout=1).mask.tobytes()


def test_a_cancelled_job_stops_within_a_step_and_stays_cancelled(rig: Rig) -> None:
    steps = []
    tick = rig.board.tick

    def cancel_at_the_second_step(job_id: str, done: int, total: int) -> State | None:
        if rig.board.status(job_id).stage is Stage.INVERT:
            steps.append(done)
            if done == 2:
                rig.client.job(job_id).cancel()
        return tick(job_id, done, total)

    rig.board.tick = cancel_at_the_second_step
    status = rig.edit().status()
    assert steps == [1, 2]
    assert status.state is State.CANCELLED
    assert Stage.INVERT not in status.timings
    assert status.attempts == {Stage.EMBED: 1, Stage.MASK: 1, Stage.INVERT: 1}


def test_a_job_cancelled_in_the_queue_never_starts(rig: Rig) -> None:
    rig.before = lambda stage, job: rig.client.job(job.id).cancel()
    status = rig.edit().status()
    assert (status.state, status.started_at, status.attempts) == (State.CANCELLED, None, {})


@pytest.mark.parametrize(
    ("slot", "damage", "code"),
    [
        (Slot.EMBEDDINGS, b"", "bad_artifact"),
        (Slot.EMBEDDINGS, b"\x80\x04pickle", "bad_artifact"),
        (Slot.IMAGE, b"<svg/>", "bad_picture"),
        (Slot.IMAGE, None, "bad_artifact"),
    ],
)
def test_a_damaged_artifact_fails_the_job_and_not_the_worker(rig: Rig, slot: Slot, damage, code: str) -> None:
    def spoil(stage: Stage, job: Job) -> None:
        if stage is Stage.MASK:
            status = rig.board.status(job.id)
            key = status.refs.get(slot) or status.request.image
            if damage is None:
                rig.store._objects.pop(key)
            else:
                rig.store.put(key, damage)

    rig.before = spoil
    job = rig.edit()
    with pytest.raises(JobFailed) as caught:
        job.wait(timeout=1)
    assert (caught.value.stage, caught.value.failure, caught.value.job_id) == ("mask", code, job.id)
    assert job.status().attempts == {Stage.EMBED: 1, Stage.MASK: 1}

    rig.before = lambda stage, job: None
    if slot is Slot.IMAGE:
        rig.store.put(job.status().request.image, SAMPLE.read_bytes())
    else:
        rig.store._objects.pop(job.status().refs[slot])
    retried = job.retry()
    assert retried.id != job.id
    assert retried.status().state is State.SUCCEEDED


def test_a_message_without_its_artifacts_fails_the_job_with_the_reason(rig: Rig) -> None:
    job_id = rig.board.open(uuid.uuid4().hex, a_request())
    assert rig.runner.run(Stage.MASK, Job(id=job_id, request=a_request())) is None
    error = rig.board.status(job_id).error
    assert (error.stage, error.code) == (Stage.MASK, "bad_artifact")
    assert "embeddings" in error.message


@pytest.mark.parametrize("stage", [Stage.INVERT, Stage.EDIT])
def test_values_that_are_not_finite_are_never_stored(rig: Rig, monkeypatch, stage: Stage) -> None:
    walk = getattr(diffedit, stage.value)
    monkeypatch.setattr(diffedit, stage.value, lambda *args, **kwargs: walk(*args, **kwargs) * float("nan"))
    job = rig.edit()
    error = job.status().error
    assert (error.stage, error.code) == (stage, "not_finite")
    monkeypatch.undo()
    assert job.retry().status().state is State.SUCCEEDED


def test_a_worker_that_edits_need_not_have_the_language_models(rig: Rig) -> None:
    profile = load_profiles(None)["tiny"]
    nowhere = ModelSource(id="/nonexistent/model")
    bare = Models(profile.model_copy(update={"captioner": nowhere, "prompter": nowhere}), device="cpu")
    rig.runner = Runner(rig.board, rig.store, lambda name: bare)
    assert rig.edit().result(timeout=1).manifest["models"].keys() == {"diffusion"}


def test_an_unforeseen_exception_is_reported_without_its_text(rig: Rig) -> None:
    def broken(name: str) -> Models:
        raise RuntimeError("s3cret")

    rig.runner = Runner(rig.board, rig.store, broken)
    error = rig.edit().status().error
    assert (error.stage, error.code) == (Stage.EMBED, "internal")
    assert "RuntimeError" in error.message
    assert "s3cret" not in error.message


def test_a_stage_without_a_record_is_dropped(rig: Rig) -> None:
    request = EditRequest(image=f"inputs/ab/{'ab' * 32}.png", **TEXTS, params=EditParams(model="tiny"))
    assert rig.runner.run(Stage.EMBED, Job(id=uuid.uuid4().hex, request=request)) is None


def test_the_provenance_travels_in_the_picture(rig: Rig, tmp_path: Path) -> None:
    from api_client.pictures import read_text

    paths = rig.edit().result(timeout=1).save(tmp_path)
    assert sorted(paths) == ["grid", "manifest", "mask", "result"]
    manifest = json.loads(paths["manifest"].read_text())
    assert json.loads(read_text(paths["result"].read_bytes())["diffedit"]) == manifest
