"""What an administrator sees and does, over the memory doubles."""

from datetime import UTC, datetime, timedelta

import pytest

from diffedit import Client, InvalidRequest, JobHandle, JobNotFound, OwnerLimits, Stage, State, testing
from diffedit.contract.job import ErrorInfo
from diffedit.contract.object_keys import submission_key
from diffedit.contract.stages import queue_name, queue_names
from diffedit.errors import CannotChange, UnknownProfile
from diffedit.jobs.workers import Trouble, TroubleKind
from diffedit.submission_copies import read_copy
from diffedit.testing import memory_client
from tests.support.factories import a_worker
from tests.support.fake_service import TEXTS, png

LOST = ErrorInfo(stage=Stage.MASK, code="worker_lost", message="It was lost.")
QUEUE = queue_name("tiny", Stage.EMBED.group)


@pytest.fixture
def client() -> Client:
    client = memory_client()
    for worker in client.health().workers:
        client._backend.worker_registry.unregister(worker.id)
    client._backend.worker_registry.send_heartbeat(a_worker(id="w1", name="gpu-1@here", batch_jobs=4))
    return client


def submit(client: Client, **options: object) -> JobHandle:
    return client.edit(png(), **{**TEXTS, **options})


def fail(client: Client, error: ErrorInfo = LOST, **options: object) -> JobHandle:
    job = submit(client, **options)
    client._job_store.end_job(job.id, State.FAILED, error)
    return job


def why(client: Client, job: JobHandle) -> str:
    return " ".join(client.admin.why(job.id).reasons)


def test_an_owner_is_no_administrator(client: Client) -> None:
    with pytest.raises(InvalidRequest, match="admin is not about one owner"):
        _ = client.for_owner("u1").admin


def test_failed_jobs_start_over_and_succeed_under_their_ids(client: Client) -> None:
    lost, other, done = fail(client), fail(client, LOST.model_copy(update={"code": "empty_mask"})), submit(client)
    testing.succeed(done)
    (changed,) = client.admin.retry(state="failed", code="worker_lost", dry_run=True)
    assert (changed.id, changed.done, lost.status().state) == (lost.id, True, State.FAILED)
    assert [each.id for each in client.admin.retry(code="worker_lost", since="1h")] == [lost.id]
    assert (lost.status().state, other.status().state, done.status().state) == ("queued", "failed", "succeeded")
    testing.succeed(lost)
    assert lost.result().image.size == lost.result().original.size
    assert client.admin.retry(code="worker_lost") == []


def test_a_job_that_waits_again_can_be_restored_again(client: Client) -> None:
    job, store = fail(client, owner="u1"), client._object_store
    client._job_store.forget_settled([job.id])  # as the leader does,
    store.delete(submission_key(job.id))  # which has deleted the copy
    client.admin.retry(job.id)
    copy = read_copy(store, job.id)
    assert copy and (copy.owner, copy.created) == ("u1", job.status().created_at.timestamp())
    assert not client._job_store.is_settled(job.id)
    testing.succeed(job)
    assert client._job_store.is_settled(job.id)
    with pytest.raises(CannotChange):
        client.admin.retry(job.id)


def test_what_cannot_be_retried_says_why(client: Client) -> None:
    waiting, done, gone, failed = submit(client), submit(client), fail(client), fail(client)
    testing.succeed(done)
    client._object_store.delete(gone.status().request.image)
    for job, reason in [
        (waiting, "it is queued"),
        (done, "it has succeeded"),
        (gone, "its picture is not in the bucket"),
    ]:
        for dry_run in (True, False):
            with pytest.raises(CannotChange, match=reason) as caught:
                client.admin.retry(job.id, dry_run=dry_run)
            assert (caught.value.code, caught.value.job_id) == ("cannot_change", job.id)
    for unknown in ("ab" * 16, "none"):
        with pytest.raises(JobNotFound):
            client.admin.retry(unknown)
    client._object_store.put(failed.status().request.image, png())
    found = client.admin.retry(waiting.id, failed.id, "ab" * 16, "none")
    assert [(each.done, each.error) for each in found] == [
        (False, "cannot_change"),
        (True, None),
        (False, "job_not_found"),
        (False, "job_not_found"),
    ]
    assert failed.status().state is State.QUEUED


