"""The runner over the memory doubles and the bundled model: one stage at a time, as the queue would hand them on."""

import json
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch

from diffedit import Client, EditParams, EditRequest, Settings
from diffedit.contract.job import Job, State
from diffedit.contract.object_keys import manifest_key
from diffedit.contract.stages import STAGE_OF, Artifact, Stage
from diffedit.errors import ArtifactError, JobFailed, StoreRefused, StoreUnavailable
from diffedit.testing import MemoryObjectStore, memory_backend
from diffedit_worker.diffusion import diffedit
from diffedit_worker.models.loading import Models
from diffedit_worker.models.profiles import SAMPLES, ModelSource, load_profiles
from diffedit_worker.pipeline import CODECS
from diffedit_worker.runtime.byte_cache import ByteCache
from diffedit_worker.runtime.runner import Runner
from tests.support.factories import a_job, a_worker, done

# When the machine has other work, two threads of a small model wait for each other much longer than they compute.
torch.set_num_threads(1)

SAMPLE = SAMPLES / "06.png"
TEXTS = {
    "source_prompt": "a photograph of a pear on a green table",
    "target_prompt": "a photograph of some cherries on a green table",
}
QUICK = {"num_inference_steps": 3, "num_maps_per_mask": 1, "seed": 7, "profile": "tiny"}


@cache
def tiny(name: str) -> Models:
    return Models(load_profiles(None)[name], device="cpu")


class Rig:
    """A client whose jobs run in this thread, at the moment of submission."""

    def __init__(self) -> None:
        self.backend, self.object_store = memory_backend(), MemoryObjectStore()
        self.job_store, self.worker_registry = self.backend.job_store, self.backend.worker_registry
        self.artifact_locks = self.backend.artifact_locks
        self.worker_registry.send_heartbeat(a_worker(id="rig", profile_params=load_profiles()["tiny"].params))
        self.leaving = False
        self.models_of: Callable[[str], Models] = tiny
        self.restart()
        self.before: Callable[[Stage, Job], object] = lambda stage, job: None

    def restart(self, **options) -> None:
        """Another runner in the place of this one."""
        options = {"worker": "rig", "send": self.send, "leaving": lambda: self.leaving, "tick": 0, **options}
        self.runner = Runner(self.job_store, self.artifact_locks, self.object_store, self.models_of, **options)
        self.client = Client(Settings(), backend=self.backend, object_store=self.object_store, send=self.send)

    def send(self, job: Job) -> None:
        handed: Job | None = job
        for stage in job.stages_left:
            self.before(stage, job)
            handed = handed and self.runner.run(stage, handed.id)

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
    assert rig.object_store.exists(manifest_key(status.artifact_keys[Artifact.RESULT]))


def test_the_result_can_be_made_again_from_its_manifest(rig: Rig) -> None:
    first = rig.edit().result(timeout=1)
    again = Rig()
    request = EditRequest.model_validate(first.manifest["request"])
    asked = {name: value for name, value in request.model_dump().items() if name not in ("image", "goal", "params")}
    second = again.client.edit(SAMPLE, **asked, **request.params.model_dump()).result(timeout=1)
    assert second.image.tobytes() == first.image.tobytes()
    assert second.status.artifact_keys == first.status.artifact_keys


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


def test_a_job_that_stays_on_a_worker_downloads_its_picture_alone(rig: Rig, monkeypatch) -> None:
    rig.restart(cache_bytes=10**6)
    get, asked = rig.object_store.get, []

    def watched(key: str) -> bytes:
        data = get(key)
        asked.append(key)
        return data

    monkeypatch.setattr(rig.object_store, "get", watched)
    job = rig.edit()
    assert asked == [job.status().request.image]
    asked.clear()
    rig.edit(target_prompt="a photograph of a ball on a green table")
    assert asked == []


