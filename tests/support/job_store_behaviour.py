"""How every job store creates, lists and ends jobs: over the double in tests/unit, over Redis in tests/integration."""

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from diffedit.contract.job import ErrorInfo, Job, State
from diffedit.contract.stages import Artifact, Lane, Stage
from diffedit.errors import JobNotFound, QueueFull
from diffedit.jobs.backend import JobBackend
from diffedit.jobs.store import MustRunAlone
from diffedit.jobs.workers import WorkerLimits
from tests.support.backend_behaviour import ME, BackendBehaviour, at_mask, new_job, orphans, until_overdue
from tests.support.factories import a_job, a_request, a_worker, done


class JobStoreBehaviour(BackendBehaviour):
    def test_a_job_expires_if_it_does_not_start_in_time(self, backend: JobBackend) -> None:
        backend.worker_registry.send_heartbeat(a_worker(id=ME))
        late, punctual = a_job(start_timeout=2), a_job(start_timeout=2)
        for job in (late, punctual):
            backend.job_store.create_job(job)
        assert backend.job_store.expire_job(late.id) is None
        backend.job_store.start_stage(punctual.id, Stage.EMBED, ME)
        until_overdue(backend, late)
        assert backend.job_store.start_stage(late.id, Stage.EMBED, ME).state is State.EXPIRED
        assert backend.job_store.status(late.id).state is State.EXPIRED
        assert backend.job_store.end_job(late.id, State.CANCELLED) is State.EXPIRED
        assert late.id not in orphans(backend, waited=0)
        assert backend.job_store.expire_job(punctual.id) is None
        assert not {late.id, punctual.id} & set(backend.job_store.overdue_jobs())

    def test_a_job_expires_at_its_next_step_after_its_deadline(self, backend: JobBackend) -> None:
        backend.worker_registry.send_heartbeat(a_worker(id=ME))
        jobs = [a_job(deadline=2, start_timeout=60) for _ in range(3)]
        for job in jobs:
            backend.job_store.create_job(job)
            backend.job_store.start_stage(job.id, Stage.EMBED, ME)
            assert backend.job_store.report_step(job.id, 1, 2, ME).outcome is None
        until_overdue(backend, *jobs)
        stepped, finished, watched = jobs
        assert backend.job_store.report_step(stepped.id, 2, 2, ME).outcome is State.EXPIRED
        assert (
            backend.job_store.complete_stage(
                done(finished, Stage.EMBED), Stage.EMBED, 1.0, [Artifact.EMBEDDINGS], ME
            ).outcome
            is State.EXPIRED
        )
        assert backend.job_store.status(watched.id).state is State.EXPIRED
        assert not {job.id for job in jobs} & set(backend.job_store.jobs_held_by(ME))

    def test_a_stage_that_was_started_before_must_run_alone(self, backend: JobBackend) -> None:
        backend.worker_registry.send_heartbeat(a_worker(id=ME))
        job = a_job()
        backend.job_store.create_job(job)
        assert backend.job_store.start_stage(job.id, Stage.EMBED, ME, alone=False).attempts == {Stage.EMBED: 1}
        backend.job_store.requeue(job, ME)
        with pytest.raises(MustRunAlone):
            backend.job_store.start_stage(job.id, Stage.EMBED, ME, alone=False)
        assert backend.job_store.status(job.id).attempts == {Stage.EMBED: 1}
        assert backend.job_store.jobs_held_by(ME) == []
        assert backend.job_store.start_stage(job.id, Stage.EMBED, ME, alone=True).attempts == {Stage.EMBED: 2}

    def test_a_stage_that_was_returned_without_an_attempt_need_not_run_alone(self, backend: JobBackend) -> None:
        backend.worker_registry.send_heartbeat(a_worker(id=ME))
        job = a_job()
        backend.job_store.create_job(job)
        backend.job_store.start_stage(job.id, Stage.EMBED, ME, alone=False)
        backend.job_store.requeue(job, ME, count_attempt=False)
        assert backend.job_store.start_stage(job.id, Stage.EMBED, ME, alone=False).attempts == {Stage.EMBED: 1}

    def test_a_stage_that_may_be_tried_once_must_run_alone(self, make_backend: Callable[..., JobBackend]) -> None:
        backend = make_backend(WorkerLimits(max_attempts=1))
        backend.worker_registry.send_heartbeat(a_worker(id=ME))
        job = a_job()
        backend.job_store.create_job(job)
        with pytest.raises(MustRunAlone):
            backend.job_store.start_stage(job.id, Stage.EMBED, ME, alone=False)
        backend.job_store.start_stage(job.id, Stage.EMBED, ME, alone=True)

    def test_a_job_that_is_sent_has_the_same_record(self, backend: JobBackend) -> None:
        backend.worker_registry.send_heartbeat(a_worker(id=ME))
        request, fields = a_request(), []
        for send in (False, True):
            job = a_job(request)
            backend.job_store.create_job(job, send=send)
            backend.job_store.start_stage(job.id, Stage.EMBED, ME)
            finished = done(job, Stage.EMBED)
            backend.job_store.complete_stage(finished, Stage.EMBED, 1.0, [Artifact.EMBEDDINGS], ME, send=send)
            backend.job_store.send(finished)
            status = backend.job_store.status(job.id)
            # What differs from one job to the next: the id and what the clock says.
            fields.append(status.model_dump(exclude={"id", "created_at", "started_at", "waits"}))
            assert status.waits.keys() == {Stage.EMBED}
            assert backend.job_store.start_stage(job.id, Stage.MASK, ME).stage is Stage.MASK
        assert fields[0] == fields[1]

    def test_a_full_lane_refuses_jobs(self, make_backend: Callable[..., JobBackend]) -> None:
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

    @pytest.mark.parametrize("outcome", [State.SUCCEEDED, State.FAILED, State.CANCELLED, State.EXPIRED])
    def test_the_first_outcome_holds_and_nothing_is_written_after_it(self, backend: JobBackend, outcome: State) -> None:
        job = new_job(backend)
        error = ErrorInfo(stage=Stage.MASK, code="empty_mask", message="nothing to edit")
        assert backend.job_store.end_job(job.id, outcome, error) is outcome
        for later in (State.SUCCEEDED, State.FAILED, State.CANCELLED):
            assert backend.job_store.end_job(job.id, later) is outcome
        assert backend.job_store.start_stage(job.id, Stage.EMBED, ME).state is outcome
        assert backend.job_store.report_step(job.id, 1, 2, ME).outcome is outcome
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

    def test_the_cause_of_a_failed_attempt_is_not_recorded_after_the_end(self, backend: JobBackend) -> None:
        job = at_mask(backend)
        assert backend.job_store.record_cause(job.id, Stage.MASK, "timeout") is None
        backend.job_store.end_job(job.id, State.CANCELLED)
        assert backend.job_store.record_cause(job.id, Stage.MASK, "worker_lost") is State.CANCELLED

    def test_if_outcomes_race_all_callers_get_the_same_one(self, backend: JobBackend) -> None:
        job = new_job(backend).id
        with ThreadPoolExecutor(8) as pool:
            heard = set(
                pool.map(lambda i: backend.job_store.end_job(job, [State.SUCCEEDED, State.CANCELLED][i % 2]), range(16))
            )
        assert heard == {backend.job_store.status(job).state}

    def test_the_same_idempotency_key_returns_the_first_job(self, backend: JobBackend) -> None:
        key = uuid.uuid4().hex
        with ThreadPoolExecutor(8) as pool:
            ids = set(pool.map(lambda _: backend.job_store.create_job(a_job(), key), range(16)))
        assert len(ids) == 1
        assert [status.id for status in backend.job_store.list_jobs().statuses].count(ids.pop()) == 1

    def test_creating_a_job_twice_changes_nothing(self, backend: JobBackend) -> None:
        # As when the answer to the first call was lost on its way.
        job = a_job()
        assert backend.job_store.create_job(job) == job.id
        backend.worker_registry.send_heartbeat(a_worker())
        backend.job_store.start_stage(job.id, Stage.EMBED, "rig")
        assert backend.job_store.create_job(job) == job.id
        assert backend.job_store.jobs_held_by("rig") == [job.id]
        assert job.id not in orphans(backend, waited=0)

    def test_a_discarded_job_frees_its_key(self, backend: JobBackend) -> None:
        key, first, second = uuid.uuid4().hex, a_job(), a_job()
        backend.job_store.create_job(first, key)
        backend.job_store.discard_job(first.id)
        assert backend.job_store.create_job(second, key) == second.id
        with pytest.raises(JobNotFound):
            backend.job_store.status(first.id)
        assert first.id not in orphans(backend, waited=0)

    def test_jobs_are_listed_newest_first_and_by_state(self, backend: JobBackend) -> None:
        jobs = [new_job(backend).id for _ in range(5)]
        backend.job_store.end_job(jobs[1], State.CANCELLED)
        backend.job_store.end_job(jobs[3], State.CANCELLED)
        assert [status.id for status in backend.job_store.list_jobs(limit=5).statuses] == jobs[::-1]
        assert [status.id for status in backend.job_store.list_jobs(limit=2).statuses] == [jobs[4], jobs[3]]
        assert [status.id for status in backend.job_store.list_jobs(State.CANCELLED, limit=2).statuses] == [
            jobs[3],
            jobs[1],
        ]

    def test_the_length_of_an_empty_queue_is_zero(self, backend: JobBackend) -> None:
        name = f"queue-{uuid.uuid4().hex}"
        assert backend.job_store.queue_lengths([name]) == {name: 0}
        backend.job_store.ping()