def test_a_job_whose_time_is_over_is_retried_without_its_limits(client: Client) -> None:
    job = submit(client, deadline=0.001)
    with pytest.raises(Exception, match="exceeded"):
        job.wait(5)
    for dry_run in (True, False):
        with pytest.raises(CannotChange, match="time limit is over"):
            client.admin.retry(job.id, dry_run=dry_run)
    assert client.admin.retry(job.id, no_deadline=True, dry_run=True)[0].done
    assert client.admin.retry(job.id, no_deadline=True)[0].done
    assert job.status().options.deadline is None
    testing.succeed(job)


def test_jobs_are_cancelled_by_what_they_have_in_common(client: Client) -> None:
    mine, theirs, ended = submit(client, owner="u1"), submit(client, owner="u2"), fail(client, owner="u1")
    running = submit(client, owner="u1")
    client._job_store.start_stage(running.id, Stage.EMBED, "w1")
    assert {each.id for each in client.admin.cancel(owner="u1", dry_run=True)} == {mine.id, running.id}
    assert mine.status().state is State.QUEUED
    assert [each.id for each in client.admin.cancel(owner="u1", limit=1)] == [mine.id]
    assert [each.id for each in client.admin.cancel(owner="u1")] == [running.id]
    assert (theirs.status().state, ended.status().state) == (State.QUEUED, State.FAILED)
    for dry_run in (True, False):
        with pytest.raises(CannotChange, match="ended already: failed"):
            client.admin.cancel(ended.id, dry_run=dry_run)


def test_jobs_that_wait_are_moved_to_an_announced_profile(client: Client) -> None:
    job, running = submit(client), submit(client)
    client._job_store.start_stage(running.id, Stage.EMBED, "w1")
    with pytest.raises(UnknownProfile):
        client.admin.move(job.id, to="other")
    registry = client._backend.worker_registry
    registry.send_heartbeat(a_worker(id="w2", name="gpu-2@here", profile="other", queues=queue_names("other")))
    assert [each.id for each in client.admin.move(to="other", profile="tiny", dry_run=True)] == [job.id]
    assert job.status().request.params.profile == "tiny"
    assert [each.id for each in client.admin.move(to="other", profile="tiny")] == [job.id]
    assert job.status().request.params.profile == "other"
    with pytest.raises(CannotChange, match="in profile other already"):
        client.admin.move(job.id, to="other")
    with pytest.raises(CannotChange, match="a worker runs a stage of it"):
        client.admin.move(running.id, to="other")
    registry.send_heartbeat(a_worker(id="w0", name="old@here", contract=1))
    back = submit(client)
    with pytest.raises(CannotChange, match=r"old@here .*upgrade"):
        client.admin.move(back.id, to="other")
    assert client._job_store.start_stage(job.id, Stage.EMBED, "w2").state is State.RUNNING


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"state": "gone"}, "state"),
        ({"stage": "paint"}, "stage"),
        ({"since": "soon"}, "since"),
        ({"older_than": timedelta(-1)}, "older_than"),
        ({"tag": 7}, "tag"),
        ({"colour": "red"}, "colour"),
        ({}, "name the jobs"),
    ],
)
def test_a_query_that_is_not_valid_changes_nothing(client: Client, query: dict, message: str) -> None:
    job = fail(client)
    for call in (client.admin.retry, client.admin.cancel):
        with pytest.raises(InvalidRequest, match=message):
            call(**query)
    with pytest.raises(InvalidRequest, match="not both"):
        client.admin.retry(job.id, code="worker_lost")
    assert job.status().state is State.FAILED


def test_many_jobs_are_changed_in_slices(client: Client) -> None:
    jobs = [fail(client) for _ in range(203)]
    assert len(client.admin.retry(state="failed", limit=2)) == 2
    assert {each.id for each in client.admin.retry(state="failed")} == {job.id for job in jobs[:-2]}
    assert client.admin.jobs(state="failed") == []
    assert len(client.admin.jobs(300, state="queued")) == 203


