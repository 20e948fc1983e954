"""What the tests of the job backend share."""

import time
from collections.abc import Callable

import pytest

from diffedit.contract.job import Job
from diffedit.contract.stages import Stage
from diffedit.jobs.backend import JobBackend
from tests.support.factories import a_job, a_worker, done

ME, OTHER = "me", "other"


def new_job(backend: JobBackend) -> Job:
    """Create a job, and announce two workers that can run it."""
    backend.worker_registry.send_heartbeat(a_worker(id=ME))
    backend.worker_registry.send_heartbeat(a_worker(id=OTHER))
    job = a_job()
    backend.job_store.create_job(job)
    return job


def at_mask(backend: JobBackend) -> Job:
    """Create a job of which ME runs the mask stage."""
    job = new_job(backend)
    backend.job_store.start_stage(job.id, Stage.EMBED, ME)
    job = done(job, Stage.EMBED)
    backend.job_store.complete_stage(job, Stage.EMBED, 0.25, [], ME)
    backend.job_store.start_stage(job.id, Stage.MASK, ME)
    return job


def orphans(backend: JobBackend, waited: float) -> list[str]:
    """Return the jobs that maintenance would send again."""
    store = backend.job_store
    return [*store.abandoned_jobs(), *store.jobs_without_message(waited)]


def until_overdue(backend: JobBackend, *jobs: Job) -> None:
    """Wait until the time of these jobs is over."""
    deadline = time.monotonic() + 30
    while not {job.id for job in jobs} <= set(backend.job_store.overdue_jobs()):
        assert time.monotonic() < deadline, "the jobs are never overdue"
        time.sleep(0.02)


class BackendBehaviour:
    """The base of the behaviours. A subclass has a fixture `make_backend`, which makes an empty backend."""

    @pytest.fixture
    def backend(self, make_backend: Callable[..., JobBackend]) -> JobBackend:
        return make_backend()
