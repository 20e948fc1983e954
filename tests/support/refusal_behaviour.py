"""What job stores do when workers refuse a stage: over the doubles in tests/unit, over Redis in tests/integration."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from diffedit.contract.job import ErrorInfo, Job, State
from diffedit.contract.stages import Artifact, Stage, queue_name
from diffedit.errors import JobElsewhere
from diffedit.jobs.backend import JobBackend
from diffedit.jobs.store import RecentStages, RefusedBefore
from diffedit.jobs.workers import Trouble, TroubleKind, WorkerLimits
from tests.support.backend_behaviour import ME, OTHER, BackendBehaviour, at_mask
from tests.support.factories import a_worker, done

ERROR = ErrorInfo(stage=Stage.MASK, code="store_refused", message="S3 refused the request")


def announce(backend: JobBackend, *ids: str, **fields: object) -> None:
    """Announce workers whose names are "<id>@here"."""
    for each in ids:
        backend.worker_registry.send_heartbeat(a_worker(id=each, name=f"{each}@here", **fields))


def refused(backend: JobBackend) -> Job:
    """Create a job whose mask stage ME has refused, and return it. OTHER has not tried it."""
    job = at_mask(backend)
    announce(backend, ME, OTHER)
    backend.job_store.refuse_stage(job, Stage.MASK, ME, ERROR)
    return job


class RefusalBehaviour(BackendBehaviour):
    def test_a_refused_stage_waits_again_and_its_start_does_not_count(self, backend: JobBackend) -> None:
        job = at_mask(backend)
        announce(backend, ME, OTHER)
        assert backend.job_store.refuse_stage(job, Stage.MASK, ME, ERROR) == (None, True)
        status = backend.job_store.status(job.id)
        assert status.state is State.RUNNING
        assert status.attempts[Stage.MASK] == 0
        assert status.refused_by == {Stage.MASK: (f"{ME}@here",)}
        assert status.refusal == ERROR
        assert backend.job_store.jobs_held_by(ME) == []
        assert backend.job_store.waiting_jobs()[job.queue] >= 1

    def test_a_worker_leaves_a_stage_that_it_refused_to_the_others(self, backend: JobBackend) -> None:
        job = refused(backend)
        with pytest.raises(RefusedBefore):
            backend.job_store.start_stage(job.id, Stage.MASK, ME)
        assert backend.job_store.start_stage(job.id, Stage.MASK, OTHER).worker == OTHER
        assert backend.job_store.status(job.id).attempts[Stage.MASK] == 1

    @pytest.mark.parametrize("others", ["none", "paused", "of other queues"])
    def test_a_worker_tries_again_if_nobody_else_can(self, backend: JobBackend, others: str) -> None:
        job = at_mask(backend)
        announce(backend, ME)
        if others == "none":
            backend.worker_registry.unregister(OTHER)
        elif others == "paused":
            announce(backend, OTHER, paused=True)
        else:
            announce(backend, OTHER, queues=(queue_name("another", Stage.MASK.group),))
        assert backend.job_store.refuse_stage(job, Stage.MASK, ME, ERROR) == (None, False)
        assert backend.job_store.start_stage(job.id, Stage.MASK, ME).worker == ME

    def test_the_job_fails_when_three_different_workers_have_refused(self, backend: JobBackend) -> None:
        job = at_mask(backend)
        backend.worker_registry.unregister(OTHER)
        # The second worker is the first one, started again: it has another id and the same name.
        for worker, name in (ME, "a"), ("second", "a"), ("third", "b"), ("fourth", "c"):
            backend.worker_registry.send_heartbeat(a_worker(id=worker, name=name))
            if worker != ME:
                backend.job_store.start_stage(job.id, Stage.MASK, worker)
            outcome = backend.job_store.refuse_stage(job, Stage.MASK, worker, ERROR).outcome
            assert outcome is (State.FAILED if worker == "fourth" else None)
            backend.worker_registry.unregister(worker)
        status = backend.job_store.status(job.id)
        assert (status.state, status.error, status.refusal) == (State.FAILED, ERROR, None)
        assert status.refused_by == {Stage.MASK: ("a", "b", "c")}

    def test_the_job_fails_when_it_is_refused_after_the_patience_and_nobody_else_is_left(
        self, make_backend: Callable[..., JobBackend]
    ) -> None:
        backend = make_backend(limits=WorkerLimits(refusal_patience=0))
        job = at_mask(backend)
        announce(backend, ME, OTHER)
        assert backend.job_store.refuse_stage(job, Stage.MASK, ME, ERROR) == (None, True)
        backend.worker_registry.unregister(OTHER)
        backend.job_store.start_stage(job.id, Stage.MASK, ME)
        assert backend.job_store.refuse_stage(job, Stage.MASK, ME, ERROR) == (State.FAILED, False)
        status = backend.job_store.status(job.id)
        assert (status.state, status.error) == (State.FAILED, ERROR)
        assert job.id not in backend.job_store.refused_jobs(patience=0)

    def test_a_refused_job_whose_workers_are_all_paused_fails_after_the_patience(self, backend: JobBackend) -> None:
        job = refused(backend)
        assert job.id not in backend.job_store.refused_jobs(patience=3600)
        assert job.id in backend.job_store.refused_jobs(patience=0)
        assert backend.job_store.end_refused(job.id) is None  # both may still try
        announce(backend, OTHER, paused=True)
        assert backend.job_store.end_refused(job.id) is None
        announce(backend, ME, paused=True)
        assert backend.job_store.end_refused(job.id) is State.FAILED
        assert backend.job_store.status(job.id).error == ERROR

    def test_a_refused_job_waits_while_no_worker_is_live(self, backend: JobBackend) -> None:
        """The worker that refused it may be on its way back, with another id and well again."""
        job = refused(backend)
        for worker in (ME, OTHER):
            backend.worker_registry.unregister(worker)
        assert backend.job_store.end_refused(job.id) is None
        backend.worker_registry.send_heartbeat(a_worker(id="again", name=f"{ME}@here"))
        assert backend.job_store.end_refused(job.id) is None
        assert backend.job_store.start_stage(job.id, Stage.MASK, "again").worker == "again"

    def test_refusals_before_a_stage_was_done_do_not_count_when_it_has_to_be_done_again(
        self, backend: JobBackend
    ) -> None:
        job = refused(backend)
        backend.job_store.start_stage(job.id, Stage.MASK, OTHER)
        made = done(job, Stage.MASK)
        backend.job_store.complete_stage(made, Stage.MASK, 1.0, Stage.MASK.gives, OTHER)
        backend.job_store.requeue(made.without_artifact(Artifact.MASK))
        assert job.id not in backend.job_store.refused_jobs(patience=-1)
        backend.job_store.start_stage(job.id, Stage.MASK, OTHER)
        backend.job_store.refuse_stage(job, Stage.MASK, OTHER, ERROR)
        assert backend.job_store.status(job.id).refused_by == {Stage.MASK: (f"{OTHER}@here",)}

    def test_a_refusal_of_another_stage_starts_the_patience_again(self, backend: JobBackend) -> None:
        job = refused(backend)
        first = job.without_artifact(Artifact.EMBEDDINGS)
        backend.job_store.requeue(first)
        backend.job_store.start_stage(job.id, Stage.EMBED, ME)
        time.sleep(1.1)
        backend.job_store.refuse_stage(first, Stage.EMBED, ME, ERROR)
        assert job.id not in backend.job_store.refused_jobs(patience=1)

    def test_a_job_that_runs_or_was_never_refused_does_not_fail_of_refusals(self, backend: JobBackend) -> None:
        job, other = refused(backend), at_mask(backend)
        announce(backend, ME, OTHER)
        backend.job_store.start_stage(job.id, Stage.MASK, OTHER)
        backend.job_store.requeue(other, ME)
        backend.worker_registry.unregister(ME)
        assert backend.job_store.end_refused(job.id) is None
        assert backend.job_store.end_refused(other.id) is None

    def test_a_stage_that_another_worker_completes_is_forgiven(self, backend: JobBackend) -> None:
        job = refused(backend)
        backend.job_store.start_stage(job.id, Stage.MASK, OTHER)
        backend.job_store.complete_stage(done(job, Stage.MASK), Stage.MASK, 1.0, Stage.MASK.gives, OTHER)
        assert job.id not in backend.job_store.refused_jobs(patience=0)
        status = backend.job_store.status(job.id)
        assert status.refusal is None
        assert status.refused_by == {Stage.MASK: (f"{ME}@here",)}

    def test_only_the_worker_that_runs_a_stage_refuses_it(self, backend: JobBackend) -> None:
        job = at_mask(backend)
        with pytest.raises(JobElsewhere):
            backend.job_store.refuse_stage(job, Stage.MASK, OTHER, ERROR)
        backend.job_store.end_job(job.id, State.CANCELLED)
        assert backend.job_store.refuse_stage(job, Stage.MASK, ME, ERROR) == (State.CANCELLED, False)

    def test_recent_stages_are_counted(self, make_backend: Callable[..., JobBackend]) -> None:
        backend = make_backend()
        refused(backend)
        assert backend.job_store.recent_stages() == RecentStages(done=1, refused=1)

    def test_troubles_are_kept_until_they_are_over(self, backend: JobBackend) -> None:
        registry = backend.worker_registry
        first, later = (datetime(2026, 1, day, tzinfo=UTC) for day in (1, 2))
        trouble = Trouble(
            name="gpu1@here", kind=TroubleKind.PAUSED, code="store_refused", message="S3 refused", since=first
        )
        registry.report_trouble(trouble)
        registry.report_trouble(trouble.model_copy(update={"since": later, "message": "S3 still refuses"}))
        assert registry.troubles() == [trouble.model_copy(update={"message": "S3 still refuses"})]
        other = trouble.model_copy(update={"code": "worker_unfit", "since": later})
        registry.report_trouble(other)
        assert registry.troubles() == [other]
        registry.clear_trouble("gpu1@here")
        assert registry.troubles() == []