def test_what_went_through_is_remembered_until_there_is_too_much_of_it() -> None:
    byte_cache = ByteCache(max_bytes=100)
    for name in "abcd":
        byte_cache.remember(name, bytes(25))
    assert byte_cache.get("a")
    byte_cache.remember("e", bytes(25))
    assert [name for name in "abcde" if byte_cache.get(name) is None] == ["b"]  # asked for the longest ago
    byte_cache.remember("large", bytes(26))
    assert byte_cache.get("large") is None
    byte_cache.forget("a")
    assert byte_cache.get("a") is None


def test_a_picture_is_encoded_once_for_mask_and_inversion(rig: Rig) -> None:
    vae, sizes = tiny("tiny").vae, []
    hook = vae.encoder.register_forward_hook(lambda module, args, output: sizes.append(tuple(args[0].shape)))
    try:
        for name in ("01.png", "02.png", "02.png"):
            rig.client.edit(SAMPLE.with_name(name), **{**TEXTS, **QUICK}).status()
    finally:
        hook.remove()
    assert sizes == [(1, 3, 64, 64)] * 2


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
    tick = rig.job_store.report_step

    def cancel_at_the_second_step(job_id: str, done: int, total: int, worker: str) -> State | None:
        if rig.job_store.status(job_id).stage is Stage.INVERT:
            steps.append(done)
            if done == 2:
                rig.client.job(job_id).cancel()
        return tick(job_id, done, total, worker)

    rig.job_store.report_step = cancel_at_the_second_step
    status = rig.edit().status()
    assert steps == [1, 2]
    assert status.state is State.CANCELLED
    assert Stage.INVERT not in status.timings
    assert status.attempts == {Stage.EMBED: 1, Stage.MASK: 1, Stage.INVERT: 1}


def test_a_job_cancelled_in_the_queue_never_starts(rig: Rig) -> None:
    rig.before = lambda stage, job: rig.client.job(job.id).cancel()
    status = rig.edit().status()
    assert (status.state, status.started_at, status.attempts) == (State.CANCELLED, None, {})


def damaging(
    rig: Rig, artifact: Artifact, damage: bytes | None, times: int, before: Stage = Stage.MASK
) -> Callable[[Stage, Job], None]:
    """Damages what lies in the slot before this stage is begun, so often."""
    left = iter(range(times))

    def damage_it(stage: Stage, job: Job) -> None:
        if stage is before and next(left, None) is not None:
            status = rig.job_store.status(job.id)
            key = status.artifact_keys.get(artifact) or status.request.image
            rig.object_store.delete(key) if damage is None else rig.object_store.put(key, damage)

    return damage_it


@pytest.mark.parametrize("damage", [None, b"", b"\x80\x04pickle"])
def test_a_damaged_artifact_is_made_again_by_its_stage(rig: Rig, damage: bytes | None) -> None:
    rig.before = damaging(rig, Artifact.EMBEDDINGS, damage, times=1)
    status = rig.edit().status()
    assert status.state is State.SUCCEEDED
    assert status.attempts == {Stage.EMBED: 2, Stage.MASK: 2, Stage.INVERT: 1, Stage.EDIT: 1}


@pytest.mark.parametrize("damage", [None, b"", SAMPLE.read_bytes()[:99]])
def test_a_damaged_mask_is_the_stages_to_mend_and_not_the_users(rig: Rig, damage: bytes | None) -> None:
    rig.before = damaging(rig, Artifact.MASK, damage, times=1, before=Stage.EDIT)
    status = rig.edit().status()
    assert status.state is State.SUCCEEDED
    assert status.attempts == {Stage.EMBED: 1, Stage.MASK: 2, Stage.INVERT: 2, Stage.EDIT: 2}


