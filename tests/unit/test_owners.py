"""Deletion of jobs with their objects, garbage collection of what is kept, and whose artifacts a worker finds."""

import time
from datetime import timedelta

import pytest

from diffedit import Client, InvalidRequest, JobHandle, JobNotFound, OwnerLimit, OwnerLimits, Stage, testing
from diffedit.contract.object_keys import SUBMISSIONS, companion_keys, upload_folder
from diffedit.contract.stages import Artifact
from diffedit.errors import JobError
from diffedit.testing import memory_client
from diffedit_worker.pipeline import cache_key
from tests.support.factories import a_job
from tests.support.fake_service import TEXTS, png
from tests.support.inline_worker import InlineWorker


@pytest.fixture
def client() -> Client:
    return memory_client()


def stored(client: Client) -> set[str]:
    """Return the keys of pictures, artifacts and uploads."""
    return {key for key in client._object_store._objects if not key.startswith(SUBMISSIONS)}


def succeeded(client: Client, picture: bytes | None = None, **options: object) -> JobHandle:
    job = client.edit(picture or png(), **{**TEXTS, **options})
    testing.succeed(job)
    return job


def objects_of(job: JobHandle) -> set[str]:
    status = job.status()
    named = {status.request.image, *status.artifact_keys.values()}
    return named | {each for key in named for each in companion_keys(key)}


def older(client: Client, by: timedelta) -> None:
    """Let everything that is stored be older."""
    objects = client._object_store._objects
    for key, (at, data) in objects.items():
        objects[key] = (at - by.total_seconds(), data)


def test_a_deleted_job_leaves_no_object_but_those_of_texts(client: Client) -> None:
    job = succeeded(client, owner="u1")
    kinds = {key.split("/")[1] for key in objects_of(job) if key.startswith("artifacts/")}
    assert kinds > {"result", "mask"}
    job.delete()
    assert {key.split("/")[1] for key in stored(client)} == {"embeddings", "caption_embedding"}
    assert client.collect_garbage("1d").objects == 2
    assert not stored(client) and not client._job_store.kept_objects()
    for call in (job.status, job.delete, job.cancel):
        with pytest.raises(JobNotFound):
            call()


def test_a_picture_that_another_job_uses_stays(client: Client) -> None:
    job, other = (succeeded(client, owner="u1") for _ in range(2))
    job.delete()
    assert objects_of(other) <= stored(client)
    assert other.result().image.size == other.result().original.size
    other.delete()
    assert {key.split("/")[1] for key in stored(client)} == {"embeddings", "caption_embedding"}