@pytest.mark.parametrize("text", ["90s", "30m", "2h", "1d", "PT2H", timedelta(hours=2)])
def test_ages_are_written_in_the_usual_ways(client: Client, text: str | timedelta) -> None:
    job = fail(client)
    assert [status.id for status in client.admin.jobs(since=text)] == [job.id]
    assert client.admin.jobs(older_than=text) == []


def test_queues_have_counts_workers_and_pauses(client: Client) -> None:
    waiting, running = submit(client), submit(client)
    client._job_store.start_stage(running.id, Stage.EMBED, "w1")
    assert client.admin.pause(group="diffusion", lane="batch", reason="new driver") == ["diffedit.tiny.diffusion.batch"]
    by_name = {queue.name: queue for queue in client.admin.queues()}
    assert list(by_name) == [
        "diffedit.tiny.language",
        "diffedit.tiny.diffusion",
        "diffedit.tiny.language.batch",
        "diffedit.tiny.diffusion.batch",
    ]
    queue = by_name[QUEUE]
    assert (queue.waiting, queue.running, queue.workers, queue.paused_since) == (1, 1, ("gpu-1@here",), None)
    assert 0 <= queue.oldest <= 60
    paused = by_name["diffedit.tiny.diffusion.batch"]
    assert (paused.paused_reason, paused.oldest) == ("new driver", None)
    assert abs(paused.paused_since - datetime.now(UTC)) < timedelta(minutes=1)
    assert waiting.status().state is State.QUEUED


def test_pauses_are_shown_by_health_until_they_are_resumed(client: Client) -> None:
    assert client.health().ok
    names = client.admin.pause(profile="tiny", group="language", lane="interactive", reason="new models", dry_run=True)
    assert names == [QUEUE] and client.health().ok
    client.admin.pause(profile="tiny", group="language", lane="interactive", reason="new models")
    health = client.health()
    assert not health.ok and health.unserved == (QUEUE,)
    assert health.paused[QUEUE].reason == "new models"
    assert client.admin.resume(lane="batch") == []
    assert client.admin.resume(dry_run=True) == [QUEUE] and not client.health().ok
    assert client.admin.resume() == [QUEUE]
    assert client.health().ok
    with pytest.raises(UnknownProfile):
        client.admin.pause(profile="nosuch", reason="x")
    for wrong in ({"group": "music"}, {"lane": "fast"}, {"reason": ""}, {"reason": "two\nlines"}):
        with pytest.raises(InvalidRequest):
            client.admin.pause(**{"reason": "x", **wrong})


def test_a_pause_of_another_profile_is_shown_and_does_not_count(client: Client) -> None:
    queues = queue_names("other")
    client._backend.worker_registry.send_heartbeat(a_worker(id="w2", profile="other", queues=queues))
    client._settings = client._settings.model_copy(update={"profile": "tiny"})
    client.admin.pause(profile="other", reason="x")
    assert client.health().ok and set(client.health().paused) == set(queues)


def test_a_worker_is_drained_by_its_name(client: Client) -> None:
    registry = client._backend.worker_registry
    other = a_worker(id="w2", name="gpu-10@here")
    registry.send_heartbeat(other)
    assert client.admin.drain("gpu-1", dry_run=True) == ["gpu-1@here"]
    assert not registry.send_heartbeat(a_worker(id="w1", name="gpu-1@here"))
    assert client.admin.drain("gpu-1") == client.admin.drain("w1") == client.admin.drain("gpu-1@here") == ["gpu-1@here"]
    assert registry.send_heartbeat(a_worker(id="w1", name="gpu-1@here", draining=True, paused=True))
    assert not registry.send_heartbeat(other)
    assert [worker.state for worker in client.admin.workers()] == ["idle", "draining"]
    registry.unregister("w1")
    assert not registry.send_heartbeat(a_worker(id="w3", name="gpu-1@here"))  # it was started again
    with pytest.raises(InvalidRequest, match="live: gpu-10@here, gpu-1@here|live: gpu-1@here, gpu-10@here"):
        client.admin.drain("gpu")
    registry.send_heartbeat(a_worker(id="w0", name="old@here", contract=1))
    with pytest.raises(InvalidRequest, match="SIGTERM"):
        client.admin.drain("old")


