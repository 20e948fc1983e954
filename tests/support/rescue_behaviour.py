"""What the rescue of jobs can rely on: over the doubles in tests/unit, over Redis in tests/integration."""

from collections.abc import Callable

import pytest

from diffedit.contract.job import Job, State
from diffedit.contract.stages import Stage
from diffedit.errors import BadRecord, JobElsewhere
from diffedit.jobs import keys
from diffedit.jobs.backend import JobBackend
from diffedit.jobs.workers import WorkerLimits
from tests.support.backend_behaviour import ME, OTHER, BackendBehaviour, at_mask, new_job
from tests.support.factories import a_worker
from tests.support.refusal_behaviour import ERROR
from tests.support.waiting import until

Rewrite = Callable[..., None]
Silence = Callable[[JobBackend], None]


def can_be_rescued(backend: JobBackend, job: Job) -> bool:
    """Requeue the job as the leader does; return whether that was possible."""
    try:
        backend.job_store.requeue(job)
    except JobElsewhere:
        return False
    return True


class RescueBehaviour(BackendBehaviour):
    """A subclass has the fixtures `rewrite`, which changes fields of a job's record, and `silence`.

    `silence(backend)` does what an outage does: it removes all heartbeats, and the sign that there were any.
    """

    def test_a_job_that_was_sent_meanwhile_is_left_alone(self, backend: JobBackend) -> None:
        job = new_job(backend)
        with pytest.raises(JobElsewhere):
            backend.job_store.requeue(job, waited=60)
        assert backend.job_store.requeue(job, waited=0) is None
        running = at_mask(backend)
        backend.worker_registry.unregister(ME)
        assert backend.job_store.requeue(running, waited=60) is None, "it waits for nothing: its worker is dead"

    def test_after_an_outage_every_worker_counts_as_live(self, backend: JobBackend, silence: Silence) -> None:
        job = at_mask(backend)
        silence(backend)
        assert job.id in backend.job_store.abandoned_jobs()
        assert not can_be_rescued(backend, job), "nobody has sent a heartbeat yet"
        backend.worker_registry.send_heartbeat(a_worker(id=OTHER))
        assert not can_be_rescued(backend, job), "its worker has not had the time"
        with pytest.raises(JobElsewhere):
            backend.job_store.start_stage(job.id, Stage.MASK, OTHER)
        assert backend.job_store.report_step(job.id, 1, 2, ME).outcome is None

    def test_a_worker_that_does_not_come_back_after_an_outage_is_dead(
        self, make_backend: Callable[..., JobBackend], silence: Silence
    ) -> None:
        backend = make_backend(limits=WorkerLimits(worker_ttl=0.5))
        job = at_mask(backend)
        silence(backend)

        def rescued() -> bool:
            backend.worker_registry.send_heartbeat(a_worker(id=OTHER))
            return can_be_rescued(backend, job)

        assert not rescued()
        until(rescued, "the end of the time in which the worker could come back")

    def test_after_an_outage_no_job_fails_because_nobody_seems_to_be_left(
        self, make_backend: Callable[..., JobBackend], silence: Silence
    ) -> None:
        backend = make_backend(limits=WorkerLimits(refusal_patience=0))
        refused, waiting = at_mask(backend), at_mask(backend)
        backend.worker_registry.send_heartbeat(a_worker(id=OTHER, name="other"))
        backend.job_store.refuse_stage(waiting, Stage.MASK, ME, ERROR)
        silence(backend)
        backend.worker_registry.send_heartbeat(a_worker(id=ME, name="me", paused=True))
        assert backend.job_store.refuse_stage(refused, Stage.MASK, ME, ERROR) == (None, False)
        assert backend.job_store.end_refused(waiting.id) is None
        assert backend.job_store.status(waiting.id).state is State.RUNNING

    @pytest.mark.parametrize("created", ["1e300", "-1", "nan", "inf", "253402300799", "9" * 5000, "soon"])
    def test_a_record_with_a_time_that_is_none_is_skipped_and_shown(
        self, backend: JobBackend, rewrite: Rewrite, created: str
    ) -> None:
        first, damaged, last = (new_job(backend) for _ in range(3))
        assert backend.job_store.damaged_keys() == []
        rewrite(backend, damaged, created=created)
        page = backend.job_store.list_jobs(limit=3)
        assert ([status.id for status in page.statuses], page.unreadable) == ([last.id, first.id], [damaged.id])
        with pytest.raises(BadRecord):
            backend.job_store.status(damaged.id)
        assert backend.job_store.damaged_keys() == [keys.job_key(damaged.id)]
        other = new_job(backend)
        assert backend.job_store.waiting_jobs() == {other.queue: 4}

    def test_a_record_of_a_newer_version_is_not_damaged(self, backend: JobBackend, rewrite: Rewrite) -> None:
        rewrite(backend, new_job(backend), contract="999", request="{}")
        assert len(backend.job_store.list_jobs().unreadable) == 1
        assert backend.job_store.damaged_keys() == []
