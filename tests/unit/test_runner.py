"""The runner over the memory doubles and the bundled model, one stage after the other."""

import io
from dataclasses import replace
from functools import wraps

import pytest
import torch
from PIL import Image

from diffedit import EditRequest
from diffedit.contract.content import content_of
from diffedit.contract.job import Job, State
from diffedit.contract.object_keys import manifest_key, thumbnail_key
from diffedit.contract.stages import Artifact, Stage
from diffedit.errors import ArtifactMissing, BadRecord
from diffedit.testing import MemoryObjectStore
from diffedit_worker.diffusion import diffedit
from diffedit_worker.models.loading import Models
from diffedit_worker.models.previews import Previews
from diffedit_worker.models.profiles import ModelSource, load_profiles
from diffedit_worker.pipeline import PIPELINE
from diffedit_worker.runtime import previews
from tests.support.factories import a_job, a_worker, done
from tests.support.inline_worker import QUICK, SAMPLE, TEXTS, InlineWorker

OTHER_TARGET = "a photograph of a ball on a green table"
OTHER_ID = "cd" * 16


@pytest.fixture
def worker() -> InlineWorker:
    return InlineWorker()


@pytest.fixture(scope="module")
def edited() -> InlineWorker:
    """A worker that has made one edit. Each test that uses it changes another parameter."""
    worker = InlineWorker()
    worker.edit()
    return worker


def test_a_job_runs_through_and_records_how_its_result_was_made(worker: InlineWorker) -> None:
    job = worker.edit()
    status = job.status()
    assert status.state is State.SUCCEEDED
    assert status.progress == 1
    assert set(status.timings) == set(status.stages) == {Stage.EMBED, Stage.MASK, Stage.INVERT, Stage.EDIT}
    result = job.result(timeout=1)
    assert result.image.size == result.mask.size == result.original.size
    assert result.manifest["request"] == status.request.model_dump(mode="json")
    assert result.manifest["texts"]["prompts"]["target"] == [TEXTS["target_prompt"]]
    assert worker.object_store.exists(manifest_key(status.artifact_keys[Artifact.RESULT]))


def test_a_result_has_a_thumbnail(worker: InlineWorker) -> None:
    job = worker.edit()
    result, key = job.result(timeout=1), thumbnail_key(job.status().artifact_keys[Artifact.RESULT])
    stored = worker.object_store.get(key)
    assert result.file("thumbnail") == (stored, "image/webp")
    assert result.thumbnail.size == result.image.size
    # A worker of 0.2.0 stores none. Who finds its result adds it.
    worker.object_store.delete(key)
    again = worker.edit().status()
    assert Stage.EDIT in again.cache_hits
    assert worker.object_store.get(key) == stored


def test_an_edit_that_is_watched_has_previews(worker: InlineWorker, monkeypatch) -> None:
    made = []
    monkeypatch.setattr(Previews, "encode", lambda self, encode=Previews.encode: made.append(1) or encode(self))
    monkeypatch.setattr(previews, "PREVIEW_INTERVAL", 0)
    worker.restart(report_interval=0)
    worker.edit()
    assert made == []
    # `before_report` is called before the job's state is read, so this is somebody who looks in at each step.
    worker.before_report(lambda job_id, step: worker.client.job(job_id).preview())
    watched = worker.edit(guidance_scale=3.0)
    file = watched.preview()
    assert file and len(made) == watched.status().steps
    with Image.open(io.BytesIO(file)) as preview:
        assert preview.format == "WEBP" and preview.size == (16, 16)
    # What cannot be made is left out, and the job goes on.
    monkeypatch.setattr(Previews, "encode", lambda self: 1 / 0)
    assert worker.edit(guidance_scale=4.0).status().state is State.SUCCEEDED


def test_a_result_can_be_made_again_from_its_manifest(worker: InlineWorker) -> None:
    first = worker.edit().result(timeout=1)
    request = EditRequest.model_validate(first.manifest["request"])
    asked = {name: value for name, value in request.model_dump().items() if name not in ("image", "goal", "params")}
    second = InlineWorker().client.edit(SAMPLE, **asked, **request.params.model_dump()).result(timeout=1)
    assert second.image.tobytes() == first.image.tobytes()
    assert second.status.artifact_keys == first.status.artifact_keys


def test_the_same_job_again_finds_all_artifacts(worker: InlineWorker) -> None:
    worker.edit()
    status = worker.edit().status()
    assert status.cache_hits == status.stages


