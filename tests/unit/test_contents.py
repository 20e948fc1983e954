"""An artifact that was changed and is still valid in form: it is found, made again by its stage, and never shown."""

from collections.abc import Callable
from pathlib import Path

import pytest

from diffedit.client import Client
from diffedit.contract.content import content_of
from diffedit.contract.job import Job, State
from diffedit.contract.object_keys import manifest_key
from diffedit.contract.stages import STAGE_OF, Artifact, Stage
from diffedit.errors import ArtifactError
from diffedit.handle import JobHandle
from diffedit.testing import MemoryObjectStore, memory_client, succeed
from diffedit_worker import pipeline
from diffedit_worker.pipeline import CODECS
from tests.support.images import gradient
from tests.support.inline_worker import InlineWorker
from tests.support.tampering import tampered

MADE = list(STAGE_OF)
VISIBLE = {Artifact.CAPTION: "caption", Artifact.PROMPTS: "prompts", Artifact.MASK: "mask", Artifact.RESULT: "image"}


@pytest.fixture
def worker() -> InlineWorker:
    return InlineWorker()


def edit(worker: InlineWorker) -> JobHandle:
    """Return an edit that needs all stages."""
    return worker.edit(source_prompt=None)


def change(worker: InlineWorker, key: str) -> bytes:
    """Change the file at `key` so that it stays valid in form. Return what was stored before."""
    before = worker.object_store.get(key)
    worker.object_store.put(key, tampered(before))
    assert worker.object_store.get(key) != before
    return before


def once_before(stage: Stage, action: Callable[[Job], object]) -> Callable[[Stage, Job], None]:
    left = iter([stage])

    def before_stage(current: Stage, job: Job) -> None:
        if current is stage and next(left, None):
            action(job)

    return before_stage


def test_a_record_holds_the_content_of_each_artifact_made_or_found(worker: InlineWorker) -> None:
    first, second = edit(worker).status(), edit(worker).status()
    assert set(first.contents) == set(MADE)
    assert second.cache_hits == second.stages
    assert second.contents == first.contents
    for artifact, key in first.artifact_keys.items():
        assert first.contents[artifact] == content_of(worker.object_store.get(key))


@pytest.mark.parametrize("artifact", MADE)
def test_each_kind_of_artifact_can_be_changed_without_its_codec_noticing(
    worker: InlineWorker, artifact: Artifact
) -> None:
    key = edit(worker).status().artifact_keys[artifact]
    change(worker, key)
    CODECS[artifact].decode(worker.object_store.get(key))


@pytest.mark.parametrize("artifact", [each for each in MADE if each is not Artifact.RESULT])
def test_an_artifact_changed_between_two_stages_is_made_again(worker: InlineWorker, artifact: Artifact) -> None:
    expected = edit(InlineWorker()).result(timeout=1).image.tobytes()
    reader = next(stage for stage in Stage if artifact in stage.needs)
    worker.before_stage = once_before(
        reader, lambda job: change(worker, worker.job_store.status(job.id).artifact_keys[artifact])
    )
    job = edit(worker)
    status = job.status()
    assert status.state is State.SUCCEEDED
    assert status.attempts[STAGE_OF[artifact]] == status.attempts[reader] == 2
    assert job.result(timeout=1).image.tobytes() == expected


@pytest.mark.parametrize("artifact", MADE)
def test_a_changed_artifact_in_the_cache_is_made_again(worker: InlineWorker, artifact: Artifact) -> None:
    first = edit(worker)
    key = first.status().artifact_keys[artifact]
    intact = change(worker, key)
    status = edit(worker).status()
    assert status.state is State.SUCCEEDED
    assert set(status.stages) - set(status.cache_hits) == {STAGE_OF[artifact]}
    assert status.created_artifacts == (artifact,)
    assert worker.object_store.get(key) == intact


@pytest.mark.parametrize("artifact", VISIBLE)
def test_a_changed_artifact_is_never_shown_and_retry_makes_it_again(worker: InlineWorker, artifact: Artifact) -> None:
    job = edit(worker)
    intact = getattr(job.result(timeout=1), VISIBLE[artifact])
    change(worker, job.status().artifact_keys[artifact])
    with pytest.raises(ArtifactError, match="retry"):
        getattr(job.result(timeout=1), VISIBLE[artifact])
    assert getattr(job.retry().result(timeout=1), VISIBLE[artifact]) == intact
    assert getattr(job.result(timeout=1), VISIBLE[artifact]) == intact


