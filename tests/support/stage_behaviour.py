"""What every job store does while a job runs: over the double in tests/unit, over Redis in tests/integration."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from diffedit.contract.job import State
from diffedit.contract.stages import Artifact, Stage
from diffedit.errors import JobElsewhere, JobNotFound
from diffedit.jobs.backend import JobBackend
from diffedit.jobs.store import MaxAttemptsExceeded
from tests.support.backend_behaviour import ME, OTHER, BackendBehaviour, at_mask, new_job, orphans
from tests.support.factories import a_job, a_worker, done
from tests.support.waiting import until


class StageBehaviour(BackendBehaviour):
    def test_a_new_job_is_queued(self, backend: JobBackend) -> None:
        job = new_job(backend)
        status = backend.job_store.status(job.id)
        assert status.state is State.QUEUED
        assert not status.is_terminal
        assert status.progress == 0
        assert status.request == job.request

    def test_a_preview_is_made_for_whoever_asks(self, backend: JobBackend) -> None:
        store, job, other = backend.job_store, new_job(backend), new_job(backend)
        for each in (job, other):
            store.start_stage(each.id, each.stages_left[0], ME)
        assert store.report_step(job.id, 1, 2, ME) == (None, False)
        assert store.preview(job.id) is None
        assert store.report_step(job.id, 1, 2, ME) == (None, True)
        assert store.report_step(other.id, 1, 2, ME) == (None, False)
        for data in (b"RIFF\0\xff", b"RIFF\n"):
            store.publish_preview(job.id, data)
            assert store.preview(job.id) == data
        assert store.preview(other.id) is None
        assert store.status(job.id).step == 1
        store.end_job(job.id, State.CANCELLED)
        assert store.report_step(job.id, 2, 2, ME) == (State.CANCELLED, False)

    def test_a_deleted_job_leaves_no_preview(self, backend: JobBackend) -> None:
        store, job, other = backend.job_store, new_job(backend), new_job(backend)
        for each in (job, other):
            store.publish_preview(each.id, b"RIFF")
        store.remove_job(job.id)
        assert store.preview(job.id) is None
        store.publish_preview(job.id, b"made before the worker noticed")
        assert store.preview(job.id) is None
        assert store.preview(other.id) == b"RIFF"

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
            lambda: backend.job_store.record_cause(unknown.id, Stage.EMBED, "timeout"),
        ):
            with pytest.raises(JobNotFound, match=unknown.id):
                ask()
        with pytest.raises(JobNotFound):  # and none of these has made a record
            backend.job_store.status(unknown.id)

    def test_starting_a_stage_returns_the_record(self, backend: JobBackend) -> None:
        job = new_job(backend)
        begun = backend.job_store.start_stage(job.id, Stage.EMBED, ME)
        assert begun == backend.job_store.status(job.id)
        assert (begun.job, begun.attempts) == (job, {Stage.EMBED: 1})

    def test_a_record_says_how_long_each_stage_waited(self, backend: JobBackend) -> None:
        store, job = backend.job_store, new_job(backend)
        submitted = store.now()
        until(lambda: store.now() > submitted + 0.01)
        waits = store.start_stage(job.id, Stage.EMBED, ME).waits
        assert waits.keys() == {Stage.EMBED} and waits[Stage.EMBED] >= 0.01
        updated = done(job, Stage.EMBED)
        store.complete_stage(updated, Stage.EMBED, 0.1, [Artifact.EMBEDDINGS], ME)
        assert store.start_stage(job.id, Stage.MASK, ME).waits.keys() == {Stage.EMBED, Stage.MASK}
        # The job is taken over from this very worker. It did not wait, so nothing is said about it.
        assert store.start_stage(job.id, Stage.MASK, ME).waits == waits

    def test_a_stage_starts_reports_steps_and_completes(self, backend: JobBackend) -> None:
        job = at_mask(backend)
        assert backend.job_store.report_step(job.id, 1, 2, ME).outcome is None
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

    def test_the_job_succeeds_with_its_last_stage(self, backend: JobBackend) -> None:
        job = at_mask(backend)
        for stage in (Stage.MASK, Stage.INVERT, Stage.EDIT):
            job = done(job, stage)
            backend.job_store.complete_stage(job, stage, 1.0, stage.gives, ME)
            if stage is not Stage.EDIT:
                assert not backend.job_store.status(job.id).is_terminal
                backend.job_store.start_stage(job.id, job.stages_left[0], ME)
        assert backend.job_store.status(job.id).state is State.SUCCEEDED
        assert backend.job_store.status(job.id).finished_at is not None

    def test_only_one_worker_runs_a_job(self, backend: JobBackend) -> None:
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

    def test_only_the_stage_that_a_job_waits_for_can_start(self, backend: JobBackend) -> None:
        job = done(at_mask(backend), Stage.MASK)
        backend.job_store.complete_stage(job, Stage.MASK, 1.0, [Artifact.MASK], ME)
        for stage in (Stage.EMBED, Stage.MASK, Stage.EDIT):  # messages that came late, or early
            with pytest.raises(JobElsewhere):
                backend.job_store.start_stage(job.id, stage, ME)

    def test_the_job_of_a_dead_worker_is_orphaned_and_can_be_requeued(self, backend: JobBackend) -> None:
        job = at_mask(backend)
        assert job.id not in orphans(backend, waited=60)
        backend.worker_registry.unregister(ME)
        assert job.id in orphans(backend, waited=60)
        assert backend.job_store.requeue(job) is None
        assert job.id not in orphans(backend, waited=60)
        # The dead worker was only asleep: what it does now is refused.
        with pytest.raises(JobElsewhere):
            backend.job_store.report_step(job.id, 1, 2, ME)
        assert backend.job_store.start_stage(job.id, Stage.MASK, OTHER).worker == OTHER
        with pytest.raises(JobElsewhere):
            backend.job_store.complete_stage(done(job, Stage.MASK), Stage.MASK, 1.0, [Artifact.MASK], ME)
        assert backend.job_store.status(job.id).attempts[Stage.MASK] == 2

    def test_another_worker_can_start_the_job_of_a_dead_worker(self, backend: JobBackend) -> None:
        job = at_mask(backend)
        backend.worker_registry.unregister(ME)
        assert backend.job_store.start_stage(job.id, Stage.MASK, OTHER).worker == OTHER

    def test_a_job_that_waits_without_a_message_is_orphaned(self, backend: JobBackend) -> None:
        job = new_job(backend)
        assert job.id not in orphans(backend, waited=60)
        assert job.id in orphans(backend, waited=0)
        backend.job_store.start_stage(job.id, Stage.EMBED, ME)
        assert job.id not in orphans(backend, waited=0)
        backend.job_store.end_job(job.id, State.CANCELLED)
        assert job.id not in orphans(backend, waited=0)

    def test_requeue_can_take_back_the_attempt(self, backend: JobBackend) -> None:
        job = at_mask(backend)
        assert backend.job_store.requeue(job, ME, count_attempt=False) is None
        assert backend.job_store.status(job.id).attempts == {Stage.EMBED: 1, Stage.MASK: 0}
        assert backend.job_store.start_stage(job.id, Stage.MASK, OTHER).worker == OTHER

    def test_requeue_leaves_a_job_alone_that_has_gone_on(self, backend: JobBackend) -> None:
        job, store = at_mask(backend), backend.job_store
        for attempt in (0, 2):
            with pytest.raises(JobElsewhere):
                store.requeue(job, ME, attempt=attempt)
        made = done(job, Stage.MASK)
        store.complete_stage(made, Stage.MASK, 1.0, [Artifact.MASK], ME)
        store.start_stage(job.id, Stage.INVERT, ME)
        with pytest.raises(JobElsewhere):
            store.requeue(job, ME, attempt=1)  # as the caller saw it before
        assert store.status(job.id).attempts == {Stage.EMBED: 1, Stage.MASK: 1, Stage.INVERT: 1}
        assert store.requeue(made, ME, attempt=1) is None
        assert store.start_stage(job.id, Stage.INVERT, ME).attempts[Stage.INVERT] == 2

    def test_requeue_without_an_artifact_undoes_its_stage(self, backend: JobBackend) -> None:
        job = at_mask(backend)
        assert backend.job_store.requeue(job.without_artifact(Artifact.EMBEDDINGS), ME) is None
        status = backend.job_store.status(job.id)
        assert (status.artifact_keys, status.timings) == ({}, {})
        assert backend.job_store.start_stage(job.id, Stage.EMBED, ME).worker == ME
        assert backend.job_store.status(job.id).attempts == {Stage.EMBED: 2, Stage.MASK: 1}

    def test_attempts_are_counted_and_limited_for_each_stage(self, backend: JobBackend) -> None:
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

    def test_retries_are_counted(self, backend: JobBackend) -> None:
        job = at_mask(backend)
        for _ in range(2):
            assert backend.job_store.count_retry(job.id, ME) is None
        with pytest.raises(JobElsewhere):
            backend.job_store.count_retry(job.id, OTHER)
        assert backend.job_store.status(job.id).retries == 2
        backend.job_store.end_job(job.id, State.CANCELLED)
        assert backend.job_store.count_retry(job.id, ME) is State.CANCELLED

    def test_the_jobs_of_a_worker_are_listed(self, backend: JobBackend) -> None:
        job = at_mask(backend)
        assert backend.job_store.jobs_held_by(ME) == [job.id]
        assert backend.job_store.jobs_held_by(OTHER) == []
        backend.job_store.requeue(job, ME)
        assert backend.job_store.jobs_held_by(ME) == []

    def test_if_workers_race_one_gets_the_job(self, backend: JobBackend) -> None:
        job = new_job(backend).id

        def taken(number: int) -> bool:
            backend.worker_registry.send_heartbeat(a_worker(id=f"racer{number}"))
            try:
                return backend.job_store.start_stage(job, Stage.EMBED, f"racer{number}").worker == f"racer{number}"
            except JobElsewhere:
                return False

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(taken, range(16))).count(True) == 1
