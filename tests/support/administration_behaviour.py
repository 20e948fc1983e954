"""How every job store lets jobs start over in place, and says where they wait."""

import time
import uuid

import pytest

from diffedit.contract.job import ErrorInfo, Job, JobOptions, State
from diffedit.contract.owners import OwnerLimits
from diffedit.contract.stages import Stage, queue_name
from diffedit.errors import JobElsewhere, JobNotFound
from diffedit.jobs.administration import StartOver, Waiting
from diffedit.jobs.backend import JobBackend
from diffedit.jobs.filters import JobFilter
from diffedit.jobs.store import OwnerBusy
from tests.support.backend_behaviour import ME, OTHER, BackendBehaviour, at_mask, new_job, until_overdue
from tests.support.factories import a_job, a_request, a_worker

LOST = ErrorInfo(stage=Stage.MASK, code="worker_lost", message="It was lost.")


def without_artifacts(job: Job) -> Job:
    return Job(id=job.id, request=job.request, options=job.options)


def revive(backend: JobBackend, job: Job, options: JobOptions | None = None) -> StartOver:
    return backend.job_store.revive_job(without_artifacts(job), options or job.options)


class AdministrationBehaviour(BackendBehaviour):
    def test_a_job_that_failed_starts_over_under_its_id(self, backend: JobBackend) -> None:
        job, store = at_mask(backend), backend.job_store
        store.record_cause(job.id, Stage.MASK, "timeout")
        before = store.status(job.id)
        store.end_job(job.id, State.FAILED, LOST)
        assert revive(backend, job) is StartOver.DONE
        after = store.status(job.id)
        assert (after.state, after.created_at, after.request) == (State.QUEUED, before.created_at, before.request)
        assert (after.error, after.finished_at, after.started_at, after.stage) == (None, None, None, None)
        assert (after.attempts, after.timings, after.artifact_keys, after.contents) == ({}, {}, {}, {})
        assert store.start_stage(job.id, Stage.EMBED, OTHER).attempts == {Stage.EMBED: 1}

    def test_a_job_that_starts_over_is_in_the_lists_of_open_jobs(self, backend: JobBackend) -> None:
        profile, store = f"m{uuid.uuid4().hex[:8]}", backend.job_store
        job = a_job(a_request(params={"profile": profile}), owner="u1")
        store.create_job(job)
        store.end_job(job.id, State.FAILED, LOST)
        revive(backend, job)
        for wanted, expected in [
            ({"state": State.FAILED}, []),
            ({"code": "worker_lost"}, []),
            ({"state": State.QUEUED}, [job.id]),
            ({"owner": "u1", "state": State.QUEUED}, [job.id]),
        ]:
            page = store.find_jobs(JobFilter(profile=profile, **wanted))
            assert [status.id for status in page.statuses] == expected
        assert store.waiting_jobs()[job.queue] == 1
        store.end_job(job.id, State.CANCELLED)
        (status,) = store.find_jobs(JobFilter(profile=profile, state=State.CANCELLED)).statuses
        assert status.error is None

    def test_only_what_has_ended_without_success_starts_over(self, backend: JobBackend) -> None:
        job, store = at_mask(backend), backend.job_store
        assert revive(backend, job) is StartOver.OPEN
        store.end_job(job.id, State.SUCCEEDED)
        assert revive(backend, job) is StartOver.ENDED
        assert revive(backend, a_job()) is StartOver.MISSING
        assert store.status(job.id).state is State.SUCCEEDED

    @pytest.mark.parametrize("limit", ["deadline", "start_timeout"])
    def test_a_time_limit_that_is_over_is_dropped_or_forbids_it(self, backend: JobBackend, limit: str) -> None:
        job, store = a_job(**{limit: 0.3}), backend.job_store
        store.create_job(job)
        until_overdue(backend, job)
        assert store.expire_job(job.id) is State.EXPIRED
        assert revive(backend, job) is StartOver.OVERDUE
        assert store.status(job.id).state is State.EXPIRED
        assert revive(backend, job, JobOptions()) is StartOver.DONE
        status = store.status(job.id)
        assert (status.state, status.expires_at) == (State.QUEUED, None)
        assert store.expire_job(job.id) is None

    def test_a_deadline_that_is_not_over_still_holds(self, backend: JobBackend) -> None:
        job, store = a_job(deadline=4.0), backend.job_store
        store.create_job(job)
        store.end_job(job.id, State.CANCELLED)
        assert revive(backend, job) is StartOver.DONE
        until_overdue(backend, job)
        assert store.expire_job(job.id) is State.EXPIRED

    def test_the_idempotency_key_names_the_job_that_starts_over(self, backend: JobBackend) -> None:
        job, key, store = a_job(), uuid.uuid4().hex, backend.job_store
        store.create_job(job, key)
        store.end_job(job.id, State.FAILED, LOST)
        revive(backend, job)
        assert store.create_job(a_job(), key) == job.id

    def test_a_job_that_starts_over_waits_for_room_among_those_of_its_owner(self, backend: JobBackend) -> None:
        store, owner = backend.job_store, uuid.uuid4().hex
        backend.worker_registry.send_heartbeat(a_worker(id=ME))
        store.set_owner_limits(owner, OwnerLimits(max_running=1))
        first, second = a_job(owner=owner), a_job(owner=owner)
        for job in (first, second):
            store.create_job(job)
        store.start_stage(first.id, Stage.EMBED, ME)
        store.end_job(first.id, State.FAILED, LOST)
        store.start_stage(second.id, Stage.EMBED, ME)
        revive(backend, first)
        with pytest.raises(OwnerBusy):
            store.start_stage(first.id, Stage.EMBED, ME)
        store.end_job(second.id, State.CANCELLED)
        assert store.start_stage(first.id, Stage.EMBED, ME).state is State.RUNNING

    def test_the_events_of_a_job_that_started_over_have_other_ids(self, backend: JobBackend) -> None:
        job, store = a_job(webhook="https://example.org/hook"), backend.job_store
        store.create_job(job)
        store.end_job(job.id, State.FAILED, LOST)
        first = backend.outbox.claim(60)
        revive(backend, job)
        store.end_job(job.id, State.FAILED, LOST)
        second = backend.outbox.claim(60)
        assert first and second
        assert (first.id, second.id) == (f"{job.id}.failed", f"{job.id}.failed.1")
        assert (second.job_id, second.name, second.attempt) == (job.id, "failed", 1)
        backend.outbox.settle(second)
        assert [(each.event, each.state) for each in store.status(job.id).deliveries] == [("edit.failed", "delivered")]

    def test_a_moved_job_starts_over_in_another_profile(self, backend: JobBackend) -> None:
        profile, store = f"m{uuid.uuid4().hex[:8]}", backend.job_store
        job = at_mask(backend)
        store.requeue(job, ME)
        moved = a_job(
            job.request.model_copy(update={"params": job.request.params.model_copy(update={"profile": profile})})
        )
        moved = moved.model_copy(update={"id": job.id})
        assert store.move_job(moved) is StartOver.DONE
        status = store.status(job.id)
        assert (status.state, status.request.params.profile, status.artifact_keys) == (State.QUEUED, profile, {})
        assert store.waiting_jobs().get(job.queue) is None and store.waiting_jobs()[moved.queue] == 1
        with pytest.raises(JobElsewhere):  # its old message reaches a worker of the old profile
            store.start_stage(job.id, Stage.EMBED, OTHER)
        queues = (queue_name(profile, Stage.EMBED.group),)
        backend.worker_registry.send_heartbeat(a_worker(id="theirs", profile=profile, queues=queues))
        assert store.start_stage(job.id, Stage.EMBED, "theirs").worker == "theirs"

    def test_a_job_that_runs_or_has_ended_is_not_moved(self, backend: JobBackend) -> None:
        job, store = at_mask(backend), backend.job_store
        assert store.move_job(without_artifacts(job)) is StartOver.RUNNING
        store.end_job(job.id, State.CANCELLED)
        assert store.move_job(without_artifacts(job)) is StartOver.ENDED
        assert store.move_job(a_job()) is StartOver.MISSING
        assert store.status(job.id).artifact_keys.keys() == set(Stage.EMBED.gives)

    def test_it_is_known_where_a_job_waits_and_who_runs_it(self, backend: JobBackend) -> None:
        job, store = new_job(backend), backend.job_store
        place = store.waiting_of(job.id)
        assert place and place.since and abs(place.since - store.now()) < 60
        assert place == Waiting(job.queue, place.since, None, parked=False, held_back=False)
        store.start_stage(job.id, Stage.EMBED, ME)
        assert store.waiting_of(job.id) == Waiting(job.queue, None, ME, parked=False, held_back=False)
        store.end_job(job.id, State.CANCELLED)
        assert store.waiting_of(job.id) is None
        with pytest.raises(JobNotFound):
            store.waiting_of(uuid.uuid4().hex)

    def test_the_counts_of_queues(self, backend: JobBackend) -> None:
        profile, store = f"m{uuid.uuid4().hex[:8]}", backend.job_store
        jobs = [a_job(a_request(params={"profile": profile})) for _ in range(3)]
        for job in jobs:
            store.create_job(job)
            time.sleep(0.001)
        counts = store.queue_counts()[jobs[0].queue]
        assert (counts.waiting, counts.held_back, counts.parked) == (3, 0, 0)
        first = store.waiting_of(jobs[0].id)
        assert first and counts.oldest == first.since
