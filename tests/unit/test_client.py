"""The client over the memory doubles: what it queues, what it refuses, what it raises."""

import time
from datetime import timedelta

import pytest

from diffedit import (
    BadPicture,
    Collected,
    InvalidRequest,
    JobOptions,
    Lane,
    NoWorkerWarning,
    QueueFull,
    WorkerInfo,
)
from diffedit.contract.stages import queue_names
from tests.support.fake_service import TEXTS, FakeService, png


@pytest.fixture
def service() -> FakeService:
    return FakeService()


def test_a_queued_job_contains_the_whole_request(service: FakeService) -> None:
    handle = service.client.edit(png(), **TEXTS, strength=0.5)
    (job,) = service.sent
    assert job.id == handle.id
    assert service.object_store.get(job.request.image) == png()
    assert job.request.params.profile == "tiny"
    assert job.request.params.strength == 0.5
    assert handle.status().request == job.request


@pytest.mark.parametrize(
    ("picture", "asked", "error", "reason"),
    [
        (b"", TEXTS, BadPicture, "empty"),
        (b"GIF89a", TEXTS, BadPicture, "PNG, JPEG or WebP"),
        ("no/such.png", TEXTS, BadPicture, "cannot read"),
        (png(), {}, InvalidRequest, "target_prompt"),
        (png(), {**TEXTS, "strength": 2}, InvalidRequest, "strength"),
        (png(), {**TEXTS, "num_steps": 5}, InvalidRequest, "num_steps"),
        (png(), {**TEXTS, "mask": png((8, 8))}, BadPicture, "8 x 8"),
        (png(), {**TEXTS, "mask": png(colour="black")}, BadPicture, "selects nothing"),
        (png(), {**TEXTS, "mask": b"x"}, BadPicture, "mask"),
        (png((4, 4)), TEXTS, BadPicture, "at least"),
        (png(), {**TEXTS, "profile": "../x"}, InvalidRequest, "profile"),
        (png(), {**TEXTS, "idempotency_key": ""}, InvalidRequest, "idempotency_key"),
        (png(), {**TEXTS, "idempotency_key": "x" * 201}, InvalidRequest, "idempotency_key"),
    ],
)
def test_a_bad_request_is_refused_and_leaves_nothing(service: FakeService, picture, asked, error, reason) -> None:
    with pytest.raises(error, match=reason):
        service.client.edit(picture, **asked)
    assert service.sent == []
    assert service.client.jobs() == []
    assert service.object_store._objects == {}


def test_two_calls_with_the_same_key_queue_one_job(service: FakeService) -> None:
    first, second = (service.client.edit(png(), **TEXTS, idempotency_key="k") for _ in range(2))
    assert first.id == second.id
    assert len(service.sent) == 1


def test_the_default_profile_is_the_configured_one_else_the_served_one() -> None:
    assert FakeService().client.edit(png(), **TEXTS).status().request.params.profile == "tiny"
    alone = FakeService()
    alone.worker_registry.unregister("tiny")
    alone.serve("sd21")
    assert alone.client.edit(png(), **TEXTS).status().request.params.profile == "sd21"
    configured = FakeService(profile="sd15")
    with pytest.warns(NoWorkerWarning, match="now served: tiny"):
        assert configured.client.edit(png(), **TEXTS).status().request.params.profile == "sd15"


def test_a_job_whose_workers_are_paused_waits_with_a_warning_that_says_so(service: FakeService) -> None:
    service.serve("tiny", paused=True)
    with pytest.warns(NoWorkerWarning, match=r"diffedit\.tiny\.diffusion.* are paused \(tiny@here\), so the job waits"):
        service.client.edit(png(), **TEXTS)


def test_edit_many_queues_all_edits_or_none(service: FakeService) -> None:
    with pytest.raises(InvalidRequest, match="nothing to change"):
        service.client.edit_many(png(), ["a bowl of pears", "a bowl"], source_prompt="a bowl")
    assert service.sent == []
    with pytest.raises(InvalidRequest, match="each edit its own"):
        service.client.edit_many(png(), ["a bowl of pears"], source_prompt="a bowl", idempotency_key="k")
    jobs = service.client.edit_many(
        png(), ["a bowl of pears", {"target_prompt": "a basket", "strength": 0.4}], source_prompt="a bowl"
    )
    assert len(jobs) == len(service.sent) == 2
    assert service.sent[0].request.params.seed == service.sent[1].request.params.seed
    assert [job.request.params.strength for job in service.sent] == [0.8, 0.4]


def test_a_mask_preview_takes_the_arguments_of_an_edit(service: FakeService) -> None:
    jobs = [service.client.preview_mask(png(), **TEXTS, strength=0.5, idempotency_key="k") for _ in range(2)]
    assert jobs[0].id == jobs[1].id
    assert service.sent[0].request.goal == "mask"
    for wrong in ({"goal": "result"}, {"params": {}}, {"num_steps": 3}):
        with pytest.raises(InvalidRequest, match=next(iter(wrong))):
            service.client.preview_mask(png(), **TEXTS, **wrong)
    with pytest.raises(InvalidRequest, match="nothing to compute"):
        service.client.preview_mask(png(), **TEXTS, mask=png(colour="white"))


