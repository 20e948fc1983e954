"""What becomes of a job whose submission ended with an error: it never runs, or the error says that it may."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from diffedit.errors import DiffEditError, JobNotFound
from diffedit.jobs.store import JobStore


@contextmanager
def taken_back(job_store: JobStore, job_id: str, *, has_key: bool) -> Iterator[None]:
    """If an error of any kind ends the context, discard the job, or add to the error what becomes of it.

    Workers run what is recorded, with or without a message. The record of a job with an idempotency key stays: another
    call with the same key may have returned this job already.
    """
    try:
        yield
    except BaseException as error:
        advice = "call again with the same idempotency_key" if has_key else "cancel it by its id before you call again"
        remark = f"job {job_id} may be recorded nevertheless, and then it runs; {advice}"
        try:
            with suppress(Exception):
                if has_key:
                    remark = f"job {job_id} stays recorded and runs; {advice}" if _exists(job_store, job_id) else ""
                else:
                    job_store.discard_job(job_id)
                    remark = ""
        finally:  # an interrupt ends the look-up, too
            if remark:
                add_remark(error, remark)
        raise


@contextmanager
def unrecorded_settled(job_store: JobStore, job_ids: Sequence[str]) -> Iterator[set[str]]:
    """Yield a set for the jobs that are recorded, or may be. At the end, settle the copies of the others."""
    recorded: set[str] = set()
    try:
        yield recorded
    finally:
        if unrecorded := [job_id for job_id in job_ids if job_id not in recorded]:
            with suppress(Exception):  # garbage collection deletes what stays
                job_store.settle(unrecorded)


def add_remark(error: BaseException, remark: str) -> None:
    """Let the error say this, too: in its message if it is one of ours, else in a note, which tracebacks show."""
    if isinstance(error, DiffEditError):
        error.args = (f"{error}; {remark}", *error.args[1:])
    else:
        error.add_note(remark)


def _exists(job_store: JobStore, job_id: str) -> bool:
    try:
        job_store.status(job_id)
    except JobNotFound:
        return False
    return True
