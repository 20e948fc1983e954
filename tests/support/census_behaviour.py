"""What every census of a fleet counts: over the double in tests/unit, over Redis in tests/integration."""

from datetime import UTC, datetime

from diffedit.contract.job import State
from diffedit.contract.stages import Artifact, Lane, ModelGroup, Stage, queue_name
from diffedit.jobs.backend import JobBackend
from diffedit.jobs.census import QueueCensus, QueueName
from diffedit.jobs.workers import Trouble, TroubleKind
from tests.support.backend_behaviour import ME, OTHER, BackendBehaviour, at_mask, new_job, until_overdue
from tests.support.factories import a_job, a_request, a_worker, done
from tests.support.waiting import until

LANGUAGE = QueueName("tiny", ModelGroup.LANGUAGE, Lane.INTERACTIVE)
DIFFUSION = QueueName("tiny", ModelGroup.DIFFUSION, Lane.INTERACTIVE)
BATCH = QueueName("tiny", ModelGroup.LANGUAGE, Lane.BATCH)


class CensusBehaviour(BackendBehaviour):
    def test_nothing_is_counted_where_nothing_is(self, backend: JobBackend) -> None:
        fleet = backend.census.take()
        assert (fleet.queues, fleet.workers, fleet.troubles) == ({}, [], {})
        assert (fleet.due_events, fleet.unsent_events, fleet.has_sender) == (0, 0, False)
        assert (fleet.damaged, fleet.overdue) == (0, 0)
        assert abs(fleet.at - backend.job_store.now()) < 60

    def test_the_queues_of_workers_are_counted_though_they_are_empty(self, backend: JobBackend) -> None:
        backend.worker_registry.send_heartbeat(a_worker(id=ME, queues=(queue_name("tiny", ModelGroup.LANGUAGE), "x")))
        fleet = backend.census.take()
        assert fleet.queues == {LANGUAGE: QueueCensus()}
        assert [worker.id for worker in fleet.workers] == [ME]

    def test_jobs_are_counted_where_they_wait_and_where_they_run(self, backend: JobBackend) -> None:
        running, waiting = at_mask(backend), [new_job(backend) for _ in range(2)]
        backend.job_store.create_job(a_job(lane="batch"))
        queues = backend.census.take().queues
        assert (queues[LANGUAGE].waiting, queues[LANGUAGE].running) == (2, 0)
        assert (queues[DIFFUSION].waiting, queues[DIFFUSION].running) == (0, 1)
        assert (queues[BATCH].waiting, queues[BATCH].running) == (1, 0)
        backend.job_store.end_job(running.id, State.CANCELLED)
        backend.job_store.start_stage(waiting[0].id, Stage.EMBED, OTHER)
        queues = backend.census.take().queues
        assert (queues[LANGUAGE].waiting, queues[LANGUAGE].running) == (1, 1)
        assert (queues[DIFFUSION].waiting, queues[DIFFUSION].running) == (0, 0)

    def test_the_oldest_of_the_waiting_jobs_is_told(self, backend: JobBackend) -> None:
        assert at_mask(backend)
        assert backend.census.take().queues[LANGUAGE].oldest is None
        first, submitted = new_job(backend), backend.job_store.now()
        until(lambda: backend.job_store.now() > submitted + 0.05, "a moment")
        new_job(backend)
        oldest = backend.census.take().queues[LANGUAGE].oldest
        assert oldest and oldest >= 0.05
        backend.job_store.start_stage(first.id, Stage.EMBED, ME)
        younger = backend.census.take().queues[LANGUAGE].oldest
        assert younger is not None and younger < oldest + 60

    def test_a_worker_that_was_asked_to_drain_is_told(self, backend: JobBackend) -> None:
        backend.worker_registry.send_heartbeat(a_worker(id=ME))
        assert backend.census.take().draining == set()
        backend.worker_registry.request_drain([ME])
        assert backend.census.take().draining == {ME}

    def test_a_paused_queue_is_told(self, backend: JobBackend) -> None:
        name = queue_name("tiny", ModelGroup.LANGUAGE)
        backend.job_store.pause_queues([name], "a test")
        assert backend.census.take().queues[LANGUAGE].paused
        backend.job_store.resume_queues([name])
        assert not any(queue.paused for queue in backend.census.take().queues.values())

    def test_durations_are_those_of_stages_that_were_made(self, backend: JobBackend) -> None:
        job = new_job(backend)
        backend.job_store.start_stage(job.id, Stage.EMBED, ME)
        backend.job_store.complete_stage(done(job, Stage.EMBED), Stage.EMBED, 4.0, [Artifact.EMBEDDINGS], ME)
        assert backend.census.take().durations["tiny"] == {Stage.EMBED: 4.0}

    def test_troubles_are_counted_by_kind(self, backend: JobBackend) -> None:
        for name, kind in (("a", TroubleKind.PAUSED), ("b", TroubleKind.PAUSED), ("c", TroubleKind.UNFIT)):
            trouble = Trouble(name=name, kind=kind, code="store_refused", message="no", since=datetime.now(UTC))
            backend.worker_registry.report_trouble(trouble)
        backend.worker_registry.clear_trouble("a")
        assert backend.census.take().troubles == {TroubleKind.PAUSED: 1, TroubleKind.UNFIT: 1}

    def test_events_and_their_sender_are_told(self, backend: JobBackend) -> None:
        job = a_job(webhook="https://example.com/hook")
        backend.job_store.create_job(job)
        backend.job_store.end_job(job.id, State.CANCELLED)
        fleet = backend.census.take()
        assert (fleet.due_events, fleet.unsent_events, fleet.has_sender) == (1, 1, False)
        assert backend.outbox.claim(600)
        fleet = backend.census.take()
        assert (fleet.due_events, fleet.unsent_events, fleet.has_sender) == (0, 1, True)

    def test_overdue_jobs_are_counted(self, backend: JobBackend) -> None:
        jobs = [a_job(a_request(), start_timeout=0.01), a_job(a_request(), deadline=0.01), a_job(start_timeout=600)]
        for job in jobs:
            backend.job_store.create_job(job)
        until_overdue(backend, *jobs[:2])
        assert backend.census.take().overdue == 2
        for job in jobs[:2]:
            backend.job_store.expire_job(job.id)
        assert backend.census.take().overdue == 0