@pytest.mark.parametrize("artifact", [Artifact.MASK, Artifact.RESULT])
def test_nothing_of_a_result_with_a_changed_artifact_is_written(
    worker: InlineWorker, artifact: Artifact, tmp_path: Path
) -> None:
    job = edit(worker)
    change(worker, job.status().artifact_keys[artifact])
    with pytest.raises(ArtifactError):
        job.result(timeout=1).save(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_changed_manifest_is_never_shown_and_retry_stores_it_again(worker: InlineWorker) -> None:
    job = edit(worker)
    manifest = job.result(timeout=1).manifest
    key = manifest_key(job.status().artifact_keys[Artifact.RESULT])
    intact = change(worker, key)
    assert job.result(timeout=1).manifest == manifest
    assert job.retry().result(timeout=1).manifest == manifest
    assert worker.object_store.get(key) == intact


def test_a_swapped_artifact_of_another_job_is_not_shown(worker: InlineWorker) -> None:
    mine, other = worker.edit(), worker.edit(seed=8)
    keys = [job.status().artifact_keys[Artifact.RESULT] for job in (mine, other)]
    worker.object_store.put(keys[0], worker.object_store.get(keys[1]))
    with pytest.raises(ArtifactError, match="the stored result is damaged"):
        _ = mine.result(timeout=1).image


class ForgetfulStore(MemoryObjectStore):
    """Takes an artifact of one kind and stores something else, at the first time."""

    def __init__(self, artifact: Artifact, how: str) -> None:
        super().__init__()
        self.folder, self.extension = f"artifacts/{artifact.value}/", CODECS[artifact].extension
        self.how, self.times = how, 1

    def put(self, key: str, data: bytes) -> None:
        if key.startswith(self.folder) and key.endswith(self.extension) and self.times:
            self.times -= 1
            if self.how == "nothing":
                return
            data = data[: len(data) // 2] if self.how == "a part" else tampered(data)
        super().put(key, data)


KEPT = ("other bytes", "a part", "nothing")


@pytest.mark.parametrize("how", KEPT)
@pytest.mark.parametrize("artifact", [each for each in MADE if each is not Artifact.RESULT])
def test_a_store_that_did_not_keep_what_it_was_given_is_found_by_the_next_reader(
    worker: InlineWorker, artifact: Artifact, how: str
) -> None:
    worker.object_store = ForgetfulStore(artifact, how)
    worker.restart()
    status = edit(worker).status()
    assert status.state is State.SUCCEEDED
    assert status.attempts[STAGE_OF[artifact]] == 2


@pytest.mark.parametrize("how", KEPT)
def test_a_result_that_the_store_did_not_keep_is_never_shown_and_retry_makes_it_again(
    worker: InlineWorker, how: str
) -> None:
    worker.object_store = ForgetfulStore(Artifact.RESULT, how)
    worker.restart()
    job = edit(worker)
    assert job.status().state is State.SUCCEEDED
    with pytest.raises(ArtifactError):
        _ = job.result(timeout=1).image
    assert job.retry().result(timeout=1).image.size == job.result(timeout=1).image.size == (64, 64)


def made_again_with_other_bytes(worker: InlineWorker, job: JobHandle, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let another job make the lost result of `job` again, as a worker with other software does. Return its key."""
    key = job.status().artifact_keys[Artifact.RESULT]
    worker.object_store.delete(key)
    monkeypatch.setattr(pipeline, "software", lambda: {"torch": "newer"})
    other = job.retry().status()
    assert other.artifact_keys[Artifact.RESULT] == key
    assert other.contents[Artifact.RESULT] != job.status().contents[Artifact.RESULT]
    return key


def test_an_artifact_that_another_job_made_again_with_other_bytes_is_shown(worker: InlineWorker, monkeypatch) -> None:
    job = worker.edit()
    pixels = job.result(timeout=1).image.tobytes()
    made_again_with_other_bytes(worker, job, monkeypatch)
    result = job.result(timeout=1)
    assert result.image.tobytes() == pixels
    assert result.manifest["software"] == {"torch": "newer"}


def test_a_change_after_an_artifact_was_made_again_is_found(worker: InlineWorker, monkeypatch) -> None:
    job = worker.edit()
    change(worker, made_again_with_other_bytes(worker, job, monkeypatch))
    with pytest.raises(ArtifactError):
        _ = job.result(timeout=1).image


def test_the_memory_of_a_worker_does_not_hide_that_an_artifact_was_made_again(worker: InlineWorker) -> None:
    worker.restart(cache_bytes=10**6)
    first = worker.edit().status()
    key = first.artifact_keys[Artifact.MASK]
    other = tampered(worker.object_store.get(key))

    def make_again_elsewhere(job: Job) -> None:
        worker.object_store.put(key, other)
        record = worker.job_store._state
        record.contents[key] = content_of(other)
        record.records[job.id]["content:mask"] = f"{content_of(other)} 1"

    worker.before_stage = once_before(Stage.INVERT, make_again_elsewhere)
    job = worker.edit(guidance_scale=3.0)
    assert job.status().attempts == dict.fromkeys(job.status().stages, 1)
    assert job.result(timeout=1).mask.tobytes() == CODECS[Artifact.MASK].decode(other).tobytes()


# A worker of 0.2.0 neither writes contents nor removes those that it finds.


@pytest.mark.parametrize("artifact", [Artifact.EMBEDDINGS, Artifact.MASK, Artifact.TRAJECTORY])
def test_a_content_of_an_attempt_before_an_old_workers_is_no_damage(worker: InlineWorker, artifact: Artifact) -> None:
    stage = STAGE_OF[artifact]
    reader = next(each for each in Stage if artifact in each.needs)

    def made_again_by_an_old_worker(job: Job) -> None:
        record = worker.job_store._state.records[job.id]
        # The content is the first attempt's; the old worker made the artifact in the second one.
        record[f"attempts:{stage.value}"] = "2"
        record[f"content:{artifact.value}"] = f"{content_of(b'other bytes')} 1"

    worker.before_stage = once_before(reader, made_again_by_an_old_worker)
    status = worker.edit().status()
    assert status.state is State.SUCCEEDED
    assert artifact not in status.contents
    assert status.attempts[reader] == 1


@pytest.mark.parametrize("known", [True, False])
def test_an_artifact_that_an_old_worker_made_again_for_another_job_costs_one_attempt_at_most(
    worker: InlineWorker, known: bool
) -> None:
    def made_again_by_an_old_worker(job: Job) -> None:
        state, status = worker.job_store._state, worker.job_store.status(job.id)
        key = status.artifact_keys[Artifact.MASK]
        worker.object_store.put(key, tampered(worker.object_store.get(key)))
        assert state.contents[key] == status.contents[Artifact.MASK]
        if not known:
            del state.contents[key]

    worker.before_stage = once_before(Stage.EDIT, made_again_by_an_old_worker)
    status = worker.edit().status()
    assert status.state is State.SUCCEEDED
    assert status.attempts[Stage.MASK] == 2


def test_an_artifact_that_an_old_worker_made_is_accepted_and_its_content_is_known_from_then_on(
    worker: InlineWorker,
) -> None:
    first = edit(worker)
    state = worker.job_store._state
    state.contents.clear()
    for name in [name for name in state.records[first.id] if name.startswith("content:")]:
        del state.records[first.id][name]
    assert first.status().contents == {}
    assert first.result(timeout=1).image.size == first.result(timeout=1).original.size

    second = edit(worker).status()
    assert second.cache_hits == second.stages
    assert set(second.contents) == set(MADE)
    change(worker, second.artifact_keys[Artifact.TRAJECTORY])
    assert edit(worker).status().created_artifacts == (Artifact.TRAJECTORY,)


def test_the_doubles_of_a_users_tests_record_contents_as_workers_do() -> None:
    client: Client = memory_client()
    job = client.edit(gradient((32, 16)), target_prompt="a bowl of pears")
    succeed(job)
    status = job.status()
    assert status.contents.keys() == status.artifact_keys.keys()
    key = status.artifact_keys[Artifact.RESULT]
    job._object_store.put(key, tampered(job._object_store.get(key)))
    with pytest.raises(ArtifactError):
        _ = job.result(timeout=0).image