def test_another_target_or_negative_prompt_reuses_the_inversion(worker: InlineWorker) -> None:
    worker.edit()
    assert worker.edit(target_prompt=OTHER_TARGET).status().cache_hits == (Stage.INVERT,)
    negative = worker.edit(negative_prompt="a photograph of a dog on a green table")
    assert negative.status().cache_hits == (Stage.INVERT,)


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
        ({"guidance_interval": 0.5}, {Stage.EDIT}),
        ({"feature_reuse": 5}, {Stage.EDIT}),
        ({"inversion_feature_reuse": 5}, {Stage.INVERT, Stage.EDIT}),
        ({"num_inference_steps": 4}, {Stage.MASK, Stage.INVERT, Stage.EDIT}),
        ({"caption": "a pear"}, {Stage.EMBED, Stage.INVERT, Stage.EDIT}),
    ],
)
def test_a_changed_parameter_makes_only_what_depends_on_it_again(
    edited: InlineWorker, change: dict, made_again: set
) -> None:
    status = edited.edit(**change).status()
    assert set(status.stages) - set(status.cache_hits) == made_again


def test_an_edit_continues_from_a_mask_preview(worker: InlineWorker) -> None:
    preview = worker.client.preview_mask(SAMPLE, **TEXTS, **QUICK)
    status = preview.status()
    assert status.stages == (Stage.EMBED, Stage.MASK)
    assert status.state is State.SUCCEEDED
    edit = worker.edit()
    assert edit.status().cache_hits == (Stage.EMBED, Stage.MASK)
    assert edit.result(timeout=1).mask.tobytes() == preview.result(timeout=1).mask.tobytes()


def test_a_cancelled_job_stops_within_a_step_and_stays_cancelled(worker: InlineWorker) -> None:
    steps = []

    def cancel_at_second_step(job_id: str, step: int) -> None:
        if worker.stage_of(job_id) is Stage.INVERT and step:  # step 0 is reported while the picture is decoded
            steps.append(step)
            if step == 2:
                worker.client.job(job_id).cancel()

    worker.before_report(cancel_at_second_step)
    status = worker.edit().status()
    assert steps == [1, 2]
    assert status.state is State.CANCELLED
    assert Stage.INVERT not in status.timings
    assert status.attempts == {Stage.EMBED: 1, Stage.MASK: 1, Stage.INVERT: 1}


def test_a_job_that_is_cancelled_in_the_queue_never_starts(worker: InlineWorker) -> None:
    worker.before_stage = lambda stage, job: worker.client.job(job.id).cancel()
    status = worker.edit().status()
    assert (status.state, status.started_at, status.attempts) == (State.CANCELLED, None, {})


def test_a_worker_that_shuts_down_requeues_its_job_within_a_step(worker: InlineWorker) -> None:
    steps, resumed = [], []

    def shut_down_at_second_step(job_id: str, step: int) -> None:
        if worker.stage_of(job_id) is Stage.INVERT and step:  # step 0 is reported while the picture is decoded
            steps.append(step)
            worker.shutting_down = len(steps) == 2

    def enqueue(job: Job) -> None:
        worker.shutting_down = False
        resumed.append(job.stages_left)
        worker.send(job)

    worker.before_report(shut_down_at_second_step)
    worker.restart(context={"enqueue": enqueue})
    status = worker.edit(num_inference_steps=6, strength=0.8).status()
    assert steps == [1, 2, 1, 2, 3, 4]
    assert resumed == [(Stage.INVERT, Stage.EDIT)]
    assert status.state is State.SUCCEEDED
    assert set(status.attempts.values()) == {1}  # a regular shutdown costs no attempt


def test_a_worker_that_shuts_down_returns_the_messages_that_it_still_receives(worker: InlineWorker) -> None:
    returned: list[Job] = []
    worker.shutting_down = True
    worker.restart(context={"enqueue": returned.append})
    job = worker.edit()
    assert [each.id for each in returned] == [job.id]
    assert (job.status().state, job.status().attempts) == (State.QUEUED, {})