def test_the_limits_of_owners(client: Client) -> None:
    client.set_owner_limits("u1", OwnerLimits(max_running=2))
    client.set_owner_limits(None, OwnerLimits(max_queued=9))
    assert client.admin.owners() == {None: OwnerLimits(max_queued=9), "u1": OwnerLimits(max_running=2)}


def test_why_a_job_waits(client: Client) -> None:
    registry = client._backend.worker_registry
    first, job = submit(client), submit(client)
    text = why(client, job)
    assert f"It waits for stage embed in queue {QUEUE} since 20" in text
    assert "1 job is ahead of it." in text
    assert text.endswith("1 live worker reads this queue: gpu-1@here (idle).")
    explained = client.admin.why(job.id)
    assert (explained.stage, explained.queue, explained.ahead, explained.workers) == (
        "embed",
        QUEUE,
        1,
        ("gpu-1@here",),
    )
    client._job_store.start_stage(first.id, Stage.EMBED, "w1")
    registry.send_heartbeat(a_worker(id="w1", name="gpu-1@here", batch_jobs=4, jobs=(first.id,)))
    registry.send_heartbeat(a_worker(id="w2", name="gpu-2@here", paused=True))
    since = datetime(2026, 1, 2, 12, 3, 4, tzinfo=UTC)
    trouble = Trouble(name="gpu-2@here", kind=TroubleKind.PAUSED, code="store_refused", message="No.", since=since)
    registry.report_trouble(trouble)
    assert why(client, job).endswith(
        "2 live workers read this queue: gpu-1@here (busy with 1 of 4 stages), "
        "gpu-2@here (paused since 2026-01-02 12:03:04 UTC: store_refused)."
    )
    assert "Worker gpu-1@here runs stage embed." in why(client, first)
    client.admin.pause(reason="new driver", lane="interactive")
    assert "new driver. `diffedit admin resume --profile tiny --group language --lane interactive`" in why(client, job)


def test_why_a_job_waits_although_a_worker_is_there(client: Client) -> None:
    registry, store = client._backend.worker_registry, client._job_store
    job = submit(client)
    store.start_stage(job.id, Stage.EMBED, "w1")
    store.refuse_stage(job.status().job, Stage.EMBED, "w1", LOST.model_copy(update={"message": "No memory."}))
    assert "gpu-1@here could not run this stage: No memory." in why(client, job)
    registry.unregister("w1")
    assert "No live worker reads this queue; start one for profile tiny." in why(client, job)
    client.set_owner_limits("u1", OwnerLimits(max_running=1))
    busy, parked = submit(client, owner="u1"), submit(client, owner="u1")
    registry.send_heartbeat(a_worker(id="w1"))
    store.start_stage(busy.id, Stage.EMBED, "w1")
    store.park_job(parked.status().job)
    assert "As many jobs of its owner u1 have started as may run at the same time (max_running is 1)." in why(
        client, parked
    )


def test_how_a_job_ended(client: Client) -> None:
    done, lost, cancelled, expired = submit(client), fail(client), submit(client), submit(client, deadline=0.001)
    testing.succeed(done)
    cancelled.cancel()
    with pytest.raises(Exception, match="exceeded"):
        expired.wait(5)
    assert why(client, done).startswith("It succeeded 20")
    assert "in stage mask with worker_lost: It was lost." in why(client, lost)
    assert f"`diffedit admin retry {lost.id}`" in why(client, lost)
    assert "submit another one" in why(client, fail(client, LOST.model_copy(update={"code": "empty_mask"})))
    assert "It was cancelled 20" in why(client, cancelled)
    assert "its deadline of 0.001 s" in why(client, expired) and "--no-deadline" in why(client, expired)
    with pytest.raises(JobNotFound):
        client.admin.why("none")


@pytest.mark.parametrize("query", [{"since": "9" * 5000 + "d"}, {"owner": 5}, {"code": ["x"]}, {"profile": b"tiny"}])
def test_a_query_that_is_none_is_refused(client: Client, query: dict[str, object]) -> None:
    with pytest.raises(InvalidRequest, match=next(iter(query))):
        client.admin.jobs(**query)


def test_a_reason_that_is_no_text_is_refused(client: Client) -> None:
    with pytest.raises(InvalidRequest, match="reason"):
        client.admin.pause(reason=5)
