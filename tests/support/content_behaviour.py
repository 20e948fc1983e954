"""What job stores know of contents of artifacts: over the doubles in tests/unit, over Redis in tests/integration."""

import uuid

import pytest

from diffedit.contract.content import Content, content_of
from diffedit.contract.job import Job
from diffedit.contract.object_keys import artifact_key
from diffedit.contract.stages import Artifact, Stage
from diffedit.contract.validation import digest
from diffedit.errors import JobElsewhere
from diffedit.jobs.backend import JobBackend
from tests.support.backend_behaviour import ME, OTHER, BackendBehaviour, at_mask

FIRST, SECOND = content_of(b"the first bytes"), content_of(b"other bytes")


def with_mask(job: Job, content: Content | None, key: str | None = None) -> Job:
    """Return the job with a mask of this content, at a key of its own unless one is given."""
    key = key or artifact_key("mask", digest(uuid.uuid4().hex), "png")
    return job.with_artifacts({Artifact.MASK: key}, {Artifact.MASK: content} if content else {})


def complete(backend: JobBackend, job: Job) -> None:
    backend.job_store.complete_stage(job, Stage.MASK, 1.0, Stage.MASK.gives, ME)


class ContentBehaviour(BackendBehaviour):
    def test_a_finished_stage_leaves_the_contents_of_its_artifacts(self, backend: JobBackend) -> None:
        job = with_mask(at_mask(backend), FIRST)
        complete(backend, job)
        status = backend.job_store.status(job.id)
        assert status.contents == status.job.contents == {Artifact.MASK: FIRST}
        assert backend.job_store.start_stage(job.id, Stage.INVERT, ME).contents == {Artifact.MASK: FIRST}
        key = job.artifact_keys[Artifact.MASK]
        assert backend.job_store.contents_of([key, "artifacts/never/made.png"]) == {key: FIRST}

    def test_the_last_content_of_a_key_is_its_current_one(self, backend: JobBackend) -> None:
        first = with_mask(at_mask(backend), FIRST)
        complete(backend, first)
        key = first.artifact_keys[Artifact.MASK]
        second = with_mask(at_mask(backend), SECOND, key)
        complete(backend, second)
        assert backend.job_store.contents_of([key]) == {key: SECOND}
        assert backend.job_store.status(first.id).contents == {Artifact.MASK: FIRST}

    def test_a_stage_that_must_run_again_has_no_content(self, backend: JobBackend) -> None:
        job = with_mask(at_mask(backend), FIRST)
        complete(backend, job)
        backend.job_store.start_stage(job.id, Stage.INVERT, ME)
        backend.job_store.requeue(job.without_artifact(Artifact.MASK), ME)
        assert backend.job_store.status(job.id).contents == {}
        # What must be stored at the key is still known: until it is made again, nothing else is right.
        key = job.artifact_keys[Artifact.MASK]
        assert backend.job_store.contents_of([key]) == {key: FIRST}

    def test_an_artifact_without_a_content_changes_no_known_content(self, backend: JobBackend) -> None:
        first = with_mask(at_mask(backend), FIRST)
        complete(backend, first)
        key = first.artifact_keys[Artifact.MASK]
        unknown = with_mask(at_mask(backend), None, key)
        complete(backend, unknown)
        assert backend.job_store.status(unknown.id).contents == {}
        assert backend.job_store.contents_of([key]) == {key: FIRST}

    def test_what_a_late_worker_has_stored_can_be_recorded(self, backend: JobBackend) -> None:
        job = with_mask(at_mask(backend), FIRST)
        complete(backend, job)
        key = job.artifact_keys[Artifact.MASK]
        backend.job_store.record_contents({key: SECOND})
        assert backend.job_store.contents_of([key]) == {key: SECOND}
        assert backend.job_store.status(job.id).contents == {Artifact.MASK: FIRST}
        backend.job_store.record_contents({})

    def test_only_the_worker_that_runs_the_stage_records_contents(self, backend: JobBackend) -> None:
        job = with_mask(at_mask(backend), FIRST)
        with pytest.raises(JobElsewhere):
            backend.job_store.complete_stage(job, Stage.MASK, 1.0, Stage.MASK.gives, OTHER)
        assert backend.job_store.contents_of(list(job.artifact_keys.values())) == {}