def test_a_worker_that_was_wrongly_considered_dead_does_no_harm(worker: InlineWorker) -> None:
    declared_dead = []

    def lose_job_at_first_step(job_id: str, step: int) -> None:
        if not declared_dead and worker.stage_of(job_id) is Stage.INVERT:
            declared_dead.append("rig")
            worker.worker_registry.unregister("rig")
            worker.job_store.requeue(worker.job_store.status(job_id).job)

    worker.before_report(lose_job_at_first_step)
    job = worker.edit()
    status = job.status()
    assert not status.is_terminal
    assert Stage.INVERT not in status.timings
    worker.worker_registry.send_heartbeat(a_worker(id="rig"))
    worker.send(status.job)
    assert job.status().state is State.SUCCEEDED
    assert job.status().attempts[Stage.INVERT] == 2


@pytest.mark.parametrize("is_last", [True, False], ids=["writes last", "writes first"])
@pytest.mark.parametrize("stage", [Stage.INVERT, Stage.EDIT])
def test_a_worker_that_froze_while_it_stored_an_artifact_does_no_harm(
    worker: InlineWorker, stage: Stage, is_last: bool
) -> None:
    class FreezingStore(MemoryObjectStore):
        """Another worker makes the artifact of the stage before or after the first write of it ends."""

        has_frozen = False

        def put(self, key: str, data: bytes) -> None:
            is_of_stage = key.startswith(f"artifacts/{stage.gives[0].value}/") and key.endswith(
                (".png", ".safetensors")
            )
            freezes, self.has_frozen = is_of_stage and not self.has_frozen, self.has_frozen or is_of_stage
            if freezes and is_last:
                run_elsewhere()
            super().put(key, data)
            if freezes and not is_last:
                run_elsewhere()

    definition = PIPELINE[stage]

    @wraps(definition.run)
    def rounded_differently(**arguments):
        """Return what another batch in a shared pass would give: the last bits are others."""
        made = definition.run(**arguments)
        if stage is Stage.INVERT:
            return {artifact: {name: x * 1.0001 for name, x in tensors.items()} for artifact, tensors in made.items()}
        picture = made[Artifact.RESULT]
        return {Artifact.RESULT: replace(picture, image=picture.image.point(lambda level: min(level + 1, 255)))}

    def run_elsewhere() -> None:
        worker.worker_registry.unregister("rig")
        (job,) = worker.client.jobs()
        worker.job_store.requeue(worker.job_store.status(job.id).job)
        worker.worker_registry.send_heartbeat(a_worker(id="other", profile_params=load_profiles()["tiny"].params))
        other = worker.a_runner(
            {"id": "other"}, pipeline={**PIPELINE, stage: replace(definition, run=rounded_differently)}
        )
        at = stage
        while (left := other.run(at, job.id)) and left.stages_left:
            at = left.stages_left[0]

    worker.object_store = FreezingStore()
    worker.restart()
    job = worker.edit()
    status = job.status()
    assert status.state is State.SUCCEEDED
    assert status.attempts[stage] == 2
    assert job.result(timeout=1).image.size == (64, 64)
    key = status.artifact_keys[stage.gives[0]]
    assert (content_of(worker.object_store.get(key)) == status.contents[stage.gives[0]]) is not is_last
    assert worker.edit().status().cache_hits == status.stages


@pytest.mark.parametrize(("failures", "outcome"), [(1, State.SUCCEEDED), (2, State.RUNNING)])
@pytest.mark.parametrize("error", [MemoryError, torch.OutOfMemoryError])
def test_a_stage_that_runs_out_of_memory_is_tried_once_in_half_the_batch(
    worker: InlineWorker, monkeypatch, error, failures, outcome
) -> None:
    batches, difference_map = [], diffedit.difference_map

    def difference_map_without_memory(*args, max_batch: int, **kwargs):
        batches.append(max_batch)
        if len(batches) <= failures:
            raise error
        return difference_map(*args, max_batch=max_batch, **kwargs)

    monkeypatch.setattr(diffedit, "difference_map", difference_map_without_memory)
    own = Models(load_profiles(None)["tiny"], device="cpu")
    worker.models_of = lambda name: own
    worker.restart()
    status = worker.edit().status()
    assert batches == [8, 4]
    assert status.state is outcome
    if outcome is State.RUNNING:  # for a worker with more memory
        assert (status.refusal.stage, status.refusal.code) == (Stage.MASK, "out_of_memory")


