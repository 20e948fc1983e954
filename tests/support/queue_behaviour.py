"""Queues that are paused and resumed: over the doubles and over Redis."""

import pytest

from diffedit.contract.job import State
from diffedit.contract.stages import Lane, ModelGroup, Stage, queue_name
from diffedit.jobs.backend import JobBackend
from diffedit.jobs.store import QueuePaused
from tests.support.backend_behaviour import ME, BackendBehaviour, at_mask, new_job
from tests.support.factories import a_job, done

LANGUAGE, DIFFUSION = (queue_name("tiny", group) for group in ModelGroup)


class QueueBehaviour(BackendBehaviour):
    def test_no_stage_of_a_paused_queue_starts_until_it_is_resumed(self, backend: JobBackend) -> None:
        store, before = backend.job_store, new_job(backend)
        store.pause_queues([LANGUAGE], "a new model")
        after = a_job()
        store.create_job(after, send=True)
        for job in (before, after):
            with pytest.raises(QueuePaused):
                store.start_stage(job.id, Stage.EMBED, ME)
            assert store.status(job.id).attempts == {}
        assert store.resume_queues([LANGUAGE, DIFFUSION]) == [LANGUAGE]
        for job in (before, after):
            assert store.start_stage(job.id, Stage.EMBED, ME).attempts == {Stage.EMBED: 1}

    def test_a_pause_has_a_reason_and_a_beginning(self, backend: JobBackend) -> None:
        store = backend.job_store
        assert store.paused_queues() == {}
        store.pause_queues([LANGUAGE, DIFFUSION], "first")
        since = store.paused_queues()[LANGUAGE].since
        store.pause_queues([LANGUAGE], "second")
        found = store.paused_queues()
        assert (list(found), found[LANGUAGE].reason, found[DIFFUSION].reason) == (
            [DIFFUSION, LANGUAGE],
            "second",
            "first",
        )
        assert found[LANGUAGE].since == since
        assert abs(since.timestamp() - store.now()) < 60
        assert store.resume_queues([LANGUAGE]) == [LANGUAGE]
        assert list(store.paused_queues()) == [DIFFUSION]

    def test_a_running_stage_goes_on_when_its_queue_is_paused(self, backend: JobBackend) -> None:
        job, store = done(at_mask(backend), Stage.EMBED), backend.job_store
        store.pause_queues([DIFFUSION])
        assert store.report_step(job.id, 1, 2, ME).outcome is None
        job = done(job, Stage.MASK)
        assert store.complete_stage(job, Stage.MASK, 1.0, [], ME, send=True).outcome is None
        with pytest.raises(QueuePaused):
            store.start_stage(job.id, Stage.INVERT, ME)
        store.resume_queues([DIFFUSION])
        assert store.start_stage(job.id, Stage.INVERT, ME).state is State.RUNNING

    def test_a_pause_concerns_one_lane(self, backend: JobBackend) -> None:
        new_job(backend)
        job, store = a_job(lane=Lane.BATCH), backend.job_store
        store.create_job(job, send=True)
        store.pause_queues([LANGUAGE])
        assert store.start_stage(job.id, Stage.EMBED, ME).state is State.RUNNING

    def test_jobs_of_a_paused_queue_are_not_sent_again_and_can_end(self, backend: JobBackend) -> None:
        store = backend.job_store
        store.pause_queues([LANGUAGE])
        jobs = [a_job(owner="u1"), a_job()]
        for job in jobs:
            store.create_job(job, send=True)
        assert store.jobs_without_message(0) == []
        assert store.waiting_jobs() == {LANGUAGE: 2}
        assert store.end_job(jobs[0].id, State.CANCELLED) is State.CANCELLED
        store.remove_job(jobs[1].id)
        store.resume_queues([LANGUAGE])
        assert store.jobs_without_message(0) == []
        assert store.waiting_jobs() == {}
