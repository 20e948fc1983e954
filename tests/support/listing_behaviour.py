"""How every job store lists jobs by state, code, stage, profile, owner and age."""

import time
import uuid
from typing import Any

import pytest

from diffedit.contract.job import ErrorInfo, Job, State
from diffedit.contract.stages import Artifact, Stage
from diffedit.jobs.backend import JobBackend
from diffedit.jobs.filters import JobFilter
from tests.support.backend_behaviour import ME, BackendBehaviour
from tests.support.factories import a_job, a_request, a_worker, done


def failed(backend: JobBackend, code: str, stage: Stage | None = Stage.MASK, **options: Any) -> str:
    job = a_job(a_request(params={"profile": options.pop("profile", "tiny")}), **options)
    backend.job_store.create_job(job)
    backend.job_store.end_job(job.id, State.FAILED, ErrorInfo(stage=stage, code=code, message="It failed."))
    return job.id


def found(backend: JobBackend, limit: int = 50, **wanted: Any) -> list[str]:
    page = backend.job_store.find_jobs(JobFilter(**wanted), limit)
    assert not page.unreadable
    return [status.id for status in page.statuses]


class ListingBehaviour(BackendBehaviour):
    @pytest.fixture
    def jobs(self, backend: JobBackend) -> dict[str, str]:
        """Jobs of each kind, in the order of their submission, in a profile that no other test uses."""
        backend.worker_registry.send_heartbeat(a_worker(id=ME))
        self.profile = f"m{uuid.uuid4().hex[:8]}"
        store, made = backend.job_store, {}

        def new(**options: Any) -> Job:
            job = a_job(a_request(params={"profile": self.profile}), **options)
            store.create_job(job)
            return job

        made["lost"] = failed(backend, "worker_lost", profile=self.profile, owner="u1")
        made["empty"] = failed(backend, "empty_mask", profile=self.profile)
        made["waiting"] = new(owner="u1").id
        running, cancelled = new(), new(tags={"album": "9"})
        store.start_stage(running.id, Stage.EMBED, ME)
        store.complete_stage(done(running, Stage.EMBED), Stage.EMBED, 1.0, [Artifact.EMBEDDINGS], ME)
        made["running"] = running.id
        store.end_job(cancelled.id, State.CANCELLED)
        made["cancelled"] = cancelled.id
        made["other"] = failed(backend, "worker_lost", Stage.EDIT, profile=f"n{self.profile}")
        return made

    @pytest.mark.parametrize(
        ("wanted", "expected"),
        [
            ({"state": State.FAILED}, ["empty", "lost"]),
            ({"code": "worker_lost"}, ["lost"]),
            ({"stage": Stage.MASK}, ["running", "empty", "lost"]),
            ({"stage": Stage.EMBED}, ["waiting"]),
            ({"state": State.QUEUED}, ["waiting"]),
            ({"state": State.RUNNING}, ["running"]),
            ({"owner": "u1"}, ["waiting", "lost"]),
            ({"owner": "u1", "state": State.FAILED, "code": "worker_lost"}, ["lost"]),
            ({"owner": "u1", "state": State.QUEUED}, ["waiting"]),
            ({"tag": ("album", "9")}, ["cancelled"]),
            ({"tag": ("album", "9"), "state": State.FAILED}, []),
            ({"state": State.SUCCEEDED}, []),
            ({"code": "worker_lost", "state": State.QUEUED}, []),
            ({}, ["cancelled", "running", "waiting", "empty", "lost"]),
        ],
    )
    def test_jobs_are_found_by_what_they_have_in_common(
        self, backend: JobBackend, jobs: dict[str, str], wanted: dict[str, Any], expected: list[str]
    ) -> None:
        assert found(backend, profile=self.profile, **wanted) == [jobs[name] for name in expected]

    def test_jobs_of_all_profiles_are_found_by_code(self, backend: JobBackend, jobs: dict[str, str]) -> None:
        assert found(backend, code="worker_lost")[:2] == [jobs["other"], jobs["lost"]]
        assert found(backend, code="worker_lost", stage=Stage.EDIT)[0] == jobs["other"]

    def test_the_age_of_a_job_counts_from_its_end(self, backend: JobBackend) -> None:
        backend.worker_registry.send_heartbeat(a_worker(id=ME))
        old, late, young = a_job(), a_job(), a_job()
        for job in (old, late):
            backend.job_store.create_job(job)
        backend.job_store.end_job(old.id, State.CANCELLED)
        time.sleep(0.01)
        between = backend.job_store.now()
        backend.job_store.end_job(late.id, State.CANCELLED)
        backend.job_store.create_job(young)
        listed = (old.id, late.id, young.id)

        def of_these(**wanted: Any) -> list[str]:
            return [job_id for job_id in found(backend, **wanted) if job_id in listed]

        assert of_these(since=between) == [young.id, late.id]
        assert of_these(since=between, state=State.CANCELLED) == [late.id]
        assert of_these(until=between, state=State.CANCELLED) == [old.id]
        assert of_these(since=between, until=backend.job_store.now(), profile="tiny") == [young.id, late.id]

    def test_pages_of_a_filtered_list_have_each_job_once(self, backend: JobBackend) -> None:
        profile = f"m{uuid.uuid4().hex[:8]}"
        ids = [failed(backend, "worker_lost", profile=profile) for _ in range(5)]
        wanted, cursor, seen = JobFilter(state=State.FAILED, profile=profile), None, []
        while True:
            page = backend.job_store.find_jobs(wanted, 2, cursor)
            seen.append([status.id for status in page.statuses])
            cursor = page.cursor
            if cursor is None:
                break
        assert seen == [ids[:2:-1], ids[2:0:-1], ids[:1]]

    def test_a_removed_job_is_in_no_list(self, backend: JobBackend) -> None:
        profile = f"m{uuid.uuid4().hex[:8]}"
        first, second = (failed(backend, "worker_lost", profile=profile) for _ in range(2))
        backend.job_store.remove_job(first)
        assert found(backend, profile=profile) == found(backend, profile=profile, code="worker_lost") == [second]
