"""What worker registries and artifact locks do: over the doubles in tests/unit, over Redis in tests/integration."""

import uuid

import pytest

from diffedit.contract.stages import Artifact, Stage
from diffedit.jobs.backend import JobBackend
from diffedit.jobs.workers import LockResult
from tests.support.backend_behaviour import ME, OTHER, BackendBehaviour, at_mask, new_job
from tests.support.factories import a_worker


class WorkerRegistryBehaviour(BackendBehaviour):
    def test_one_worker_at_a_time_is_the_leader(self, backend: JobBackend) -> None:
        assert backend.worker_registry.acquire_leadership(ME, seconds=60)
        assert backend.worker_registry.acquire_leadership(ME, seconds=60)
        assert not backend.worker_registry.acquire_leadership(OTHER, seconds=60)

    def test_live_workers_are_listed(self, backend: JobBackend) -> None:
        worker = a_worker(id=uuid.uuid4().hex, job="ab" * 16, memory=5)
        backend.worker_registry.send_heartbeat(worker)
        assert worker in backend.worker_registry.workers()
        backend.worker_registry.unregister(worker.id)
        assert worker not in backend.worker_registry.workers()

    def test_the_parameter_defaults_of_a_profile_outlive_its_worker(self, backend: JobBackend) -> None:
        assert backend.worker_registry.profile_params("nobody-served-it") == {}
        assert not backend.worker_registry.has_announced("nobody-served-it")
        worker = a_worker(id="w", profile="own", profile_params={"num_inference_steps": 20, "mask_cleanup": True})
        backend.worker_registry.send_heartbeat(worker)
        backend.worker_registry.unregister("w")
        assert backend.worker_registry.workers() == []
        assert backend.worker_registry.profile_params("own") == worker.profile_params
        assert backend.worker_registry.has_announced("own")

    def test_the_presets_of_a_profile_outlive_its_worker(self, backend: JobBackend) -> None:
        assert backend.worker_registry.profile_presets("nobody-served-it") == {}
        worker = a_worker(id="w", profile="own", profile_presets={"draft": {"num_inference_steps": 15}})
        backend.worker_registry.send_heartbeat(worker)
        backend.worker_registry.unregister("w")
        assert backend.worker_registry.profile_presets("own") == worker.profile_presets


class ArtifactLocksBehaviour(BackendBehaviour):
    @pytest.mark.parametrize("other", [ME, OTHER])
    def test_one_job_locks_an_artifact_and_others_wait_for_it(self, backend: JobBackend, other: str) -> None:
        job, key = at_mask(backend), f"artifacts/{uuid.uuid4().hex}"
        assert backend.artifact_locks.acquire([key], job.id, ME) is LockResult.ACQUIRED
        assert backend.artifact_locks.acquire([key], job.id, ME) is LockResult.ACQUIRED
        waiting = [new_job(backend).id for _ in range(2)]
        for each in (*waiting, waiting[0]):
            assert backend.artifact_locks.acquire([key], each, other) is LockResult.LOCKED
        assert backend.artifact_locks.release([key], waiting[0], other) == []
        assert sorted(backend.artifact_locks.release([key], job.id, ME)) == sorted(waiting)
        assert backend.artifact_locks.release([key], job.id, ME) == []
        # A job that looked before the artifact was made must look again.
        assert backend.artifact_locks.acquire([key], waiting[0], other) is LockResult.RECENTLY_RELEASED

    def test_a_job_that_takes_over_the_lock_of_a_dead_worker_does_not_wait_for_itself(
        self, backend: JobBackend
    ) -> None:
        waiting, job, key = new_job(backend), at_mask(backend), f"artifacts/{uuid.uuid4().hex}"
        backend.artifact_locks.acquire([key], job.id, ME)
        assert backend.artifact_locks.acquire([key], waiting.id, OTHER) is LockResult.LOCKED
        backend.worker_registry.unregister(ME)
        assert backend.artifact_locks.acquire([key], waiting.id, OTHER) is LockResult.ACQUIRED
        assert backend.artifact_locks.release([key], waiting.id, OTHER) == []

    def test_completing_a_stage_releases_its_locks(self, backend: JobBackend) -> None:
        job = at_mask(backend)
        made = job.with_artifacts({Artifact.MASK: f"artifacts/mask/{uuid.uuid4().hex}.png"})
        waiting, key = new_job(backend).id, made.artifact_keys[Artifact.MASK]
        backend.artifact_locks.acquire([key], job.id, ME)
        assert backend.artifact_locks.acquire([key], waiting, OTHER) is LockResult.LOCKED
        assert backend.job_store.complete_stage(made, Stage.MASK, 1.0, [Artifact.MASK], ME) == (None, [waiting])
        assert backend.artifact_locks.acquire([key], waiting, OTHER) is LockResult.RECENTLY_RELEASED

    def test_all_artifacts_are_locked_or_none(self, backend: JobBackend) -> None:
        job, (first, second) = at_mask(backend), (f"artifacts/{uuid.uuid4().hex}" for _ in range(2))
        assert backend.artifact_locks.acquire([second], job.id, ME) is LockResult.ACQUIRED
        waiting = new_job(backend).id
        assert backend.artifact_locks.acquire([first, second], waiting, OTHER) is LockResult.LOCKED
        assert backend.artifact_locks.acquire([first], job.id, ME) is LockResult.ACQUIRED
        assert backend.artifact_locks.release([first, second], job.id, ME) == [waiting]

    def test_the_locks_of_a_dead_worker_are_void(self, backend: JobBackend) -> None:
        other, job, key = new_job(backend), at_mask(backend), f"artifacts/{uuid.uuid4().hex}"
        assert backend.artifact_locks.acquire([key], job.id, ME) is LockResult.ACQUIRED
        backend.worker_registry.unregister(ME)
        assert backend.artifact_locks.acquire([key], other.id, OTHER) is LockResult.ACQUIRED

    def test_the_lock_of_a_requeued_job_is_void(self, backend: JobBackend) -> None:
        job, key = at_mask(backend), f"artifacts/{uuid.uuid4().hex}"
        assert backend.artifact_locks.acquire([key], job.id, ME) is LockResult.ACQUIRED
        backend.job_store.requeue(job, ME)  # the call that releases the lock was lost
        assert backend.artifact_locks.acquire([key], new_job(backend).id, OTHER) is LockResult.ACQUIRED
