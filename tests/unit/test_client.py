"""The client over the memory doubles: what it queues, what it refuses, what it raises."""

import pickle
from datetime import timedelta
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from diffedit import (
    BadPicture,
    BrokerUnavailable,
    Client,
    Collected,
    InvalidRequest,
    JobCancelled,
    JobExpired,
    JobFailed,
    JobOptions,
    JobStatus,
    JobTimeout,
    Lane,
    NoWorkerWarning,
    QueueFull,
    Settings,
    Stage,
    State,
    WorkerInfo,
)
from diffedit.contract.job import ErrorInfo, Job
from diffedit.contract.stages import queue_names
from diffedit.testing import MemoryObjectStore, memory_backend

TEXTS = {"source_prompt": "a bowl of fruits", "target_prompt": "a bowl of pears"}


class Desk:
    """A client, and what it has queued."""

    def __init__(self, **settings) -> None:
        self.backend, self.object_store, self.sent = memory_backend(Settings(**settings)), MemoryObjectStore(), []
        self.job_store, self.worker_registry = self.backend.job_store, self.backend.worker_registry
        self.client = Client(Settings(**settings), backend=self.backend, object_store=self.object_store, send=self.send)
        self.serve("tiny")

    def send(self, job: Job) -> None:
        self.sent.append(job)

    def serve(self, profile: str) -> None:
        info = {"id": profile, "name": f"{profile}@here", "profile": profile, "queues": queue_names(profile)}
        self.worker_registry.send_heartbeat(WorkerInfo(**info, device="cpu"))


@pytest.fixture
def desk() -> Desk:
    return Desk()


def png(size: tuple[int, int] = (32, 24), colour: str = "green") -> bytes:
    buffer = BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def test_what_is_queued_says_everything(desk: Desk) -> None:
    handle = desk.client.edit(png(), **TEXTS, strength=0.5)
    (job,) = desk.sent
    assert job.id == handle.id
    assert desk.object_store.get(job.request.image) == png()
    assert job.request.params.profile == "tiny"
    assert job.request.params.strength == 0.5
    assert handle.status().request == job.request


@pytest.mark.parametrize("form", ["path", "str", "bytes", "pil", "pil with alpha"])
def test_a_picture_comes_in_any_form(desk: Desk, tmp_path: Path, form: str) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(png())
    picture = {
        "path": path,
        "str": str(path),
        "bytes": png(),
        "pil": Image.new("RGB", (32, 24)),
        "pil with alpha": Image.new("RGBA", (32, 24)),
    }[form]
    desk.client.edit(picture, **TEXTS)
    assert desk.sent[0].request.image.endswith(".png")


def test_a_jpeg_is_stored_as_it_came(desk: Desk) -> None:
    buffer = BytesIO()
    Image.new("RGB", (32, 24)).save(buffer, "JPEG")
    desk.client.edit(buffer.getvalue(), **TEXTS)
    assert desk.sent[0].request.image.endswith(".jpg")
    assert desk.object_store.get(desk.sent[0].request.image) == buffer.getvalue()


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
def test_a_bad_request_is_refused_and_leaves_nothing(desk: Desk, picture, asked, error, reason) -> None:
    with pytest.raises(error, match=reason):
        desk.client.edit(picture, **asked)
    assert desk.sent == []
    assert desk.client.jobs() == []
    assert desk.object_store._objects == {}


def test_a_broker_that_fails_at_the_last_moment_leaves_no_record() -> None:
    desk = Desk()
    failing = Client(Settings(), backend=desk.backend, object_store=desk.object_store, send=gone)
    with pytest.raises(BrokerUnavailable):
        failing.edit(png(), **TEXTS)
    assert desk.client.jobs() == []


def test_with_a_key_the_record_stays_for_whoever_asks_with_it_and_a_keeper_sends_it() -> None:
    desk = Desk()
    failing = Client(Settings(), backend=desk.backend, object_store=desk.object_store, send=gone)
    with pytest.raises(BrokerUnavailable):
        failing.edit(png(), **TEXTS, idempotency_key="k")
    again = desk.client.edit(png(), **TEXTS, idempotency_key="k")
    assert [status.id for status in desk.client.jobs()] == [again.id] == desk.job_store.orphaned_jobs(grace=0)


def gone(job: Job) -> None:
    raise BrokerUnavailable("gone")