def test_garbage_collection_deletes_what_a_deletion_could_not(client: Client, monkeypatch) -> None:
    job = succeeded(client)
    with monkeypatch.context() as away:
        away.setattr(client._object_store, "delete", lambda key: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            job.delete()
    assert stored(client)
    assert client.collect_garbage("30d", dry_run=True).objects == len(stored(client))
    client.collect_garbage("30d")
    assert not stored(client)


def test_what_is_kept_is_collected_when_the_time_is_over_and_not_before(client: Client) -> None:
    kept, other = succeeded(client, owner="u1", keep=7 * 24 * 3600), succeeded(client, png((40, 40)))
    open_job = client.edit(png((50, 50)), **TEXTS)
    needed = objects_of(kept) | {open_job.status().request.image}
    older(client, timedelta(days=2))
    gone = objects_of(other)
    collected = client.collect_garbage("1d")
    assert (collected.objects, collected.in_use) == (len(gone), len(needed))
    assert stored(client) == needed
    state = client._job_store._state
    for key in state.kept:
        state.kept[key] = time.time() - 1
    state.records.pop(kept.id)  # as when its time is over
    assert client.collect_garbage("30d").objects == len(needed) - 1
    assert stored(client) == {open_job.status().request.image}


def test_what_was_kept_stays_as_long_as_another_record_mentions_it(client: Client) -> None:
    first = succeeded(client, owner="u1", keep=60)
    second = client.edit(png(), **TEXTS, owner="u1")
    second.cancel()
    state = client._job_store._state
    for key in state.kept:
        state.kept[key] = time.time() - 1
    state.records.pop(first.id)
    client.collect_garbage("30d")
    assert stored(client) == {second.status().request.image}


def test_all_of_an_owner_includes_its_uploads(client: Client) -> None:
    mine, others = client.for_owner("u1"), client.for_owner("u2")
    for each in (mine, others):
        testing.upload(client, each.upload_url("image/png", size=len(png())), png())
    succeeded(mine)
    kept = succeeded(others)
    deleted = mine.delete_owner("u1")
    assert (deleted.jobs, deleted.objects) == (1, 9)
    assert not [key for key in stored(client) if key.startswith(upload_folder("u1"))]
    assert objects_of(kept) <= stored(client)


def test_limits_reach_the_caller_before_anything_runs(client: Client) -> None:
    client.set_owner_limits("u1", OwnerLimits(max_pixels=32 * 24, max_steps=20))
    mine = client.for_owner("u1")
    mine.edit(png((32, 24)), **TEXTS, num_inference_steps=20)
    with pytest.raises(OwnerLimit, match="768 pixels"):
        mine.edit(png((33, 24)), **TEXTS, num_inference_steps=20)
    with pytest.raises(OwnerLimit, match="20 steps"):
        mine.edit(png((32, 24)), **TEXTS, num_inference_steps=21)
    assert len(mine.jobs()) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"owner": ""}, "owner"),
        ({"owner": "x" * 201}, "owner"),
        ({"owner": "two\nlines"}, "owner"),
        ({"owner": 17}, "owner"),
        ({"tags": {"": "x"}}, "tags"),
        ({"tags": {"a=b": "x"}}, "tags"),
        ({"tags": {"a": "x" * 101}}, "tags"),
        ({"tags": {"a": "\x1b"}}, "tags"),
        ({"tags": {"a": 9}}, "tags"),
        ({"tags": {str(n): "" for n in range(11)}}, "tags"),
        ({"tags": ["album"]}, "tags"),
        ({"keep": 59}, "keep"),
        ({"keep": float("nan")}, "keep"),
        ({"keep": 366 * 24 * 3600}, "keep"),
    ],
)
def test_what_is_no_owner_no_tag_and_no_time_is_refused(client: Client, options: dict, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        client.edit(png(), **TEXTS, **options)
    assert client.jobs() == []


@pytest.mark.parametrize("owner", ["", "x" * 201, "a\x00", None, 17])
def test_there_is_no_client_of_what_is_no_owner(client: Client, owner: object) -> None:
    for call in (client.for_owner, client.delete_owner):
        with pytest.raises(InvalidRequest, match="owner"):
            call(owner)
    if owner is not None:
        for call in (client.owner_limits, client.set_owner_limits, lambda owner: client.jobs(owner=owner)):
            with pytest.raises(InvalidRequest, match="owner"):
                call(owner)


def test_equal_texts_of_two_owners_are_two_artifacts() -> None:
    worker = InlineWorker()
    keys = [
        cache_key(Stage.EMBED, Artifact.EMBEDDINGS, a_job(owner=owner), worker.models_of("tiny"))
        for owner in (None, "u1", "u2", "u1")
    ]
    assert len(set(keys)) == 3 and keys[1] == keys[3]


def test_an_owners_job_finds_its_own_artifacts_and_no_others() -> None:
    worker = InlineWorker()
    first, again, others = (worker.edit(owner=owner).status() for owner in ("u1", "u1", "u2"))
    assert first.cache_hits == others.cache_hits == ()
    assert again.cache_hits == again.stages
    assert not set(first.artifact_keys.values()) & set(others.artifact_keys.values())
    one, other = (worker.client.job(each.id).result() for each in (first, others))
    assert one.image.tobytes() == other.image.tobytes()


def test_what_is_stored_for_a_job_that_is_deleted_meanwhile_is_removed(monkeypatch) -> None:
    worker = InlineWorker()
    complete = worker.job_store.complete_stage

    def delete_first(job, stage, *args, **kwargs):
        if stage is Stage.EDIT:
            worker.client.job(job.id).delete()
        return complete(job, stage, *args, **kwargs)

    monkeypatch.setattr(worker.job_store, "complete_stage", delete_first)
    with pytest.raises(JobError):
        worker.edit(owner="u1").status()
    kinds = {key.split("/")[1] for key in worker.object_store._objects}
    assert kinds == {"embeddings", "caption_embedding"}
