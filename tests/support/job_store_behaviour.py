"""What every board promises; run over the double in tests/unit and over Redis in tests/integration."""

import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from diffedit.contract.job import ErrorInfo, Job, State
from diffedit.contract.stages import Artifact, Lane, Stage
from diffedit.errors import JobElsewhere, JobNotFound, QueueFull
from diffedit.jobs.backend import JobBackend
from diffedit.jobs.store import LockResult, MaxAttemptsExceeded
from tests.support.factories import a_job, a_request, a_worker, done

ME, OTHER = "me", "other"


def opened(backend: JobBackend) -> Job:
    """A new job, and two workers that may take it."""
    backend.worker_registry.send_heartbeat(a_worker(id=ME))
    backend.worker_registry.send_heartbeat(a_worker(id=OTHER))
    job = a_job()
    backend.job_store.create_job(job)
    return job


def at_mask(backend: JobBackend) -> Job:
    """A job whose mask is being made by ME."""
    job = opened(backend)
    backend.job_store.start_stage(job.id, Stage.EMBED, ME)
    job = done(job, Stage.EMBED)
    backend.job_store.complete_stage(job, Stage.EMBED, 0.25, [], ME)
    backend.job_store.start_stage(job.id, Stage.MASK, ME)
    return job


def until_overdue(backend: JobBackend, *jobs: Job) -> None:
    deadline = time.monotonic() + 30
    while not {job.id for job in jobs} <= set(backend.job_store.overdue_jobs()):
        assert time.monotonic() < deadline, "their time is never over"
        time.sleep(0.02)