def test_the_same_key_queues_once(desk: Desk) -> None:
    first, second = (desk.client.edit(png(), **TEXTS, idempotency_key="k") for _ in range(2))
    assert first.id == second.id
    assert len(desk.sent) == 1


def test_the_profile_is_the_configured_one_else_the_served_one() -> None:
    assert Desk().client.edit(png(), **TEXTS).status().request.params.profile == "tiny"
    alone = Desk()
    alone.worker_registry.unregister("tiny")
    alone.serve("sd21")
    assert alone.client.edit(png(), **TEXTS).status().request.params.profile == "sd21"
    configured = Desk(profile="sd15")
    with pytest.warns(NoWorkerWarning, match="now served: tiny"):
        assert configured.client.edit(png(), **TEXTS).status().request.params.profile == "sd15"


def test_several_targets_are_queued_together_or_not_at_all(desk: Desk) -> None:
    with pytest.raises(InvalidRequest, match="nothing to change"):
        desk.client.edit_many(png(), ["a bowl of pears", "a bowl"], source_prompt="a bowl")
    assert desk.sent == []
    with pytest.raises(InvalidRequest, match="each edit its own"):
        desk.client.edit_many(png(), ["a bowl of pears"], source_prompt="a bowl", idempotency_key="k")
    jobs = desk.client.edit_many(
        png(), ["a bowl of pears", {"target_prompt": "a basket", "strength": 0.4}], source_prompt="a bowl"
    )
    assert len(jobs) == len(desk.sent) == 2
    assert desk.sent[0].request.params.seed == desk.sent[1].request.params.seed
    assert [job.request.params.strength for job in desk.sent] == [0.8, 0.4]


def test_a_preview_takes_what_an_edit_takes(desk: Desk) -> None:
    jobs = [desk.client.preview_mask(png(), **TEXTS, strength=0.5, idempotency_key="k") for _ in range(2)]
    assert jobs[0].id == jobs[1].id
    assert desk.sent[0].request.goal == "mask"
    for wrong in ({"goal": "result"}, {"params": {}}, {"num_steps": 3}):
        with pytest.raises(InvalidRequest, match=next(iter(wrong))):
            desk.client.preview_mask(png(), **TEXTS, **wrong)
    with pytest.raises(InvalidRequest, match="leave one out"):
        desk.client.preview_mask(png(), **TEXTS, mask=png(colour="white"))


def test_a_wait_raises_how_the_job_ended(desk: Desk) -> None:
    failed, cancelled, expired, running = (desk.client.edit(png(), **TEXTS) for _ in range(4))
    error = ErrorInfo(stage=Stage.MASK, code="empty_mask", message="no difference")
    desk.job_store.end_job(failed.id, State.FAILED, error)
    cancelled.cancel()
    desk.job_store.end_job(expired.id, State.EXPIRED)

    with pytest.raises(JobFailed, match="no difference") as caught:
        failed.result(timeout=1)
    raised = caught.value
    assert (raised.job_id, raised.stage, raised.failure) == (failed.id, "mask", "empty_mask")
    with pytest.raises(JobCancelled, match=cancelled.id):
        cancelled.wait(timeout=1)
    with pytest.raises(JobExpired, match=expired.id):
        expired.wait(timeout=1)
    with pytest.raises(JobTimeout, match=running.id):
        running.wait(timeout=0.05)


def test_health_names_the_queues_that_nobody_reads(desk: Desk) -> None:
    assert desk.client.health().ok
    desk.worker_registry.unregister("tiny")
    info = WorkerInfo(id="half", name="half@here", profile="tiny", device="cpu", queues=("diffedit.tiny.language",))
    desk.worker_registry.send_heartbeat(info)
    health = desk.client.health()
    assert not health.ok
    assert health.unserved == tuple(sorted({*queue_names("tiny")} - {"diffedit.tiny.language"}))


def test_how_a_job_is_served_travels_with_it_and_with_its_retry(desk: Desk) -> None:
    job = desk.client.edit(png(), **TEXTS, lane="batch", start_timeout=5, deadline=60)
    assert job.status().options == JobOptions(lane=Lane.BATCH, start_timeout=5, deadline=60)
    job.cancel()
    assert job.retry().status().options == job.status().options
    assert desk.sent[0].queue == "diffedit.tiny.language.batch"
    with pytest.raises(InvalidRequest, match="lane"):
        desk.client.edit(png(), **TEXTS, lane="fast")
    with pytest.raises(InvalidRequest, match="deadline"):
        desk.client.edit(png(), **TEXTS, deadline=0)
    assert len(desk.sent) == 2


