"""What every board promises; run over the double in tests/unit and over Redis in tests/integration."""

import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from diffedit.contract.job import ErrorInfo, Job, State
from diffedit.contract.stages import Artifact, Lane, Stage
from diffedit.errors import JobElsewhere, JobNotFound, QueueFull
from diffedit.jobs.store import JobStore, LockResult, MaxAttemptsExceeded
from diffedit.settings import Settings
from tests.support.factories import a_job, a_request, a_worker, done

ME, OTHER = "me", "other"


def opened(job_store: JobStore) -> Job:
    """A new job, and two workers that may take it."""
    job_store.send_heartbeat(a_worker(id=ME))
    job_store.send_heartbeat(a_worker(id=OTHER))
    job = a_job()
    job_store.create_job(job)
    return job


def at_mask(job_store: JobStore) -> Job:
    """A job whose mask is being made by ME."""
    job = opened(job_store)
    job_store.start_stage(job.id, Stage.EMBED, ME)
    job = done(job, Stage.EMBED)
    job_store.complete_stage(job, Stage.EMBED, 0.25, [], ME)
    job_store.start_stage(job.id, Stage.MASK, ME)
    return job


def until_overdue(job_store: JobStore, *jobs: Job) -> None:
    deadline = time.monotonic() + 30
    while not {job.id for job in jobs} <= set(job_store.overdue_jobs()):
        assert time.monotonic() < deadline, "their time is never over"
        time.sleep(0.02)