class JobStoreBehaviour:
    """Subclasses give a fixture `make_backend`, which makes an empty backend with other settings."""

    @pytest.fixture
    def backend(self, make_backend: Callable[..., JobBackend]) -> JobBackend:
        return make_backend()

    def test_a_new_job_is_queued(self, backend: JobBackend) -> None:
        job = opened(backend)
        status = backend.job_store.status(job.id)
        assert status.state is State.QUEUED
        assert not status.is_terminal
        assert status.progress == 0
        assert status.request == job.request

    def test_an_unknown_job_is_not_found(self, backend: JobBackend) -> None:
        unknown = a_job()
        for ask in (
            lambda: backend.job_store.status(unknown.id),
            lambda: backend.job_store.start_stage(unknown.id, Stage.EMBED, ME),
            lambda: backend.job_store.report_step(unknown.id, 1, 2, ME),
            lambda: backend.job_store.complete_stage(
                done(unknown, Stage.EMBED), Stage.EMBED, 0.1, [Artifact.EMBEDDINGS], ME
            ),
            lambda: backend.job_store.requeue(unknown),
            lambda: backend.job_store.end_job(unknown.id, State.CANCELLED),
        ):
            with pytest.raises(JobNotFound, match=unknown.id):
                ask()
        with pytest.raises(JobNotFound):  # and none of these has made a record
            backend.job_store.status(unknown.id)

    def test_who_begins_a_stage_hears_what_the_record_says(self, backend: JobBackend) -> None:
        job = opened(backend)
        begun = backend.job_store.start_stage(job.id, Stage.EMBED, ME)
        assert begun == backend.job_store.status(job.id)
        assert (begun.job, begun.attempts) == (job, {Stage.EMBED: 1})

    def test_a_stage_is_begun_stepped_and_done(self, backend: JobBackend) -> None:
        job = at_mask(backend)
        assert backend.job_store.report_step(job.id, 1, 2, ME) is None
        status = backend.job_store.status(job.id)
        assert status.state is State.RUNNING
        assert (status.stage, status.stage_index, status.step, status.steps) == (Stage.MASK, 1, 1, 2)
        assert status.progress == pytest.approx(1.5 / 4, abs=1e-3)
        assert status.started_at >= status.created_at
        assert status.worker == ME

        job = done(job, Stage.MASK)
        assert backend.job_store.complete_stage(job, Stage.MASK, 1.5, [Artifact.MASK], ME) == (None, [])
        status = backend.job_store.status(job.id)
        assert status.progress == pytest.approx(2 / 4)
        assert status.timings == {Stage.EMBED: 0.25, Stage.MASK: 1.5}
        assert (status.cache_hits, status.created_artifacts) == ((Stage.EMBED,), (Artifact.MASK,))
        assert status.artifact_keys == job.artifact_keys

    def test_the_last_stage_is_the_success(self, backend: JobBackend) -> None:
        job = at_mask(backend)
        for stage in (Stage.MASK, Stage.INVERT, Stage.EDIT):
            job = done(job, stage)
            backend.job_store.complete_stage(job, stage, 1.0, stage.gives, ME)
            if stage is not Stage.EDIT:
                assert not backend.job_store.status(job.id).is_terminal
                backend.job_store.start_stage(job.id, job.stages_left[0], ME)
        assert backend.job_store.status(job.id).state is State.SUCCEEDED
        assert backend.job_store.status(job.id).finished_at is not None

    def test_a_job_is_in_one_workers_hands(self, backend: JobBackend) -> None:
        job = at_mask(backend)
        made = done(job, Stage.MASK)
        for ask in (
            lambda: backend.job_store.start_stage(job.id, Stage.MASK, OTHER),
            lambda: backend.job_store.report_step(job.id, 1, 2, OTHER),
            lambda: backend.job_store.complete_stage(made, Stage.MASK, 1.0, [Artifact.MASK], OTHER),
            lambda: backend.job_store.requeue(job, OTHER),
            lambda: backend.job_store.requeue(job),
            lambda: backend.job_store.end_job(job.id, State.FAILED, worker=OTHER),
        ):
            with pytest.raises(JobElsewhere, match=job.id):
                ask()
        assert backend.job_store.status(job.id).attempts == {Stage.EMBED: 1, Stage.MASK: 1}
        backend.job_store.complete_stage(made, Stage.MASK, 1.0, [Artifact.MASK], ME)
        assert backend.job_store.start_stage(job.id, Stage.INVERT, OTHER).worker == OTHER

    def test_only_the_stage_that_a_job_waits_for_begins(self, backend: JobBackend) -> None:
        job = done(at_mask(backend), Stage.MASK)
        backend.job_store.complete_stage(job, Stage.MASK, 1.0, [Artifact.MASK], ME)
        for stage in (Stage.EMBED, Stage.MASK, Stage.EDIT):  # messages that came late, or early
            with pytest.raises(JobElsewhere):
                backend.job_store.start_stage(job.id, stage, ME)

    def test_the_job_of_a_dead_worker_is_lost_and_found(self, backend: JobBackend) -> None:
        job = at_mask(backend)
        assert job.id not in backend.job_store.orphaned_jobs(grace=60)
        backend.worker_registry.unregister(ME)
        assert job.id in backend.job_store.orphaned_jobs(grace=60)
        assert backend.job_store.requeue(job) is None
        assert job.id not in backend.job_store.orphaned_jobs(grace=60)
        # The dead worker was only asleep: what it does now is refused.
        with pytest.raises(JobElsewhere):
            backend.job_store.report_step(job.id, 1, 2, ME)
        assert backend.job_store.start_stage(job.id, Stage.MASK, OTHER).worker == OTHER
        with pytest.raises(JobElsewhere):
            backend.job_store.complete_stage(done(job, Stage.MASK), Stage.MASK, 1.0, [Artifact.MASK], ME)
        assert backend.job_store.status(job.id).attempts[Stage.MASK] == 2

    def test_a_message_for_a_dead_workers_job_is_enough(self, backend: JobBackend) -> None:
        job = at_mask(backend)
        backend.worker_registry.unregister(ME)
        assert backend.job_store.start_stage(job.id, Stage.MASK, OTHER).worker == OTHER

    def test_a_job_that_waits_without_a_message_is_lost(self, backend: JobBackend) -> None:
        job = opened(backend)
        assert job.id not in backend.job_store.orphaned_jobs(grace=60)
        assert job.id in backend.job_store.orphaned_jobs(grace=0)
        backend.job_store.start_stage(job.id, Stage.EMBED, ME)
        assert job.id not in backend.job_store.orphaned_jobs(grace=0)
        backend.job_store.end_job(job.id, State.CANCELLED)
        assert job.id not in backend.job_store.orphaned_jobs(grace=0)

    def test_a_job_handed_back_waits_as_if_it_had_not_been_begun(self, backend: JobBackend) -> None:
        job = at_mask(backend)
        assert backend.job_store.requeue(job, ME, count_attempt=False) is None
        assert backend.job_store.status(job.id).attempts == {Stage.EMBED: 1, Stage.MASK: 0}
        assert backend.job_store.start_stage(job.id, Stage.MASK, OTHER).worker == OTHER

    def test_a_job_handed_back_without_an_artifact_forgets_the_stage(self, backend: JobBackend) -> None:
        job = at_mask(backend)
        assert backend.job_store.requeue(job.without_artifact(Artifact.EMBEDDINGS), ME) is None
        status = backend.job_store.status(job.id)
        assert (status.artifact_keys, status.timings) == ({}, {})
        assert backend.job_store.start_stage(job.id, Stage.EMBED, ME).worker == ME
        assert backend.job_store.status(job.id).attempts == {Stage.EMBED: 2, Stage.MASK: 1}

    def test_attempts_are_counted_per_stage_and_end(self, backend: JobBackend) -> None:
        job = at_mask(backend)
        for _ in range(2):
            backend.job_store.requeue(job, ME)
            backend.job_store.start_stage(job.id, Stage.MASK, ME)
        assert backend.job_store.status(job.id).attempts == {Stage.EMBED: 1, Stage.MASK: 3}
        backend.job_store.requeue(job, ME)
        with pytest.raises(MaxAttemptsExceeded) as caught:
            backend.job_store.start_stage(job.id, Stage.MASK, ME)
        assert caught.value.cause == "worker_lost"
        backend.job_store.record_cause(job.id, Stage.MASK, "timeout")
        with pytest.raises(MaxAttemptsExceeded) as caught:
            backend.job_store.start_stage(job.id, Stage.MASK, ME)
        assert caught.value.cause == "timeout"

    @pytest.mark.parametrize("other", [ME, OTHER])
    def test_an_artifact_is_made_for_one_job_and_the_others_are_told(self, backend: JobBackend, other: str) -> None:
        job, key = at_mask(backend), f"artifacts/{uuid.uuid4().hex}"
        assert backend.artifact_locks.acquire([key], job.id, ME) is LockResult.ACQUIRED
        assert backend.artifact_locks.acquire([key], job.id, ME) is LockResult.ACQUIRED
        waiting = [opened(backend).id for _ in range(2)]
        for each in (*waiting, waiting[0]):
            assert backend.artifact_locks.acquire([key], each, other) is LockResult.LOCKED
        assert backend.artifact_locks.release([key], waiting[0], other) == []
        assert sorted(backend.artifact_locks.release([key], job.id, ME)) == sorted(waiting)
        assert backend.artifact_locks.release([key], job.id, ME) == []
        # Who found it missing before it was there shall look again.
        assert backend.artifact_locks.acquire([key], waiting[0], other) is LockResult.RECENTLY_MADE

    def test_who_waits_for_an_artifact_is_told_when_the_job_advances(self, backend: JobBackend) -> None:
        job = at_mask(backend)
        made = job.with_artifacts({Artifact.MASK: f"artifacts/mask/{uuid.uuid4().hex}.png"})
        waiting, key = opened(backend).id, made.artifact_keys[Artifact.MASK]
        backend.artifact_locks.acquire([key], job.id, ME)
        assert backend.artifact_locks.acquire([key], waiting, OTHER) is LockResult.LOCKED
        assert backend.job_store.complete_stage(made, Stage.MASK, 1.0, [Artifact.MASK], ME) == (None, [waiting])
        assert backend.artifact_locks.acquire([key], waiting, OTHER) is LockResult.RECENTLY_MADE

    def test_of_several_artifacts_all_are_claimed_or_none(self, backend: JobBackend) -> None:
        job, (first, second) = at_mask(backend), (f"artifacts/{uuid.uuid4().hex}" for _ in range(2))
        assert backend.artifact_locks.acquire([second], job.id, ME) is LockResult.ACQUIRED
        waiting = opened(backend).id
        assert backend.artifact_locks.acquire([first, second], waiting, OTHER) is LockResult.LOCKED
        assert backend.artifact_locks.acquire([first], job.id, ME) is LockResult.ACQUIRED
        assert backend.artifact_locks.release([first, second], job.id, ME) == [waiting]

    def test_a_dead_worker_makes_nothing(self, backend: JobBackend) -> None:
        other, job, key = opened(backend), at_mask(backend), f"artifacts/{uuid.uuid4().hex}"
        assert backend.artifact_locks.acquire([key], job.id, ME) is LockResult.ACQUIRED
        backend.worker_registry.unregister(ME)
        assert backend.artifact_locks.acquire([key], other.id, OTHER) is LockResult.ACQUIRED

    def test_a_worker_makes_nothing_for_a_job_that_it_has_let_go(self, backend: JobBackend) -> None:
        job, key = at_mask(backend), f"artifacts/{uuid.uuid4().hex}"
        assert backend.artifact_locks.acquire([key], job.id, ME) is LockResult.ACQUIRED
        backend.job_store.requeue(job, ME)  # and what would have ended the claim did not reach the board
        assert backend.artifact_locks.acquire([key], opened(backend).id, OTHER) is LockResult.ACQUIRED

    def test_retries_are_counted(self, backend: JobBackend) -> None:
        job = at_mask(backend)
        for _ in range(2):
            assert backend.job_store.count_retry(job.id, ME) is None
        with pytest.raises(JobElsewhere):
            backend.job_store.count_retry(job.id, OTHER)
        assert backend.job_store.status(job.id).retries == 2
        backend.job_store.end_job(job.id, State.CANCELLED)
        assert backend.job_store.count_retry(job.id, ME) is State.CANCELLED

    def test_a_job_that_nobody_begins_in_time_expires(self, backend: JobBackend) -> None:
        backend.worker_registry.send_heartbeat(a_worker(id=ME))
        late, punctual = a_job(start_timeout=0.5), a_job(start_timeout=0.5)
        for job in (late, punctual):
            backend.job_store.create_job(job)
        assert backend.job_store.expire_job(late.id) is None
        backend.job_store.start_stage(punctual.id, Stage.EMBED, ME)
        until_overdue(backend, late)
        assert backend.job_store.start_stage(late.id, Stage.EMBED, ME).state is State.EXPIRED
        assert backend.job_store.status(late.id).state is State.EXPIRED
        assert backend.job_store.end_job(late.id, State.CANCELLED) is State.EXPIRED
        assert late.id not in backend.job_store.orphaned_jobs(grace=0)
        assert backend.job_store.expire_job(punctual.id) is None
        assert not {late.id, punctual.id} & set(backend.job_store.overdue_jobs())

    def test_a_job_that_is_not_done_by_its_deadline_expires_at_its_next_step(self, backend: JobBackend) -> None:
        backend.worker_registry.send_heartbeat(a_worker(id=ME))
        jobs = [a_job(deadline=0.5, start_timeout=60) for _ in range(3)]
        for job in jobs:
            backend.job_store.create_job(job)
            backend.job_store.start_stage(job.id, Stage.EMBED, ME)
            assert backend.job_store.report_step(job.id, 1, 2, ME) is None
        until_overdue(backend, *jobs)
        stepped, finished, watched = jobs
        assert backend.job_store.report_step(stepped.id, 2, 2, ME) is State.EXPIRED
        assert (
            backend.job_store.complete_stage(
                done(finished, Stage.EMBED), Stage.EMBED, 1.0, [Artifact.EMBEDDINGS], ME
            ).outcome
            is State.EXPIRED
        )
        assert backend.job_store.status(watched.id).state is State.EXPIRED
        assert not {job.id for job in jobs} & set(backend.job_store.jobs_held_by(ME))

    def test_a_lane_takes_so_many_jobs(self, make_backend: Callable[..., JobBackend]) -> None:
        backend = make_backend(max_queued=3)
        backend.worker_registry.send_heartbeat(a_worker(id=ME))
        model, key = f"m{uuid.uuid4().hex[:8]}", uuid.uuid4().hex

        def wanted(lane: Lane = Lane.INTERACTIVE, profile: str = model) -> Job:
            return a_job(a_request(params={"profile": profile}), lane=lane)

        jobs = [wanted() for _ in range(3)]
        backend.job_store.create_job(jobs[0], key)
        for job in jobs[1:]:
            backend.job_store.create_job(job)
        backend.job_store.start_stage(jobs[1].id, Stage.EMBED, ME)
        backend.job_store.complete_stage(
            done(jobs[1], Stage.EMBED), Stage.EMBED, 1.0, [Artifact.EMBEDDINGS], ME
        )  # waits for another stage: counts as well
        refused = wanted()
        with pytest.raises(QueueFull, match="interactive lane"):
            backend.job_store.create_job(refused, uuid.uuid4().hex)
        with pytest.raises(JobNotFound):
            backend.job_store.status(refused.id)
        assert backend.job_store.create_job(wanted(), key) == jobs[0].id
        backend.job_store.create_job(wanted(Lane.BATCH))
        backend.job_store.create_job(wanted(profile="another"))
        backend.job_store.start_stage(jobs[0].id, Stage.EMBED, ME)
        backend.job_store.create_job(refused)

    def test_what_has_not_ended_is_listed(self, backend: JobBackend) -> None:
        running, ended, waiting = at_mask(backend), opened(backend), opened(backend)
        backend.job_store.end_job(ended.id, State.CANCELLED)
        listed = {status.id: status for status in backend.job_store.unfinished_jobs()}
        assert {running.id, waiting.id} <= listed.keys()
        assert ended.id not in listed
        assert listed[running.id] == backend.job_store.status(running.id)

    def test_what_a_worker_holds_is_known(self, backend: JobBackend) -> None:
        job = at_mask(backend)
        assert backend.job_store.jobs_held_by(ME) == [job.id]
        assert backend.job_store.jobs_held_by(OTHER) == []
        backend.job_store.requeue(job, ME)
        assert backend.job_store.jobs_held_by(ME) == []

    def test_one_worker_at_a_time_looks_after_lost_jobs(self, backend: JobBackend) -> None:
        assert backend.worker_registry.acquire_leadership(ME, seconds=60)
        assert backend.worker_registry.acquire_leadership(ME, seconds=60)
        assert not backend.worker_registry.acquire_leadership(OTHER, seconds=60)

    @pytest.mark.parametrize("outcome", [State.SUCCEEDED, State.FAILED, State.CANCELLED, State.EXPIRED])
    def test_the_first_outcome_wins_and_ends_the_writing(self, backend: JobBackend, outcome: State) -> None:
        job = opened(backend)
        error = ErrorInfo(stage=Stage.MASK, code="empty_mask", message="nothing to edit")
        assert backend.job_store.end_job(job.id, outcome, error) is outcome
        for later in (State.SUCCEEDED, State.FAILED, State.CANCELLED):
            assert backend.job_store.end_job(job.id, later) is outcome
        assert backend.job_store.start_stage(job.id, Stage.EMBED, ME).state is outcome
        assert backend.job_store.report_step(job.id, 1, 2, ME) is outcome
        assert (
            backend.job_store.complete_stage(
                done(job, Stage.EMBED), Stage.EMBED, 1.0, [Artifact.EMBEDDINGS], ME
            ).outcome
            is outcome
        )
        assert backend.job_store.requeue(job) is outcome

        status = backend.job_store.status(job.id)
        assert status.state is outcome
        assert status.is_terminal
        assert status.error == error
        assert (status.stage, status.attempts, status.artifact_keys) == (None, {}, {})
        assert status.finished_at >= status.created_at

    def test_of_racing_outcomes_one_wins_and_all_hear_of_it(self, backend: JobBackend) -> None:
        job = opened(backend).id
        with ThreadPoolExecutor(8) as pool:
            heard = set(
                pool.map(lambda i: backend.job_store.end_job(job, [State.SUCCEEDED, State.CANCELLED][i % 2]), range(16))
            )
        assert heard == {backend.job_store.status(job).state}

    def test_of_racing_workers_one_gets_the_job(self, backend: JobBackend) -> None:
        job = opened(backend).id

        def taken(number: int) -> bool:
            backend.worker_registry.send_heartbeat(a_worker(id=f"racer{number}"))
            try:
                return backend.job_store.start_stage(job, Stage.EMBED, f"racer{number}").worker == f"racer{number}"
            except JobElsewhere:
                return False

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(taken, range(16))).count(True) == 1

    def test_the_same_key_gives_the_first_job(self, backend: JobBackend) -> None:
        key = uuid.uuid4().hex
        with ThreadPoolExecutor(8) as pool:
            ids = set(pool.map(lambda _: backend.job_store.create_job(a_job(), key), range(16)))
        assert len(ids) == 1
        assert [status.id for status in backend.job_store.list_jobs()].count(ids.pop()) == 1

    def test_a_job_that_is_opened_again_goes_on(self, backend: JobBackend) -> None:
        # As when the answer to the first call was lost on its way.
        job = a_job()
        assert backend.job_store.create_job(job) == job.id
        backend.worker_registry.send_heartbeat(a_worker())
        backend.job_store.start_stage(job.id, Stage.EMBED, "rig")
        assert backend.job_store.create_job(job) == job.id
        assert backend.job_store.jobs_held_by("rig") == [job.id]
        assert job.id not in backend.job_store.orphaned_jobs(grace=0)

    def test_a_discarded_job_frees_its_key(self, backend: JobBackend) -> None:
        key, first, second = uuid.uuid4().hex, a_job(), a_job()
        backend.job_store.create_job(first, key)
        backend.job_store.discard_job(first.id)
        assert backend.job_store.create_job(second, key) == second.id
        with pytest.raises(JobNotFound):
            backend.job_store.status(first.id)
        assert first.id not in backend.job_store.orphaned_jobs(grace=0)

    def test_jobs_are_listed_newest_first_and_by_state(self, backend: JobBackend) -> None:
        jobs = [opened(backend).id for _ in range(5)]
        backend.job_store.end_job(jobs[1], State.CANCELLED)
        backend.job_store.end_job(jobs[3], State.CANCELLED)
        assert [status.id for status in backend.job_store.list_jobs(limit=5)] == jobs[::-1]
        assert [status.id for status in backend.job_store.list_jobs(limit=2)] == [jobs[4], jobs[3]]
        assert [status.id for status in backend.job_store.list_jobs(State.CANCELLED, limit=2)] == [jobs[3], jobs[1]]

    def test_workers_come_and_go(self, backend: JobBackend) -> None:
        worker = a_worker(id=uuid.uuid4().hex, job="ab" * 16, memory=5)
        backend.worker_registry.send_heartbeat(worker)
        assert worker in backend.worker_registry.workers()
        backend.worker_registry.unregister(worker.id)
        assert worker not in backend.worker_registry.workers()

    def test_empty_queues_have_no_depth(self, backend: JobBackend) -> None:
        name = f"queue-{uuid.uuid4().hex}"
        assert backend.job_store.queue_lengths([name]) == {name: 0}
        backend.job_store.ping()
