"""A job's artifacts: what is downloaded and uploaded, and what happens when an artifact is damaged."""

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from diffedit.contract.job import Job, State
from diffedit.contract.object_keys import manifest_key
from diffedit.contract.stages import STAGE_OF, Artifact, Stage
from diffedit.errors import ArtifactError, JobFailed
from diffedit.testing import MemoryObjectStore
from diffedit_worker.pipeline import CODECS
from tests.support.inline_worker import QUICK, SAMPLE, TEXTS, InlineWorker, tiny
from tests.support.png_text import read_text

OTHER_TARGET = "a photograph of a ball on a green table"


@pytest.fixture
def worker() -> InlineWorker:
    return InlineWorker()


def record(monkeypatch: pytest.MonkeyPatch, store: MemoryObjectStore, *methods: str) -> list[str]:
    """Return a list to which each call of these methods adds its key."""
    keys: list[str] = []

    def recorded(method: Callable[[str], object]) -> Callable[[str], object]:
        return lambda key: (keys.append(key), method(key))[1]

    for name in methods:
        monkeypatch.setattr(store, name, recorded(getattr(store, name)))
    return keys


def test_a_job_that_stays_on_one_worker_downloads_only_its_picture(worker: InlineWorker, monkeypatch) -> None:
    worker.restart(cache_bytes=10**6)
    downloads = record(monkeypatch, worker.object_store, "get")
    job = worker.edit()
    assert downloads == [job.status().request.image]
    downloads.clear()
    worker.edit(target_prompt=OTHER_TARGET)
    assert downloads == []


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


@pytest.mark.parametrize("damage", [None, b"{"])
def test_a_retry_makes_a_lost_manifest_again(worker: InlineWorker, damage: bytes | None) -> None:
    job = worker.edit()
    intact = job.result(timeout=1).manifest
    key = manifest_key(job.status().artifact_keys[Artifact.RESULT])
    worker.object_store.delete(key) if damage is None else worker.object_store.put(key, damage)
    with pytest.raises(ArtifactError):
        _ = job.result(timeout=1).manifest
    assert job.retry().result(timeout=1).manifest == intact


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
    lookups = record(monkeypatch, worker.object_store, "exists", "get")
    worker.restart(cache_bytes=10**6)
    status = worker.edit().status()
    artifacts = [key.split("/")[1] for key in lookups if key.startswith("artifacts/")]
    assert sorted(artifacts) == ["caption_embedding", "embeddings"]  # all others are made from these
    assert set(status.created_artifacts) == set(status.artifact_keys)
    lookups.clear()
    other = worker.edit(target_prompt=OTHER_TARGET).status()
    assert Artifact.CAPTION_EMBEDDING not in other.created_artifacts
    assert status.artifact_keys[Artifact.TRAJECTORY] in lookups  # the same stage made new embeddings, but no input
    assert other.cache_hits == (Stage.INVERT,)