@pytest.mark.parametrize("artifact", [Artifact.CAPTION, Artifact.PROMPTS, Artifact.MASK, Artifact.RESULT])
def test_what_was_damaged_after_the_job_is_made_again_by_a_retry(rig: Rig, artifact: Artifact) -> None:
    job = rig.edit(source_prompt=None)
    key = job.status().artifact_keys[artifact]
    sound = rig.object_store.get(key)
    rig.object_store.put(key, sound[: len(sound) // 2])
    with pytest.raises(ArtifactError, match="retry"):
        getattr(job.result(timeout=1), {Artifact.RESULT: "image"}.get(artifact, artifact.value))
    status = job.retry().status()
    assert status.state is State.SUCCEEDED
    assert set(status.stages) - set(status.cache_hits) == {STAGE_OF[artifact]}
    assert CODECS[artifact].decode(rig.object_store.get(key))


@pytest.mark.parametrize("damage", [None, b"{"])
def test_a_lost_manifest_is_made_again_by_a_retry(rig: Rig, damage: bytes | None) -> None:
    job = rig.edit()
    sound = job.result(timeout=1).manifest
    key = manifest_key(job.status().artifact_keys[Artifact.RESULT])
    rig.object_store.delete(key) if damage is None else rig.object_store.put(key, damage)
    with pytest.raises(ArtifactError):
        _ = job.result(timeout=1).manifest
    assert job.retry().result(timeout=1).manifest == sound


def test_an_artifact_that_is_damaged_each_time_fails_the_job(rig: Rig) -> None:
    rig.before = damaging(rig, Artifact.EMBEDDINGS, b"", times=3)
    job = rig.edit()
    with pytest.raises(JobFailed) as caught:
        job.wait(timeout=1)
    assert (caught.value.stage, caught.value.failure) == ("embed", "bad_artifact")
    rig.before = lambda stage, job: None
    assert job.retry().status().state is State.SUCCEEDED


@pytest.mark.parametrize("damage", [b"<svg/>", None])
def test_a_damaged_picture_fails_the_job_and_not_the_worker(rig: Rig, damage: bytes | None) -> None:
    rig.before = damaging(rig, Artifact.IMAGE, damage, times=1)
    job = rig.edit()
    with pytest.raises(JobFailed) as caught:
        job.wait(timeout=1)
    assert (caught.value.stage, caught.value.failure, caught.value.job_id) == ("mask", "bad_artifact", job.id)
    assert job.status().attempts == {Stage.EMBED: 1, Stage.MASK: 1}
    rig.object_store.put(job.status().request.image, SAMPLE.read_bytes())
    retried = job.retry()
    assert retried.id != job.id
    assert retried.status().state is State.SUCCEEDED


def test_a_worker_that_leaves_hands_its_job_on_within_a_step(rig: Rig) -> None:
    steps, tick, resumed = [], rig.job_store.report_step, []

    def leave_at_the_second_step(job_id: str, done: int, total: int, worker: str) -> State | None:
        if rig.job_store.status(job_id).stage is Stage.INVERT:
            steps.append(done)
            rig.leaving = len(steps) == 2
        return tick(job_id, done, total, worker)

    def send(job: Job) -> None:
        rig.leaving = False
        resumed.append(job.stages_left)
        rig.send(job)

    rig.job_store.report_step = leave_at_the_second_step
    rig.restart(send=send)
    status = rig.edit(num_inference_steps=6).status()
    assert steps == [1, 2, 1, 2, 3, 4]
    assert resumed == [(Stage.INVERT, Stage.EDIT)]
    assert status.state is State.SUCCEEDED
    assert set(status.attempts.values()) == {1}  # leaving in good order costs no attempt


def test_a_worker_that_was_taken_for_dead_does_no_harm(rig: Rig) -> None:
    tick, hands = rig.job_store.report_step, []

    def asleep_at_the_first_step(job_id: str, done: int, total: int, worker: str) -> State | None:
        if not hands and rig.job_store.status(job_id).stage is Stage.INVERT:
            hands.append(worker)
            rig.worker_registry.unregister("rig")
            status = rig.job_store.status(job_id)
            rig.job_store.requeue(Job(id=job_id, request=status.request, artifact_keys=status.artifact_keys))
        return tick(job_id, done, total, worker)

    rig.job_store.report_step = asleep_at_the_first_step
    job = rig.edit()
    status = job.status()
    assert not status.is_terminal
    assert Stage.INVERT not in status.timings
    rig.worker_registry.send_heartbeat(a_worker(id="rig"))
    rig.send(Job(id=job.id, request=status.request, artifact_keys=status.artifact_keys))
    assert job.status().state is State.SUCCEEDED
    assert job.status().attempts[Stage.INVERT] == 2


class Faulty(MemoryObjectStore):
    """Does not answer so often."""

    def __init__(self, faults: int) -> None:
        super().__init__()
        self.faults = faults

    def get(self, key: str) -> bytes:
        self.faults -= 1
        if self.faults >= 0:
            raise StoreUnavailable("S3 does not answer")
        return super().get(key)


def test_an_outage_of_the_store_is_waited_out_and_counted(rig: Rig) -> None:
    rig.object_store = Faulty(faults=2)
    rig.restart()
    status = rig.edit().status()
    assert status.state is State.SUCCEEDED
    assert status.retries == 2
    assert set(status.attempts.values()) == {1}


def test_an_outage_that_does_not_end_is_tried_again_and_fails_the_job_at_last(rig: Rig) -> None:
    rig.object_store = Faulty(faults=3)
    rig.restart(s3_retry_timeout=0)
    assert rig.edit().status().attempts[Stage.MASK] == 3  # embedding reads nothing from the store
    rig.object_store = Faulty(faults=99)
    rig.restart(s3_retry_timeout=0)
    error = rig.edit(seed=8).status().error
    assert (error.stage, error.code) == (Stage.MASK, "store_unavailable")


def test_a_store_that_refuses_is_not_waited_for(rig: Rig, monkeypatch) -> None:
    def refuse(key: str) -> bytes:
        raise StoreRefused("S3 refuses (AccessDenied)")

    monkeypatch.setattr(rig.object_store, "get", refuse)
    rig.restart(s3_retry_timeout=10**6)
    status = rig.edit().status()
    assert (status.error.code, status.retries, status.attempts[Stage.MASK]) == ("store_refused", 0, 1)
    assert "AccessDenied" in status.error.message


def test_nobody_waits_for_the_store_for_a_cancelled_job(rig: Rig) -> None:
    rig.object_store = Faulty(faults=10**6)
    count = rig.job_store.count_retry

    def cancel(job_id: str, worker: str) -> State | None:
        rig.client.job(job_id).cancel()
        return count(job_id, worker)

    rig.job_store.count_retry = cancel
    rig.restart(s3_retry_timeout=10**6)
    assert rig.edit().status().state is State.CANCELLED


@pytest.mark.parametrize(("failures", "outcome"), [(1, State.SUCCEEDED), (2, State.FAILED)])
@pytest.mark.parametrize("error", [MemoryError, torch.OutOfMemoryError])
def test_out_of_memory_is_met_with_half_the_batch_once(rig: Rig, monkeypatch, error, failures, outcome) -> None:
    batches, compute_mask = [], diffedit.compute_mask

    def greedy(*args, max_batch: int, **kwargs):
        batches.append(max_batch)
        if len(batches) <= failures:
            raise error
        return compute_mask(*args, max_batch=max_batch, **kwargs)

    monkeypatch.setattr(diffedit, "compute_mask", greedy)
    own = Models(load_profiles(None)["tiny"], device="cpu")
    rig.models_of = lambda name: own
    rig.restart()
    status = rig.edit().status()
    assert batches == [8, 4]
    assert status.state is outcome
    if outcome is State.FAILED:
        assert (status.error.stage, status.error.code) == (Stage.MASK, "out_of_memory")


def test_of_two_jobs_that_need_one_artifact_the_second_yields_and_finds_it_done(rig: Rig) -> None:
    second = Runner(rig.job_store, rig.artifact_locks, rig.object_store, tiny, worker="second", send=rig.send, tick=0)
    rig.worker_registry.send_heartbeat(a_worker(id="second"))
    yielded: list[Job] = []

    def meanwhile(stage: Stage, job: Job) -> None:
        # The other worker comes to the same inversion while this one is at it.
        if stage is Stage.INVERT and not yielded:
            other = Job(id="cd" * 16, request=job.request)
            rig.job_store.create_job(other)
            yielded.append(other)
            tick = rig.job_store.report_step

            def at_a_step(job_id: str, done: int, total: int, worker: str) -> State | None:
                rig.job_store.report_step = tick
                for each in (Stage.EMBED, Stage.MASK):
                    yielded.append(second.run(each, yielded[-1].id))
                assert second.run(Stage.INVERT, yielded[-1].id) is None
                assert not rig.job_store.status(other.id).is_terminal
                return tick(job_id, done, total, worker)

            rig.job_store.report_step = at_a_step

    rig.before = meanwhile
    first = rig.edit().status()
    other = rig.job_store.status("cd" * 16)
    assert first.state is other.state is State.SUCCEEDED
    assert Stage.INVERT in other.cache_hits
    assert set(other.attempts.values()) == {1}  # to yield costs no attempt


def test_a_record_without_its_artifacts_fails_the_job_with_the_reason(rig: Rig) -> None:
    job = done(a_job(), Stage.EMBED)
    rig.job_store.create_job(job)  # which does not record what the job comes with
    assert rig.runner.run(Stage.MASK, job.id) is None
    error = rig.job_store.status(job.id).error
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
    rig.models_of = lambda name: bare
    rig.restart()
    assert rig.edit().result(timeout=1).manifest["models"].keys() == {"diffusion"}


def test_an_unforeseen_exception_is_reported_without_its_text(rig: Rig) -> None:
    def broken(name: str) -> Models:
        raise RuntimeError("s3cret")

    rig.models_of = broken
    rig.restart()
    error = rig.edit().status().error
    assert (error.stage, error.code) == (Stage.EMBED, "internal")
    assert "RuntimeError" in error.message
    assert "s3cret" not in error.message


def test_a_stage_without_a_record_is_dropped(rig: Rig) -> None:
    request = EditRequest(image=f"inputs/ab/{'ab' * 32}.png", **TEXTS, params=EditParams(profile="tiny"))
    assert rig.runner.run(Stage.EMBED, a_job(request).id) is None


def test_the_provenance_travels_in_the_picture(rig: Rig, tmp_path: Path) -> None:
    from diffedit.pictures import read_text

    paths = rig.edit().result(timeout=1).save(tmp_path)
    assert sorted(paths) == ["grid", "manifest", "mask", "result"]
    manifest = json.loads(paths["manifest"].read_text())
    assert json.loads(read_text(paths["result"].read_bytes())["diffedit"]) == manifest


def test_a_record_that_cannot_be_read_fails_its_job_with_the_reason(rig: Rig) -> None:
    job = a_job()
    rig.job_store.create_job(job)
    record = rig.job_store._state.records[job.id]
    request, record["request"] = record["request"], record["request"].replace('"seed":', '"new_knob":1,"seed":')
    assert rig.runner.run(Stage.EMBED, job.id) is None
    record["request"] = request
    error = rig.job_store.status(job.id).error
    assert (error.stage, error.code) == (Stage.EMBED, "bad_record")
    assert "new_knob: unknown parameter" in error.message


def test_a_jobs_last_stage_says_when_it_has_but_to_store(rig: Rig, monkeypatch) -> None:
    told: list[str] = []
    put, decode = rig.object_store.put, diffedit.decode
    monkeypatch.setattr(rig.object_store, "put", lambda key, data: (told.append(key.split("/")[1]), put(key, data)))
    monkeypatch.setattr(diffedit, "decode", lambda *args: (told.append("decode"), decode(*args))[1])
    rig.restart(on_last_computed=lambda: told.append("computed"))
    rig.edit()
    assert told[-4:] == ["decode", "computed", "result", "result"]
    assert told.count("computed") == 1
    told.clear()
    rig.edit()
    assert "computed" not in told  # everything is found


def test_a_message_for_a_job_that_the_worker_is_at_is_dropped(rig: Rig, monkeypatch) -> None:
    doubled = []

    def again(stage: Stage, job_id: str) -> None:
        doubled.append(rig.runner.run(stage, job_id))

    tick = rig.job_store.report_step
    monkeypatch.setattr(
        rig.job_store, "report_step", lambda job_id, *args: (again(Stage.MASK, job_id), tick(job_id, *args))[1]
    )
    status = rig.edit().status()
    assert doubled and not any(doubled)
    assert status.state is State.SUCCEEDED
    assert set(status.attempts.values()) == {1}


def test_what_was_made_after_it_was_found_missing_is_not_made_again(rig: Rig, monkeypatch) -> None:
    """Two jobs of one picture on a worker that stores the one while it looks for the other."""
    exists, claims = rig.object_store.exists, []
    late = rig.edit().status().artifact_keys[Artifact.TRAJECTORY]

    def not_yet(key: str) -> bool:
        return exists(key) and (key != late or bool(claims))

    claim = rig.artifact_locks.acquire
    monkeypatch.setattr(rig.object_store, "exists", not_yet)
    monkeypatch.setattr(
        rig.artifact_locks, "acquire", lambda keys, *who: (claims.extend({late} & set(keys)), claim(keys, *who))[1]
    )
    status = rig.edit(target_prompt="a photograph of a ball on a green table").status()
    assert claims == [late]
    assert Stage.INVERT in status.cache_hits


def test_the_record_is_looked_at_now_and_then_while_a_stage_steps(rig: Rig, monkeypatch) -> None:
    ticks, tick = [], rig.job_store.report_step
    monkeypatch.setattr(rig.job_store, "report_step", lambda *args: (ticks.append(args), tick(*args))[1])
    rig.restart(tick=3600)
    assert rig.edit().status().state is State.SUCCEEDED
    assert ticks == []


class Meeting(MemoryObjectStore):
    """Stores nothing under `where` until two come at once."""

    def __init__(self, where: tuple[str, str]) -> None:
        super().__init__()
        self.where, self.barrier = where, threading.Barrier(2)

    def put(self, key: str, data: bytes) -> None:
        if key.startswith(self.where):
            self.barrier.wait(timeout=30)
        super().put(key, data)


def test_what_a_stage_stores_it_stores_at_once(rig: Rig) -> None:
    rig.object_store = Meeting(("artifacts/embeddings/", "artifacts/caption_embedding/"))
    rig.restart()
    assert rig.edit().status().state is State.SUCCEEDED


def test_what_is_made_from_something_new_is_not_looked_for(rig: Rig, monkeypatch) -> None:
    looked: list[str] = []
    exists, get = rig.object_store.exists, rig.object_store.get
    monkeypatch.setattr(rig.object_store, "exists", lambda key: (looked.append(key), exists(key))[1])
    monkeypatch.setattr(rig.object_store, "get", lambda key: (looked.append(key), get(key))[1])
    rig.restart(cache_bytes=10**6)
    status = rig.edit().status()
    artifacts = [key.split("/")[1] for key in looked if key.startswith("artifacts/")]
    assert sorted(artifacts) == ["caption_embedding", "embeddings"]  # but for these, everything is made from them
    assert set(status.created_artifacts) == set(status.artifact_keys)
    looked.clear()
    other = rig.edit(target_prompt="a photograph of a ball on a green table").status()
    assert Artifact.CAPTION_EMBEDDING not in other.created_artifacts
    assert status.artifact_keys[Artifact.TRAJECTORY] in looked  # though the same stage has made embeddings
    assert other.cache_hits == (Stage.INVERT,)


def test_what_a_quicker_job_has_made_meanwhile_is_found(rig: Rig) -> None:
    def quicker(stage: Stage, job: Job) -> None:
        if stage is Stage.INVERT:
            rig.before = lambda stage, job: None
            other = Job(id="cd" * 16, request=job.request)
            rig.job_store.create_job(other)
            rig.send(other)

    rig.before = quicker
    status = rig.edit().status()
    assert status.state is State.SUCCEEDED
    assert {Artifact.EMBEDDINGS, Artifact.CAPTION_EMBEDDING, Artifact.MASK} == set(status.created_artifacts)
