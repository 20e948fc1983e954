"""A job's artifacts: what is downloaded and uploaded, and what happens when an artifact is damaged."""

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import ImageChops

from diffedit.contract.content import content_of
from diffedit.contract.job import Job, State
from diffedit.contract.object_keys import manifest_key
from diffedit.contract.request import Prompts
from diffedit.contract.stages import STAGE_OF, Artifact, Stage
from diffedit.errors import ArtifactError, JobFailed
from diffedit.masks import read_mask
from diffedit.pictures import encode_png, read_result
from diffedit.testing import MemoryObjectStore
from diffedit_worker.pipeline import CODECS
from tests.support.inline_worker import QUICK, SAMPLE, TEXTS, InlineWorker, tiny
from tests.support.png_text import read_text

OTHER_TARGET = "a photograph of a ball on a green table"


@pytest.fixture
def worker() -> InlineWorker:
    return InlineWorker()


class Downloads:
    """The downloads from a store.

    Attributes:
        asked: the keys of all of them.
        done: the keys of those that found something.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, store: MemoryObjectStore) -> None:
        self.asked: list[str] = []
        self.done: list[str] = []
        self._get = store.get
        monkeypatch.setattr(store, "get", self.get)

    def get(self, key: str) -> bytes:
        self.asked.append(key)
        data = self._get(key)
        self.done.append(key)
        return data

    def clear(self) -> None:
        self.asked.clear()
        self.done.clear()


def test_a_job_that_stays_on_one_worker_downloads_only_its_picture(worker: InlineWorker, monkeypatch) -> None:
    worker.restart(cache_bytes=10**6)
    downloads = Downloads(monkeypatch, worker.object_store)
    job = worker.edit()
    assert downloads.done == [job.status().request.image]
    downloads.clear()
    keys = job.status().artifact_keys
    worker.edit(target_prompt=OTHER_TARGET)
    # What is found is read, although this worker remembers it: the stored file may have changed.
    assert downloads.done == [keys[Artifact.CAPTION_EMBEDDING], keys[Artifact.TRAJECTORY]]


def test_a_picture_is_encoded_once_for_mask_and_inversion(worker: InlineWorker) -> None:
    vae, sizes = tiny("tiny").vae, []
    hook = vae.encoder.register_forward_hook(lambda module, args, output: sizes.append(tuple(args[0].shape)))
    try:
        for name in ("01.png", "02.png", "02.png"):
            worker.client.edit(SAMPLE.with_name(name), **{**TEXTS, **QUICK}).status()
    finally:
        hook.remove()
    assert sizes == [(1, 3, 64, 64)] * 2


def damage_before(
    worker: InlineWorker, stage: Stage, artifact: Artifact, damage: bytes | None, times: int = 1
) -> Callable[[Stage, Job], None]:
    """Return a hook that damages the artifact before the stage, in its first attempts. None deletes the artifact."""
    left = iter(range(times))

    def before_stage(current: Stage, job: Job) -> None:
        if current is stage and next(left, None) is not None:
            status = worker.job_store.status(job.id)
            key = status.artifact_keys.get(artifact) or status.request.image
            worker.object_store.delete(key) if damage is None else worker.object_store.put(key, damage)

    return before_stage


@pytest.mark.parametrize("damage", [None, b"", b"\x80\x04pickle"])
def test_a_damaged_artifact_is_made_again_by_its_stage(worker: InlineWorker, damage: bytes | None) -> None:
    worker.before_stage = damage_before(worker, Stage.MASK, Artifact.EMBEDDINGS, damage)
    status = worker.edit().status()
    assert status.state is State.SUCCEEDED
    assert status.attempts == {Stage.EMBED: 2, Stage.MASK: 2, Stage.INVERT: 1, Stage.EDIT: 1}


@pytest.mark.parametrize("damage", [None, b"", SAMPLE.read_bytes()[:99]])
def test_a_damaged_mask_of_a_stage_is_not_the_users_fault(worker: InlineWorker, damage: bytes | None) -> None:
    worker.before_stage = damage_before(worker, Stage.EDIT, Artifact.MASK, damage)
    status = worker.edit().status()
    assert status.state is State.SUCCEEDED
    assert status.attempts == {Stage.EMBED: 1, Stage.MASK: 2, Stage.INVERT: 2, Stage.EDIT: 2}


def test_an_artifact_that_is_damaged_in_every_attempt_fails_the_job(worker: InlineWorker) -> None:
    worker.before_stage = damage_before(worker, Stage.MASK, Artifact.EMBEDDINGS, b"", times=3)
    job = worker.edit()
    with pytest.raises(JobFailed) as caught:
        job.wait(timeout=1)
    assert (caught.value.stage, caught.value.error_code) == ("embed", "bad_artifact")
    worker.before_stage = lambda stage, job: None
    assert job.retry().status().state is State.SUCCEEDED


def test_a_picture_that_is_not_in_this_workers_bucket_may_be_in_another_ones(worker: InlineWorker) -> None:
    worker.before_stage = damage_before(worker, Stage.MASK, Artifact.IMAGE, None)
    status = worker.edit().status()
    assert (status.state, status.refusal.stage, status.refusal.code) == (State.RUNNING, Stage.MASK, "artifact_missing")


def test_a_damaged_picture_fails_the_job_and_not_the_worker(worker: InlineWorker) -> None:
    worker.before_stage = damage_before(worker, Stage.MASK, Artifact.IMAGE, b"<svg/>")
    job = worker.edit()
    with pytest.raises(JobFailed) as caught:
        job.wait(timeout=1)
    assert (caught.value.stage, caught.value.error_code, caught.value.job_id) == ("mask", "bad_artifact", job.id)
    assert job.status().attempts == {Stage.EMBED: 1, Stage.MASK: 1}
    worker.object_store.put(job.status().request.image, SAMPLE.read_bytes())
    retried = job.retry()
    assert retried.id != job.id
    assert retried.status().state is State.SUCCEEDED


@pytest.mark.parametrize("artifact", [Artifact.CAPTION, Artifact.PROMPTS, Artifact.MASK, Artifact.RESULT])
def test_a_retry_makes_an_artifact_again_that_was_damaged_after_the_job(
    worker: InlineWorker, artifact: Artifact
) -> None:
    job = worker.edit(source_prompt=None)
    key = job.status().artifact_keys[artifact]
    intact = worker.object_store.get(key)
    worker.object_store.put(key, intact[: len(intact) // 2])
    with pytest.raises(ArtifactError, match="retry"):
        getattr(job.result(timeout=1), {Artifact.RESULT: "image"}.get(artifact, artifact.value))
    status = job.retry().status()
    assert status.state is State.SUCCEEDED
    assert set(status.stages) - set(status.cache_hits) == {STAGE_OF[artifact]}
    assert CODECS[artifact].decode(worker.object_store.get(key))


@pytest.mark.parametrize("damage", [None, b"{", b'{"request": {}}'])
def test_a_retry_makes_a_lost_manifest_again(worker: InlineWorker, damage: bytes | None) -> None:
    job = worker.edit()
    key = manifest_key(job.status().artifact_keys[Artifact.RESULT])
    intact = worker.object_store.get(key)
    worker.object_store.delete(key) if damage is None else worker.object_store.put(key, damage)
    asked = job.status().request.model_dump(mode="json")
    assert job.result(timeout=1).manifest == {**json.loads(intact), "request": asked}  # from the file of the result
    assert job.retry().status().state is State.SUCCEEDED
    assert worker.object_store.get(key) == intact


def flipped(artifact: Artifact, data: bytes) -> bytes:
    """Return the file with another value in it. It is as valid as before."""
    match artifact:
        case Artifact.MASK:
            return encode_png(ImageChops.invert(read_mask(data)))
        case Artifact.RESULT:
            picture = read_result(data)
            return encode_png(ImageChops.invert(picture.image), text=picture.text)
        case Artifact.CAPTION:
            return b'"a photograph of something else"'
        case Artifact.PROMPTS:
            return Prompts(source=("one",), target=("another",)).model_dump_json().encode()
    return data[:-4] + bytes([data[-4] ^ 1]) + data[-3:]  # the lowest bit of a float


@pytest.mark.parametrize("artifact", [artifact for artifact in Artifact if artifact is not Artifact.IMAGE])
@pytest.mark.parametrize("cache_bytes", [0, 10**7])
def test_a_valid_file_with_another_value_is_made_again_for_the_next_job(
    worker: InlineWorker, artifact: Artifact, cache_bytes: int
) -> None:
    job = worker.edit(source_prompt=None)
    key = job.status().artifact_keys[artifact]
    intact = worker.object_store.get(key)
    worker.object_store.put(key, flipped(artifact, intact))
    assert CODECS[artifact].decode(worker.object_store.get(key))
    if artifact is Artifact.CAPTION_EMBEDDING:  # only the inversion reads it
        worker.object_store.delete(job.status().artifact_keys[Artifact.TRAJECTORY])
    worker.restart(cache_bytes=cache_bytes)
    # With another guidance the next job needs the artifact; the result is found only with the same one.
    other = worker.edit(source_prompt=None, **({} if artifact is Artifact.RESULT else {"guidance_scale": 3.0}))
    assert other.status().state is State.SUCCEEDED
    assert worker.object_store.get(key) == intact


@pytest.mark.parametrize("artifact", [Artifact.CAPTION, Artifact.PROMPTS, Artifact.MASK, Artifact.RESULT])
def test_a_valid_file_with_another_value_is_never_shown_and_retry_repairs_it(
    worker: InlineWorker, artifact: Artifact, tmp_path: Path
) -> None:
    job = worker.edit(source_prompt=None)
    key = job.status().artifact_keys[artifact]
    intact = worker.object_store.get(key)
    worker.object_store.put(key, flipped(artifact, intact))
    name = {Artifact.RESULT: "image"}.get(artifact, artifact.value)
    with pytest.raises(ArtifactError, match="not those that were stored"):
        getattr(job.result(timeout=1), name)
    if artifact in (Artifact.MASK, Artifact.RESULT):
        with pytest.raises(ArtifactError):
            job.result(timeout=1).save(tmp_path)
    assert getattr(job.retry().result(timeout=1), name)
    assert worker.object_store.get(key) == intact


def test_a_result_that_another_job_made_again_with_other_bytes_is_accepted(worker: InlineWorker) -> None:
    job = worker.edit()
    key = job.status().artifact_keys[Artifact.RESULT]
    made_again = worker.object_store.get(key) + b"as another device makes it"
    worker.object_store.put(key, made_again)
    with pytest.raises(ArtifactError):
        _ = job.result(timeout=1).image
    worker.job_store._state.contents[key] = content_of(made_again)
    assert job.result(timeout=1).image.size == (64, 64)


def test_an_artifact_of_unknown_content_is_accepted_and_known_afterwards(worker: InlineWorker) -> None:
    first = worker.edit().status()
    state = worker.job_store._state
    state.contents.clear()
    state.records[first.id] = {
        name: value for name, value in state.records[first.id].items() if not name.startswith("content:")
    }
    assert worker.client.job(first.id).result(timeout=1).image.size == (64, 64)
    second = worker.edit().status()
    assert set(second.cache_hits) == set(second.stages)
    assert second.contents == first.contents


def test_the_result_carries_its_manifest_in_the_file(worker: InlineWorker, tmp_path: Path) -> None:
    paths = worker.edit().result(timeout=1).save(tmp_path)
    assert sorted(paths) == ["grid", "manifest", "mask", "result"]
    manifest = json.loads(paths["manifest"].read_text())
    assert json.loads(read_text(paths["result"].read_bytes())["diffedit"]) == manifest


class PairedUploads(MemoryObjectStore):
    """Stores an object under one of the `prefixes` only while another such upload runs at the same time."""

    def __init__(self, *prefixes: str) -> None:
        super().__init__()
        self.prefixes, self.barrier = prefixes, threading.Barrier(2)

    def put(self, key: str, data: bytes) -> None:
        if key.startswith(self.prefixes):
            self.barrier.wait(timeout=30)
        super().put(key, data)


def test_the_uploads_of_a_stage_run_at_the_same_time(worker: InlineWorker) -> None:
    worker.object_store = PairedUploads("artifacts/embeddings/", "artifacts/caption_embedding/")
    worker.restart()
    assert worker.edit().status().state is State.SUCCEEDED


def test_an_artifact_with_a_new_input_is_not_looked_up(worker: InlineWorker, monkeypatch) -> None:
    lookups = Downloads(monkeypatch, worker.object_store)
    worker.restart(cache_bytes=10**6)
    status = worker.edit().status()
    artifacts = [key.split("/")[1] for key in lookups.asked if key.startswith("artifacts/")]
    assert sorted(artifacts) == ["caption_embedding", "embeddings"]  # all others are made from these
    assert set(status.created_artifacts) == set(status.artifact_keys)
    lookups.clear()
    other = worker.edit(target_prompt=OTHER_TARGET).status()
    assert Artifact.CAPTION_EMBEDDING not in other.created_artifacts
    assert status.artifact_keys[Artifact.TRAJECTORY] in lookups.asked  # its stage made new embeddings, but no input
    assert other.cache_hits == (Stage.INVERT,)