def test_two_jobs_that_need_the_same_artifact_make_it_once(worker: InlineWorker) -> None:
    second = worker.a_runner({"id": "second"})
    worker.worker_registry.send_heartbeat(a_worker(id="second"))
    others: list[Job] = []

    def run_other_job(job_id: str, step: int) -> None:
        # A second worker reaches the same inversion while this one is making it.
        if others or worker.stage_of(job_id) is not Stage.INVERT:
            return
        others.append(Job(id=OTHER_ID, request=worker.job_store.status(job_id).request))
        worker.job_store.create_job(others[0])
        for stage in (Stage.EMBED, Stage.MASK):
            assert second.run(stage, OTHER_ID)
        assert second.run(Stage.INVERT, OTHER_ID) is None
        assert not worker.job_store.status(OTHER_ID).is_terminal

    worker.before_report(run_other_job)
    first = worker.edit().status()
    other = worker.job_store.status(OTHER_ID)
    assert first.state is other.state is State.SUCCEEDED
    assert Stage.INVERT in other.cache_hits
    assert set(other.attempts.values()) == {1}  # to wait for a lock costs no attempt


def test_an_artifact_that_was_made_after_the_lookup_is_not_made_again(worker: InlineWorker, monkeypatch) -> None:
    """Two jobs of one picture on a worker that uploads for one job while it looks up for the other."""
    get, acquire, locked = worker.object_store.get, worker.artifact_locks.acquire, []
    late = worker.edit().status().artifact_keys[Artifact.TRAJECTORY]

    def get_once_locked(key: str) -> bytes:
        if key == late and not locked:
            raise ArtifactMissing
        return get(key)

    def recorded_acquire(keys, *rest):
        locked.extend({late} & set(keys))
        return acquire(keys, *rest)

    monkeypatch.setattr(worker.object_store, "get", get_once_locked)
    monkeypatch.setattr(worker.artifact_locks, "acquire", recorded_acquire)
    status = worker.edit(target_prompt=OTHER_TARGET).status()
    assert locked == [late]
    assert Stage.INVERT in status.cache_hits


def test_the_artifacts_of_a_faster_job_are_found(worker: InlineWorker) -> None:
    def run_other_job(stage: Stage, job: Job) -> None:
        if stage is Stage.INVERT:
            worker.before_stage = lambda stage, job: None
            other = Job(id=OTHER_ID, request=job.request)
            worker.job_store.create_job(other)
            worker.send(other)

    worker.before_stage = run_other_job
    status = worker.edit().status()
    assert status.state is State.SUCCEEDED
    assert {Artifact.EMBEDDINGS, Artifact.CAPTION_EMBEDDING, Artifact.MASK} == set(status.created_artifacts)


def test_a_record_without_its_artifacts_fails_the_job_with_the_reason(worker: InlineWorker) -> None:
    job = done(a_job(), Stage.EMBED)
    worker.job_store.create_job(job)  # `create_job` does not record artifacts
    assert worker.runner.run(Stage.MASK, job.id) is None
    error = worker.job_store.status(job.id).error
    assert (error.stage, error.code) == (Stage.MASK, "bad_artifact")
    assert "embeddings" in error.message


def test_each_step_of_a_stage_is_progress(worker: InlineWorker) -> None:
    """What the watchdog goes by: a stage may take any time, but not a step."""
    seen: dict[Stage, list[float]] = {}

    def note(job_id: str, step: int) -> None:
        (running,) = worker.runner.running_stages
        assert running.models is worker.models_of("tiny")
        seen.setdefault(running.stage, []).append(running.last_progress_at)

    worker.before_report(note)
    worker.edit()
    for stage in (Stage.INVERT, Stage.EDIT):
        assert len(seen[stage]) > 1
        assert seen[stage] == sorted(set(seen[stage]))


@pytest.mark.parametrize("stage", [Stage.INVERT, Stage.EDIT])
def test_values_that_are_not_finite_are_never_stored(worker: InlineWorker, monkeypatch, stage: Stage) -> None:
    function = getattr(diffedit, stage.value)
    monkeypatch.setattr(diffedit, stage.value, lambda *args, **kwargs: function(*args, **kwargs) * float("nan"))
    job = worker.edit()
    error = job.status().refusal
    assert (error.stage, error.code) == (stage, "not_finite")
    monkeypatch.undo()
    worker.send(job.status().job)
    assert job.status().state is State.SUCCEEDED


def test_a_worker_for_diffusion_needs_no_language_models(worker: InlineWorker) -> None:
    profile = load_profiles(None)["tiny"]
    missing = ModelSource(id="/nonexistent/model")
    models = Models(profile.model_copy(update={"captioner": missing, "prompter": missing}), device="cpu")
    worker.models_of = lambda name: models
    worker.restart()
    assert worker.edit().result(timeout=1).manifest["models"].keys() == {"diffusion"}


