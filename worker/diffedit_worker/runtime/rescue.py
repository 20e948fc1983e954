"""The rescue of jobs that no worker and no message looks after any more.

A message may be lost with the worker that received it, with the server's memory, or on its way. A client may die before
it sends the message. The queue does not know what it once held, but the job's record does: a job that has not ended
either waits for a stage or is run by a worker. One worker at a time, the leader, looks for jobs of dead workers and for
jobs that wait without a message, and sends a new message for each. A surplus message does no harm.

There may be thousands of them. So the leader works in slices of a few seconds and renews its leadership before each.
What it has listed before may be out of date by then; the script that requeues a job decides.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import chain

from diffedit.contract import versions
from diffedit.contract.job import ErrorInfo, JobStatus, State
from diffedit.errors import BadRecord, JobElsewhere, JobError, JobNotFound, NewerRecord, ServiceError
from diffedit.jobs.store import JobStore
from diffedit.jobs.workers import WorkerRegistry
from diffedit_worker.runtime.context import WorkerContext

log = logging.getLogger(__name__)

SLICES_PER_LEASE = 3
"""A leader stays the leader for the time of so many slices, in case one takes longer."""

WORKER_DEAD, WORKER_LEFT = "its worker is dead", "this worker has left it"

Task = Callable[[], object]
"""What is to be done for one job."""


class Rescue:
    """What one worker does for its own jobs and, if it is the leader, for all jobs.

    Args:
        running_jobs: returns the jobs that this worker runs now.
        worker_ttl: seconds without a heartbeat after which a worker counts as dead.
        refusal_patience: as in `WorkerSettings`.
        slice_seconds: how long one turn lasts at most, but for the job that it is at.
    """

    def __init__(
        self,
        job_store: JobStore,
        worker_registry: WorkerRegistry,
        context: WorkerContext,
        running_jobs: Callable[[], set[str]],
        *,
        worker_ttl: float,
        refusal_patience: float,
        slice_seconds: float,
    ) -> None:
        self._job_store = job_store
        self._worker_registry = worker_registry
        self._context = context
        self._running_jobs = running_jobs
        self._waited = worker_ttl / 2
        self._refusal_patience = refusal_patience
        self._slice_seconds = slice_seconds
        self.is_leader = False
        """Whether this worker was the leader when it last asked."""
        self._rest: Iterator[Task] | None = None
        """What is left of the pass over all jobs that the last slice began or continued."""

    def release_idle(self) -> None:
        """Requeue the jobs that Redis says this worker runs although it does not.

        That happens if Redis did not answer when a stage ended.
        """
        held = self._job_store.jobs_held_by(self._context.id)
        running = self._running_jobs()
        for job_id in held:
            if job_id not in running:
                _carry_out(partial(self._send_again, job_id, WORKER_LEFT, self._context.id))

    def rescue_orphans(self) -> None:
        """If this worker is the leader, work for one slice at what all jobs need.

        Jobs of dead workers come first. A pass over all others may take several slices.
        """
        lease = SLICES_PER_LEASE * self._slice_seconds
        self.is_leader = self._worker_registry.acquire_leadership(self._context.id, seconds=lease)
        if not self.is_leader:
            self._rest = None
            return
        ends_at = time.monotonic() + self._slice_seconds
        self._rest = self._rest or self._pass()
        _carry_out(self._job_store.tend_queues)
        for task in chain(self._abandoned(), self._rest):
            _carry_out(task)
            if time.monotonic() >= ends_at or self._context.shutting_down():
                return
        self._rest = None

    def _abandoned(self) -> Iterator[Task]:
        for job_id in self._job_store.abandoned_jobs():
            yield partial(self._send_again, job_id, WORKER_DEAD)

    def _pass(self) -> Iterator[Task]:
        """Yield what there is to do for jobs that are overdue, that no worker can run, or that wait without a message.

        Each list is read when the one before is done.
        """
        for job_id in self._job_store.overdue_jobs():
            yield partial(self._job_store.expire_job, job_id)
        for job_id in self._job_store.refused_jobs(self._refusal_patience):
            yield partial(self._end_refused, job_id)
        for job_id in self._job_store.jobs_without_message(self._waited):
            yield partial(self._send_again, job_id)

    def _end_refused(self, job_id: str) -> None:
        if self._job_store.end_refused(job_id) is State.FAILED:
            log.error("job %s: failed, because all its workers are paused; its record holds the reason", job_id)

    def _send_again(self, job_id: str, reason: str | None = None, worker: str | None = None) -> None:
        """Requeue a job and send its message. Without a reason, it is one that has waited without a message."""
        try:
            status = self._job_store.status(job_id)
            if status.contract > versions.CONTRACT:
                return  # Its stages may be others than we know.
            # Asked after the status, because a worker notes a running stage before it starts the stage in the record.
            if worker and job_id in self._running_jobs():
                return  # It was between two stages.
            job = status.job
            stage = job.stages_left[0]
            attempt = status.attempts.get(stage, 0) if worker else None
            if self._job_store.requeue(job, worker, attempt=attempt, waited=self._waited) is None:
                why = reason or _why_it_waits(status)
                log.warning("job %s: %s; it continues with stage %s", job_id, why, stage.value)
                self._context.enqueue(job)
                if reason is WORKER_DEAD:
                    self._context.job_recovered(job)
        except NewerRecord:
            pass
        except BadRecord as error:
            failure = ErrorInfo(stage=None, code=error.code, message=str(error))
            self._job_store.end_job(job_id, State.FAILED, failure)
        except JobNotFound:
            self._job_store.expire_job(job_id)  # Its record has expired. The script forgets the job.
        except JobElsewhere:
            pass  # A worker has the job after all, or it was sent meanwhile.


def _why_it_waits(status: JobStatus) -> str:
    if status.refusal:
        return f"no worker was left to try stage {status.refusal.stage}"
    return "it waits without a message"


def _carry_out(task: Task) -> None:
    """What fails for one job must not prevent the rescue of the others."""
    try:
        with suppress(JobError):
            task()
    except ServiceError:
        raise
    except Exception:
        log.exception("the rescue of a job failed unexpectedly")