def test_an_expired_job_says_which_limit_it_met(desk: Desk) -> None:
    for options, met in (
        ({"start_timeout": 1, "deadline": 9}, "start_timeout of 1 s"),
        ({"deadline": 9}, "deadline of 9 s"),
    ):
        job = desk.client.edit(png(), **TEXTS, **options)
        desk.job_store.end_job(job.id, State.EXPIRED)
        with pytest.raises(JobExpired, match=met):
            job.wait(timeout=1)


def test_a_full_lane_refuses_further_jobs_and_nothing_is_sent() -> None:
    desk = Desk(max_queued=2)
    for _ in range(2):
        desk.client.edit(png(), **TEXTS)
    with pytest.raises(QueueFull, match="2 jobs wait in the interactive lane"):
        desk.client.edit(png(), **TEXTS)
    assert len(desk.sent) == 2


def test_an_unknown_state_is_refused(desk: Desk) -> None:
    with pytest.raises(InvalidRequest, match="none of queued, running"):
        desk.client.jobs(state="lost")


def test_only_what_has_ended_can_be_retried(desk: Desk) -> None:
    job = desk.client.edit(png(), **TEXTS)
    with pytest.raises(InvalidRequest, match="queued"):
        job.retry()
    job.cancel()
    retried = job.retry()
    assert retried.id != job.id
    assert desk.sent[1].request == desk.sent[0].request


def test_garbage_is_what_is_old_and_nobody_needs(desk: Desk) -> None:
    needed, ended, young = png(colour="red"), png(colour="blue"), png(colour="white")
    waiting = desk.client.edit(needed, **TEXTS)
    done = desk.client.edit(ended, **TEXTS)
    done.cancel()
    for key, (since, data) in list(desk.object_store._objects.items()):
        desk.object_store._objects[key] = (since - 3 * 24 * 3600, data)
    desk.client.edit(young, **TEXTS).cancel()
    gone = done.status().request.image

    found = desk.client.collect_garbage("2d", dry_run=True)
    assert found == Collected(objects=1, bytes=len(ended), in_use=1)
    assert desk.object_store.exists(gone)
    assert desk.client.collect_garbage("2d") == found
    assert not desk.object_store.exists(gone)
    assert desk.object_store.exists(waiting.status().request.image)
    assert desk.client.collect_garbage(timedelta(days=2)).objects == 0


@pytest.mark.parametrize("age", ["soon", "", "00:59:00", timedelta(minutes=59), "-30d"])
def test_an_age_that_is_none_or_too_short_is_refused(desk: Desk, age) -> None:
    with pytest.raises(InvalidRequest, match="older_than"):
        desk.client.collect_garbage(age)


def does_not_answer(desk: Desk, monkeypatch, times: int) -> None:
    """The job store does not answer the next few times that it is asked for a status."""
    answer, left = desk.job_store.status, iter(range(times))

    def status(job_id: str) -> JobStatus:
        if next(left, None) is not None:
            raise BrokerUnavailable("away")
        return answer(job_id)

    monkeypatch.setattr(desk.job_store, "status", status)


@pytest.mark.parametrize("progress", [False, True])
def test_a_wait_outlasts_a_server_that_restarts(monkeypatch, progress: bool) -> None:
    desk = Desk()
    job = desk.client.edit(png(), **TEXTS)
    desk.job_store.end_job(job.id, State.SUCCEEDED)
    does_not_answer(desk, monkeypatch, 3)
    assert job.wait(timeout=60, progress=progress).state is State.SUCCEEDED


def test_a_server_that_stays_away_ends_a_wait(monkeypatch) -> None:
    desk = Desk()
    job = desk.client.edit(png(), **TEXTS)
    does_not_answer(desk, monkeypatch, 10**6)
    with pytest.raises(BrokerUnavailable):
        job.status()
    with pytest.raises(BrokerUnavailable):
        job.wait(timeout=0.1)
    monkeypatch.setattr("diffedit.handle.PATIENCE", 0.1)
    with pytest.raises(BrokerUnavailable):
        job.wait(timeout=10**6)


def test_errors_about_jobs_travel_between_processes() -> None:
    failed = JobFailed("id", stage="mask", failure="empty_mask", message="no difference")
    for error in (failed, JobTimeout("id", "late"), JobCancelled("id")):
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))