class JobStoreBehaviour:
    """Subclasses give a `board` fixture."""

    def test_a_new_job_is_queued(self, job_store: JobStore) -> None:
        job = opened(job_store)
        status = job_store.status(job.id)
        assert status.state is State.QUEUED
        assert not status.is_terminal
        assert status.progress == 0
        assert status.request == job.request

    def test_an_unknown_job_is_not_found(self, job_store: JobStore) -> None:
        unknown = a_job()
        for ask in (
            lambda: job_store.status(unknown.id),
            lambda: job_store.start_stage(unknown.id, Stage.EMBED, ME),
            lambda: job_store.report_step(unknown.id, 1, 2, ME),
            lambda: job_store.complete_stage(done(unknown, Stage.EMBED), Stage.EMBED, 0.1, [Artifact.EMBEDDINGS], ME),
            lambda: job_store.requeue(unknown),
            lambda: job_store.end_job(unknown.id, State.CANCELLED),
        ):
            with pytest.raises(JobNotFound, match=unknown.id):
                ask()
        with pytest.raises(JobNotFound):  # and none of these has made a record
            job_store.status(unknown.id)

    def test_who_begins_a_stage_hears_what_the_record_says(self, job_store: JobStore) -> None:
        job = opened(job_store)
        begun = job_store.start_stage(job.id, Stage.EMBED, ME)
        assert begun == job_store.status(job.id)
        assert (begun.job, begun.attempts) == (job, {Stage.EMBED: 1})

    def test_a_stage_is_begun_stepped_and_done(self, job_store: JobStore) -> None:
        job = at_mask(job_store)
        assert job_store.report_step(job.id, 1, 2, ME) is None
        status = job_store.status(job.id)
        assert status.state is State.RUNNING
        assert (status.stage, status.stage_index, status.step, status.steps) == (Stage.MASK, 1, 1, 2)
        assert status.progress == pytest.approx(1.5 / 4, abs=1e-3)
        assert status.started_at >= status.created_at
        assert status.worker == ME

        job = done(job, Stage.MASK)
        assert job_store.complete_stage(job, Stage.MASK, 1.5, [Artifact.MASK], ME) == (None, [])
        status = job_store.status(job.id)
        assert status.progress == pytest.approx(2 / 4)
        assert status.timings == {Stage.EMBED: 0.25, Stage.MASK: 1.5}
        assert (status.cache_hits, status.created_artifacts) == ((Stage.EMBED,), (Artifact.MASK,))
        assert status.artifact_keys == job.artifact_keys

    def test_the_last_stage_is_the_success(self, job_store: JobStore) -> None:
        job = at_mask(job_store)
        for stage in (Stage.MASK, Stage.INVERT, Stage.EDIT):
            job = done(job, stage)
            job_store.complete_stage(job, stage, 1.0, stage.gives, ME)
            if stage is not Stage.EDIT:
                assert not job_store.status(job.id).is_terminal
                job_store.start_stage(job.id, job.stages_left[0], ME)
        assert job_store.status(job.id).state is State.SUCCEEDED
        assert job_store.status(job.id).finished_at is not None

    def test_a_job_is_in_one_workers_hands(self, job_store: JobStore) -> None:
        job = at_mask(job_store)
        made = done(job, Stage.MASK)
        for ask in (
            lambda: job_store.start_stage(job.id, Stage.MASK, OTHER),
            lambda: job_store.report_step(job.id, 1, 2, OTHER),
            lambda: job_store.complete_stage(made, Stage.MASK, 1.0, [Artifact.MASK], OTHER),
            lambda: job_store.requeue(job, OTHER),
            lambda: job_store.requeue(job),
            lambda: job_store.end_job(job.id, State.FAILED, worker=OTHER),
        ):
            with pytest.raises(JobElsewhere, match=job.id):
                ask()
        assert job_store.status(job.id).attempts == {Stage.EMBED: 1, Stage.MASK: 1}
        job_store.complete_stage(made, Stage.MASK, 1.0, [Artifact.MASK], ME)
        assert job_store.start_stage(job.id, Stage.INVERT, OTHER).worker == OTHER

    def test_only_the_stage_that_a_job_waits_for_begins(self, job_store: JobStore) -> None:
        job = done(at_mask(job_store), Stage.MASK)
        job_store.complete_stage(job, Stage.MASK, 1.0, [Artifact.MASK], ME)
        for stage in (Stage.EMBED, Stage.MASK, Stage.EDIT):  # messages that came late, or early
            with pytest.raises(JobElsewhere):
                job_store.start_stage(job.id, stage, ME)

    def test_the_job_of_a_dead_worker_is_lost_and_found(self, job_store: JobStore) -> None:
        job = at_mask(job_store)
        assert job.id not in job_store.orphaned_jobs(grace=60)
        job_store.unregister(ME)
        assert job.id in job_store.orphaned_jobs(grace=60)
        assert job_store.requeue(job) is None
        assert job.id not in job_store.orphaned_jobs(grace=60)
        # The dead worker was only asleep: what it does now is refused.
        with pytest.raises(JobElsewhere):
            job_store.report_step(job.id, 1, 2, ME)
        assert job_store.start_stage(job.id, Stage.MASK, OTHER).worker == OTHER
        with pytest.raises(JobElsewhere):
            job_store.complete_stage(done(job, Stage.MASK), Stage.MASK, 1.0, [Artifact.MASK], ME)
        assert job_store.status(job.id).attempts[Stage.MASK] == 2

    def test_a_message_for_a_dead_workers_job_is_enough(self, job_store: JobStore) -> None:
        job = at_mask(job_store)
        job_store.unregister(ME)
        assert job_store.start_stage(job.id, Stage.MASK, OTHER).worker == OTHER

    def test_a_job_that_waits_without_a_message_is_lost(self, job_store: JobStore) -> None:
        job = opened(job_store)
        assert job.id not in job_store.orphaned_jobs(grace=60)
        assert job.id in job_store.orphaned_jobs(grace=0)
        job_store.start_stage(job.id, Stage.EMBED, ME)
        assert job.id not in job_store.orphaned_jobs(grace=0)
        job_store.end_job(job.id, State.CANCELLED)
        assert job.id not in job_store.orphaned_jobs(grace=0)

    def test_a_job_handed_back_waits_as_if_it_had_not_been_begun(self, job_store: JobStore) -> None:
        job = at_mask(job_store)
        assert job_store.requeue(job, ME, refund=True) is None
        assert job_store.status(job.id).attempts == {Stage.EMBED: 1, Stage.MASK: 0}
        assert job_store.start_stage(job.id, Stage.MASK, OTHER).worker == OTHER

    def test_a_job_handed_back_without_an_artifact_forgets_the_stage(self, job_store: JobStore) -> None:
        job = at_mask(job_store)
        assert job_store.requeue(job.without_artifact(Artifact.EMBEDDINGS), ME) is None
        status = job_store.status(job.id)
        assert (status.artifact_keys, status.timings) == ({}, {})
        assert job_store.start_stage(job.id, Stage.EMBED, ME).worker == ME
        assert job_store.status(job.id).attempts == {Stage.EMBED: 2, Stage.MASK: 1}

    def test_attempts_are_counted_per_stage_and_end(self, job_store: JobStore) -> None:
        job = at_mask(job_store)
        for _ in range(2):
            job_store.requeue(job, ME)
            job_store.start_stage(job.id, Stage.MASK, ME)
        assert job_store.status(job.id).attempts == {Stage.EMBED: 1, Stage.MASK: 3}
        job_store.requeue(job, ME)
        with pytest.raises(MaxAttemptsExceeded) as caught:
            job_store.start_stage(job.id, Stage.MASK, ME)
        assert caught.value.cause == "worker_lost"
        job_store.record_cause(job.id, Stage.MASK, "timeout")
        with pytest.raises(MaxAttemptsExceeded) as caught:
            job_store.start_stage(job.id, Stage.MASK, ME)
        assert caught.value.cause == "timeout"

    @pytest.mark.parametrize("other", [ME, OTHER])
    def test_an_artifact_is_made_for_one_job_and_the_others_are_told(self, job_store: JobStore, other: str) -> None:
        job, key = at_mask(job_store), f"artifacts/{uuid.uuid4().hex}"
        assert job_store.acquire_locks([key], job.id, ME) is LockResult.GRANTED
        assert job_store.acquire_locks([key], job.id, ME) is LockResult.GRANTED
        waiting = [opened(job_store).id for _ in range(2)]
        for each in (*waiting, waiting[0]):
            assert job_store.acquire_locks([key], each, other) is LockResult.TAKEN
        assert job_store.release_locks([key], waiting[0], other) == []
        assert sorted(job_store.release_locks([key], job.id, ME)) == sorted(waiting)
        assert job_store.release_locks([key], job.id, ME) == []
        # Who found it missing before it was there shall look again.
        assert job_store.acquire_locks([key], waiting[0], other) is LockResult.JUST_MADE

    def test_who_waits_for_an_artifact_is_told_when_the_job_advances(self, job_store: JobStore) -> None:
        job = at_mask(job_store)
        made = job.with_artifacts({Artifact.MASK: f"artifacts/mask/{uuid.uuid4().hex}.png"})
        waiting, key = opened(job_store).id, made.artifact_keys[Artifact.MASK]
        job_store.acquire_locks([key], job.id, ME)
        assert job_store.acquire_locks([key], waiting, OTHER) is LockResult.TAKEN
        assert job_store.complete_stage(made, Stage.MASK, 1.0, [Artifact.MASK], ME) == (None, [waiting])
        assert job_store.acquire_locks([key], waiting, OTHER) is LockResult.JUST_MADE

    def test_of_several_artifacts_all_are_claimed_or_none(self, job_store: JobStore) -> None:
        job, (first, second) = at_mask(job_store), (f"artifacts/{uuid.uuid4().hex}" for _ in range(2))
        assert job_store.acquire_locks([second], job.id, ME) is LockResult.GRANTED
        waiting = opened(job_store).id
        assert job_store.acquire_locks([first, second], waiting, OTHER) is LockResult.TAKEN
        assert job_store.acquire_locks([first], job.id, ME) is LockResult.GRANTED
        assert job_store.release_locks([first, second], job.id, ME) == [waiting]

    def test_a_dead_worker_makes_nothing(self, job_store: JobStore) -> None:
        other, job, key = opened(job_store), at_mask(job_store), f"artifacts/{uuid.uuid4().hex}"
        assert job_store.acquire_locks([key], job.id, ME) is LockResult.GRANTED
        job_store.unregister(ME)
        assert job_store.acquire_locks([key], other.id, OTHER) is LockResult.GRANTED

    def test_a_worker_makes_nothing_for_a_job_that_it_has_let_go(self, job_store: JobStore) -> None:
        job, key = at_mask(job_store), f"artifacts/{uuid.uuid4().hex}"
        assert job_store.acquire_locks([key], job.id, ME) is LockResult.GRANTED
        job_store.requeue(job, ME)  # and what would have ended the claim did not reach the board
        assert job_store.acquire_locks([key], opened(job_store).id, OTHER) is LockResult.GRANTED

    def test_retries_are_counted(self, job_store: JobStore) -> None:
        job = at_mask(job_store)
        for _ in range(2):
            assert job_store.count_retry(job.id, ME) is None
        with pytest.raises(JobElsewhere):
            job_store.count_retry(job.id, OTHER)
        assert job_store.status(job.id).retries == 2
        job_store.end_job(job.id, State.CANCELLED)
        assert job_store.count_retry(job.id, ME) is State.CANCELLED

    def test_a_job_that_nobody_begins_in_time_expires(self, job_store: JobStore) -> None:
        job_store.send_heartbeat(a_worker(id=ME))
        late, punctual = a_job(start_timeout=0.5), a_job(start_timeout=0.5)
        for job in (late, punctual):
            job_store.create_job(job)
        assert job_store.expire_job(late.id) is None
        job_store.start_stage(punctual.id, Stage.EMBED, ME)
        until_overdue(job_store, late)
        assert job_store.start_stage(late.id, Stage.EMBED, ME).state is State.EXPIRED
        assert job_store.status(late.id).state is State.EXPIRED
        assert job_store.end_job(late.id, State.CANCELLED) is State.EXPIRED
        assert late.id not in job_store.orphaned_jobs(grace=0)
        assert job_store.expire_job(punctual.id) is None
        assert not {late.id, punctual.id} & set(job_store.overdue_jobs())

    def test_a_job_that_is_not_done_by_its_deadline_expires_at_its_next_step(self, job_store: JobStore) -> None:
        job_store.send_heartbeat(a_worker(id=ME))
        jobs = [a_job(deadline=0.5, start_timeout=60) for _ in range(3)]
        for job in jobs:
            job_store.create_job(job)
            job_store.start_stage(job.id, Stage.EMBED, ME)
            assert job_store.report_step(job.id, 1, 2, ME) is None
        until_overdue(job_store, *jobs)
        stepped, finished, watched = jobs
        assert job_store.report_step(stepped.id, 2, 2, ME) is State.EXPIRED
        assert (
            job_store.complete_stage(done(finished, Stage.EMBED), Stage.EMBED, 1.0, [Artifact.EMBEDDINGS], ME).outcome
            is State.EXPIRED
        )
        assert job_store.status(watched.id).state is State.EXPIRED
        assert not {job.id for job in jobs} & set(job_store.jobs_held_by(ME))

    def test_a_lane_takes_so_many_jobs(self, job_store: JobStore) -> None:
        job_store._settings = Settings(max_queued=3)
        job_store.send_heartbeat(a_worker(id=ME))
        model, key = f"m{uuid.uuid4().hex[:8]}", uuid.uuid4().hex

        def wanted(lane: Lane = Lane.INTERACTIVE, profile: str = model) -> Job:
            return a_job(a_request(params={"profile": profile}), lane=lane)

        jobs = [wanted() for _ in range(3)]
        job_store.create_job(jobs[0], key)
        for job in jobs[1:]:
            job_store.create_job(job)
        job_store.start_stage(jobs[1].id, Stage.EMBED, ME)
        job_store.complete_stage(
            done(jobs[1], Stage.EMBED), Stage.EMBED, 1.0, [Artifact.EMBEDDINGS], ME
        )  # waits for another stage: counts as well
        refused = wanted()
        with pytest.raises(QueueFull, match="interactive lane"):
            job_store.create_job(refused, uuid.uuid4().hex)
        with pytest.raises(JobNotFound):
            job_store.status(refused.id)
        assert job_store.create_job(wanted(), key) == jobs[0].id
        job_store.create_job(wanted(Lane.BATCH))
        job_store.create_job(wanted(profile="another"))
        job_store.start_stage(jobs[0].id, Stage.EMBED, ME)
        job_store.create_job(refused)

    def test_what_has_not_ended_is_listed(self, job_store: JobStore) -> None:
        running, ended, waiting = at_mask(job_store), opened(job_store), opened(job_store)
        job_store.end_job(ended.id, State.CANCELLED)
        listed = {status.id: status for status in job_store.unfinished_jobs()}
        assert {running.id, waiting.id} <= listed.keys()
        assert ended.id not in listed
        assert listed[running.id] == job_store.status(running.id)

    def test_what_a_worker_holds_is_known(self, job_store: JobStore) -> None:
        job = at_mask(job_store)
        assert job_store.jobs_held_by(ME) == [job.id]
        assert job_store.jobs_held_by(OTHER) == []
        job_store.requeue(job, ME)
        assert job_store.jobs_held_by(ME) == []

    def test_one_worker_at_a_time_looks_after_lost_jobs(self, job_store: JobStore) -> None:
        assert job_store.acquire_leadership(ME, seconds=60)
        assert job_store.acquire_leadership(ME, seconds=60)
        assert not job_store.acquire_leadership(OTHER, seconds=60)

    @pytest.mark.parametrize("outcome", [State.SUCCEEDED, State.FAILED, State.CANCELLED, State.EXPIRED])
    def test_the_first_outcome_wins_and_ends_the_writing(self, job_store: JobStore, outcome: State) -> None:
        job = opened(job_store)
        error = ErrorInfo(stage=Stage.MASK, code="empty_mask", message="nothing to edit")
        assert job_store.end_job(job.id, outcome, error) is outcome
        for later in (State.SUCCEEDED, State.FAILED, State.CANCELLED):
            assert job_store.end_job(job.id, later) is outcome
        assert job_store.start_stage(job.id, Stage.EMBED, ME).state is outcome
        assert job_store.report_step(job.id, 1, 2, ME) is outcome
        assert (
            job_store.complete_stage(done(job, Stage.EMBED), Stage.EMBED, 1.0, [Artifact.EMBEDDINGS], ME).outcome
            is outcome
        )
        assert job_store.requeue(job) is outcome

        status = job_store.status(job.id)
        assert status.state is outcome
        assert status.is_terminal
        assert status.error == error
        assert (status.stage, status.attempts, status.artifact_keys) == (None, {}, {})
        assert status.finished_at >= status.created_at

    def test_of_racing_outcomes_one_wins_and_all_hear_of_it(self, job_store: JobStore) -> None:
        job = opened(job_store).id
        with ThreadPoolExecutor(8) as pool:
            heard = set(
                pool.map(lambda i: job_store.end_job(job, [State.SUCCEEDED, State.CANCELLED][i % 2]), range(16))
            )
        assert heard == {job_store.status(job).state}

    def test_of_racing_workers_one_gets_the_job(self, job_store: JobStore) -> None:
        job = opened(job_store).id

        def taken(number: int) -> bool:
            job_store.send_heartbeat(a_worker(id=f"racer{number}"))
            try:
                return job_store.start_stage(job, Stage.EMBED, f"racer{number}").worker == f"racer{number}"
            except JobElsewhere:
                return False

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(taken, range(16))).count(True) == 1

    def test_the_same_key_gives_the_first_job(self, job_store: JobStore) -> None:
        key = uuid.uuid4().hex
        with ThreadPoolExecutor(8) as pool:
            ids = set(pool.map(lambda _: job_store.create_job(a_job(), key), range(16)))
        assert len(ids) == 1
        assert [status.id for status in job_store.list_jobs()].count(ids.pop()) == 1

    def test_a_job_that_is_opened_again_goes_on(self, job_store: JobStore) -> None:
        # As when the answer to the first call was lost on its way.
        job = a_job()
        assert job_store.create_job(job) == job.id
        job_store.send_heartbeat(a_worker())
        job_store.start_stage(job.id, Stage.EMBED, "rig")
        assert job_store.create_job(job) == job.id
        assert job_store.jobs_held_by("rig") == [job.id]
        assert job.id not in job_store.orphaned_jobs(grace=0)

    def test_a_discarded_job_frees_its_key(self, job_store: JobStore) -> None:
        key, first, second = uuid.uuid4().hex, a_job(), a_job()
        job_store.create_job(first, key)
        job_store.discard_job(first.id)
        assert job_store.create_job(second, key) == second.id
        with pytest.raises(JobNotFound):
            job_store.status(first.id)
        assert first.id not in job_store.orphaned_jobs(grace=0)

    def test_jobs_are_listed_newest_first_and_by_state(self, job_store: JobStore) -> None:
        jobs = [opened(job_store).id for _ in range(5)]
        job_store.end_job(jobs[1], State.CANCELLED)
        job_store.end_job(jobs[3], State.CANCELLED)
        assert [status.id for status in job_store.list_jobs(limit=5)] == jobs[::-1]
        assert [status.id for status in job_store.list_jobs(limit=2)] == [jobs[4], jobs[3]]
        assert [status.id for status in job_store.list_jobs(State.CANCELLED, limit=2)] == [jobs[3], jobs[1]]

    def test_workers_come_and_go(self, job_store: JobStore) -> None:
        worker = a_worker(id=uuid.uuid4().hex, job="ab" * 16, memory=5)
        job_store.send_heartbeat(worker)
        assert worker in job_store.workers()
        job_store.unregister(worker.id)
        assert worker not in job_store.workers()

    def test_empty_queues_have_no_depth(self, job_store: JobStore) -> None:
        name = f"queue-{uuid.uuid4().hex}"
        assert job_store.queue_lengths([name]) == {name: 0}
        job_store.ping()