def test_health_names_the_queues_that_no_worker_reads(service: FakeService) -> None:
    assert service.client.health().ok
    service.worker_registry.unregister("tiny")
    info = WorkerInfo(id="half", name="half@here", profile="tiny", device="cpu", queues=("diffedit.tiny.language",))
    service.worker_registry.send_heartbeat(info)
    health = service.client.health()
    assert not health.ok
    assert health.unserved == tuple(sorted({*queue_names("tiny")} - {"diffedit.tiny.language"}))


def test_a_job_and_its_retry_have_the_given_options(service: FakeService) -> None:
    job = service.client.edit(png(), **TEXTS, lane="batch", start_timeout=5, deadline=60)
    assert job.status().options == JobOptions(lane=Lane.BATCH, start_timeout=5, deadline=60)
    job.cancel()
    assert job.retry().status().options == job.status().options
    assert service.sent[0].queue == "diffedit.tiny.language.batch"
    with pytest.raises(InvalidRequest, match="lane"):
        service.client.edit(png(), **TEXTS, lane="fast")
    with pytest.raises(InvalidRequest, match="deadline"):
        service.client.edit(png(), **TEXTS, deadline=0)
    assert len(service.sent) == 2


def test_a_full_lane_refuses_further_jobs() -> None:
    service = FakeService(max_queued=2)
    for _ in range(2):
        service.client.edit(png(), **TEXTS)
    with pytest.raises(QueueFull, match="2 jobs wait in the interactive lane"):
        service.client.edit(png(), **TEXTS)
    assert len(service.sent) == 2


def test_an_unknown_state_is_refused(service: FakeService) -> None:
    with pytest.raises(InvalidRequest, match="none of queued, running"):
        service.client.jobs(state="lost")


def test_only_a_job_that_has_ended_can_be_retried(service: FakeService) -> None:
    job = service.client.edit(png(), **TEXTS)
    with pytest.raises(InvalidRequest, match="queued"):
        job.retry()
    job.cancel()
    retried = job.retry()
    assert retried.id != job.id
    assert service.sent[1].request == service.sent[0].request


def test_garbage_is_old_and_needed_by_no_unfinished_job(service: FakeService) -> None:
    needed, ended, young = png(colour="red"), png(colour="blue"), png(colour="white")
    waiting = service.client.edit(needed, **TEXTS)
    done = service.client.edit(ended, **TEXTS)
    done.cancel()
    for key, (since, data) in list(service.object_store._objects.items()):
        service.object_store._objects[key] = (since - 3 * 24 * 3600, data)
    service.client.edit(young, **TEXTS).cancel()
    gone = done.status().request.image

    found = service.client.collect_garbage("2d", dry_run=True)
    assert found == Collected(objects=1, bytes=len(ended), in_use=1)
    assert service.object_store.exists(gone)
    assert service.client.collect_garbage("2d") == found
    assert not service.object_store.exists(gone)
    assert service.object_store.exists(waiting.status().request.image)
    assert service.client.collect_garbage(timedelta(days=2)).objects == 0


def test_uploads_are_garbage_after_a_day(service: FakeService) -> None:
    hours = {1: "young", 23: "young", 25: "old", 24 * 40: "old"}
    keys = {}
    for age in hours:
        keys[age] = service.client.upload_url("image/png", size=1).key
        service.object_store.put(keys[age], b"x")
        service.object_store._objects[keys[age]] = (time.time() - age * 3600, b"x")
    picture = service.client.edit(png(), **TEXTS)
    picture.cancel()
    key = picture.status().request.image
    service.object_store._objects[key] = (time.time() - 25 * 3600, png())
    assert service.client.collect_garbage("30d") == Collected(objects=2, bytes=2, in_use=0)
    assert {age for age, key in keys.items() if service.object_store.exists(key)} == {1, 23}
    assert service.object_store.exists(key)
    assert service.client.collect_garbage("02:00:00") == Collected(objects=2, bytes=1 + len(png()), in_use=0)


@pytest.mark.parametrize("age", ["soon", "", "00:59:00", timedelta(minutes=59), "-30d"])
def test_an_invalid_age_is_refused(service: FakeService, age) -> None:
    with pytest.raises(InvalidRequest, match="older_than"):
        service.client.collect_garbage(age)


@pytest.mark.parametrize("targets", [{"target_prompt": "a bowl of pears"}, "a bowl of pears", 5, [1], [None]])
def test_targets_that_are_no_list_of_targets_are_refused(targets) -> None:
    service = FakeService()
    with pytest.raises(InvalidRequest, match="targets: "):
        service.client.edit_many(png(), targets)
    assert service.sent == []