def test_a_record_that_cannot_be_read_fails_its_job_with_the_reason(worker: InlineWorker) -> None:
    job = a_job()
    worker.job_store.create_job(job)
    record = worker.job_store._state.records[job.id]
    request, record["request"] = record["request"], record["request"].replace('"seed":', '"seed":-')
    assert worker.runner.run(Stage.EMBED, job.id) is None
    record["request"] = request
    error = worker.job_store.status(job.id).error
    assert (error.stage, error.code) == (Stage.EMBED, "bad_record")
    assert "seed: " in error.message


def test_a_waiting_job_with_an_unreadable_record_does_not_fail_the_job_that_it_waited_for(
    worker: InlineWorker, monkeypatch
) -> None:
    complete, status_of, waiter = worker.job_store.complete_stage, worker.job_store.status, "ef" * 16

    def status_unless_unreadable(job_id):
        if job_id == waiter:
            raise BadRecord(job_id, "damaged")
        return status_of(job_id)

    def complete_with_waiter(*args, **options):
        return complete(*args, **options)._replace(waiters=[waiter])

    monkeypatch.setattr(worker.job_store, "complete_stage", complete_with_waiter)
    monkeypatch.setattr(worker.job_store, "status", status_unless_unreadable)
    assert worker.edit().status().state is State.SUCCEEDED


def test_the_last_stage_releases_its_slot_between_computing_and_upload(worker: InlineWorker, monkeypatch) -> None:
    events: list[str] = []
    put, decode = worker.object_store.put, diffedit.decode
    monkeypatch.setattr(
        worker.object_store, "put", lambda key, data: (events.append(key.split("/")[1]), put(key, data))
    )
    monkeypatch.setattr(diffedit, "decode", lambda *args: (events.append("decode"), decode(*args))[1])
    worker.restart(context={"release_slot": lambda: events.append("release_slot")})
    worker.edit()
    assert events[-5:] == ["decode", "release_slot", "result", "result", "result"]  # it, its manifest, its thumbnail
    assert events.count("release_slot") == 1
    events.clear()
    worker.edit()
    assert "release_slot" not in events  # all artifacts are found


def test_a_second_message_for_a_running_job_is_dropped(worker: InlineWorker) -> None:
    second_runs = []
    worker.before_report(lambda job_id, step: second_runs.append(worker.runner.run(Stage.MASK, job_id)))
    status = worker.edit().status()
    assert second_runs and not any(second_runs)
    assert status.state is State.SUCCEEDED
    assert set(status.attempts.values()) == {1}


def test_progress_is_reported_only_after_the_interval(worker: InlineWorker) -> None:
    reports = []
    worker.before_report(lambda job_id, step: reports.append(step))
    worker.restart(report_interval=3600)
    assert worker.edit().status().state is State.SUCCEEDED
    assert reports == []


def test_the_running_stages_are_known_while_they_run(worker: InlineWorker) -> None:
    running = []
    worker.before_report(lambda job_id, step: running.extend(worker.runner.running_stages))
    job = worker.edit()
    assert {(each.job_id, each.stage) for each in running} >= {(job.id, Stage.MASK), (job.id, Stage.INVERT)}
    assert worker.runner.running_stages == []


def test_a_pipeline_replaces_the_functions_of_the_stages(worker: InlineWorker) -> None:
    calls, definition = [], PIPELINE[Stage.MASK]

    @wraps(definition.run)
    def run(**arguments):
        calls.append(arguments.keys())
        return definition.run(**arguments)

    worker.restart(pipeline={**PIPELINE, Stage.MASK: replace(definition, run=run)})
    assert worker.edit().status().state is State.SUCCEEDED
    (names,) = calls
    assert {"image", "embeddings", "models", "on_step", "seed"} <= names


def test_a_worker_stores_nothing_in_a_bucket_that_has_not_the_clients_pictures(worker: InlineWorker) -> None:
    """The first stage of this job reads no picture."""
    client, worker.object_store = worker.client, MemoryObjectStore()
    worker.restart()
    status = client.edit(SAMPLE, **TEXTS, **QUICK).status()
    assert (status.refusal.stage, status.refusal.code) == (Stage.EMBED, "artifact_missing")
    assert worker.object_store._objects == {}
