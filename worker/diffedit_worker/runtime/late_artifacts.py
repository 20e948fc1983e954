"""What becomes of artifacts that a worker has stored for a job that is no longer its own."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from diffedit.contract.content import Content
from diffedit.contract.object_keys import companion_keys
from diffedit.errors import JobElsewhere, JobNotFound
from diffedit.jobs.store import JobStore
from diffedit_worker.runtime.artifacts import JobArtifacts
from diffedit_worker.runtime.dispositions import JobEnded


@contextmanager
def settled_if_late(stored: Mapping[str, Content], artifacts: JobArtifacts, job_store: JobStore) -> Iterator[None]:
    """Inside it, the record learns what was `stored`, by key. If the job is gone by then, nothing is left undone.

    If the job was deleted, nobody else knows of these artifacts, so they are deleted as well. If another worker runs
    it, or if it has ended, this worker may have written last; what others made may have other bytes, because passes
    that are shared round in another way. So what is stored in the end is recorded.
    """
    try:
        yield
    except JobNotFound:
        for key in stored:
            for each in (key, *companion_keys(key)):
                artifacts.remove(each)
        raise
    except (JobElsewhere, JobEnded):
        job_store.record_contents(artifacts.still_stored(stored))
        raise
