"""What a worker does besides its stages, in one daemon thread: heartbeats, a watchdog, and the rescue of lost jobs.

A message may be lost with the worker that received it, with the server's memory, or on its way. A client may die before
it sends the message. The queue does not know what it once held, but the job's record does: a job that has not ended
either waits for a stage or is run by a worker. One worker at a time, the leader, looks for jobs of dead workers and for
jobs that wait without a message, and sends a new message for each. A surplus message does no harm.
"""

import logging
import math
import os
import resource
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from diffedit.contract import versions
from diffedit.contract.job import ErrorInfo, State
from diffedit.errors import BadRecord, JobElsewhere, JobError, JobNotFound, NewerRecord, ServiceError
from diffedit.jobs.store import JobStore
from diffedit.jobs.workers import WorkerInfo, WorkerRegistry
from diffedit_worker.runtime.context import WorkerContext
from diffedit_worker.runtime.failures import TIMEOUT
from diffedit_worker.runtime.fitness import Fitness
from diffedit_worker.settings import WorkerSettings

if TYPE_CHECKING:
    from diffedit_worker.runtime.running_stage import RunningStage

log = logging.getLogger(__name__)

THREAD_NAME = "maintenance"
RUNS_PER_TTL = 5
"""A worker sends so many heartbeats before it would count as dead."""


class Maintenance:
    """The maintenance of one worker and, if it is the leader, of all jobs.

    `running_stages` returns what the worker runs now. `exit_process` ends this process at once.
    """

    def __init__(
        self,
        job_store: JobStore,
        worker_registry: WorkerRegistry,
        settings: WorkerSettings,
        worker: WorkerInfo,
        context: WorkerContext,
        fitness: Fitness,
        running_stages: Callable[[], "Sequence[RunningStage]"],
        exit_process: Callable[[], object] = lambda: os._exit(1),
    ) -> None:
        self._job_store = job_store
        self._worker_registry = worker_registry
        self._settings = settings
        self._worker = worker
        self._context = context
        self._fitness = fitness
        self._running_stages = running_stages
        self._exit_process = exit_process
        self._interval = settings.worker_ttl / RUNS_PER_TTL
        self._last_outage = -math.inf
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run_until_stopped, name=THREAD_NAME, daemon=True)

    def start(self) -> None:
        """Send the first heartbeat, so that the worker may run jobs, and start the thread."""
        self._guarded(self.send_heartbeat)
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread and unregister the worker at once, instead of when its last heartbeat expires."""
        self._stopping.set()
        self._guarded(lambda: self._worker_registry.unregister(self._worker.id))

    def run_once(self) -> None:
        """Do each duty once. An error in one duty does not prevent the others."""
        duties = (
            self.exit_if_stuck,
            self._fitness.end_pause_if_possible,
            self.send_heartbeat,
            self.release_idle,
            self.look_after_all_jobs,
        )
        for duty in duties:
            self._guarded(duty)

    def send_heartbeat(self) -> None:
        """Announce this worker, its job and its memory."""
        running = self._running_stages()
        # `ru_maxrss` is in kilobytes, on macOS in bytes.
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        job = running[-1].job_id if running else None
        changes = {"job": job, "memory": memory, "paused": self._fitness.paused}
        self._worker_registry.send_heartbeat(self._worker.model_copy(update=changes))

    def exit_if_stuck(self) -> None:
        """End this process if a step takes longer than the stage's timeout. Nothing else stops a model that hangs."""
        now, timeout_of = time.monotonic(), self._settings.stage_timeouts.of
        stuck = [each for each in self._running_stages() if now - each.last_progress_at >= timeout_of(each.stage)]
        if not stuck:
            return
        try:
            for each in stuck:
                log.critical("job %s: stage %s is stuck; this worker ends", each.job_id, each.stage.value)
                self._job_store.record_cause(each.job_id, each.stage, TIMEOUT)
            self._worker_registry.unregister(self._worker.id)
        finally:
            self._exit_process()

    def release_idle(self) -> None:
        """Requeue the jobs that Redis says this worker runs although it does not.

        That happens if Redis did not answer when a stage ended.
        """
        held = self._job_store.jobs_held_by(self._worker.id)
        # Asked afterwards, because a worker notes a running stage before it starts the stage in the record.
        running = {each.job_id for each in self._running_stages()}
        for job_id in held:
            if job_id not in running:
                self._send_again(job_id, self._worker.id)

    def look_after_all_jobs(self) -> None:
        """If this worker is the leader, end overdue jobs, those that no worker can run, and requeue orphaned ones."""
        # After an outage no worker has sent a heartbeat yet, so all of them would count as dead.
        if time.monotonic() - self._last_outage < self._settings.worker_ttl:
            return
        if not self._worker_registry.acquire_leadership(self._worker.id, seconds=3 * self._interval):
            return
        for job_id in self._job_store.overdue_jobs():
            with suppress(JobError):
                self._job_store.expire_job(job_id)
        for job_id in self._job_store.refused_jobs(self._settings.refusal_patience):
            with suppress(JobError):
                if self._job_store.end_refused(job_id) is State.FAILED:
                    log.error("job %s: failed, because all its workers are paused; its record holds the reason", job_id)
        for job_id in self._job_store.orphaned_jobs(grace=self._settings.worker_ttl / 2):
            self._send_again(job_id)

    def _send_again(self, job_id: str, worker: str | None = None) -> None:
        try:
            status = self._job_store.status(job_id)
            if status.contract > versions.CONTRACT:
                return  # Its stages may be others than we know.
            job = status.job
            if self._job_store.requeue(job, worker) is None:
                log.warning("job %s was lost; it continues with stage %s", job_id, job.stages_left[0].value)
                self._context.enqueue(job)
        except NewerRecord:
            pass
        except BadRecord as error:
            failure = ErrorInfo(stage=None, code=error.code, message=str(error))
            with suppress(JobError):  # its outcome may be unreadable, too
                self._job_store.end_job(job_id, State.FAILED, failure)
        except (JobElsewhere, JobNotFound):
            pass  # A worker has the job after all, or its record has expired.

    def _run_until_stopped(self) -> None:
        while not self._stopping.wait(self._interval):
            self.run_once()

    def _guarded(self, duty: Callable[[], object]) -> None:
        try:
            duty()
        except ServiceError as error:
            self._last_outage = time.monotonic()
            log.warning("maintenance is incomplete because Redis does not answer: %s", error)
        except Exception:
            # Without this thread the worker counts as dead, so an error in one duty must not end it.
            log.exception("a maintenance duty failed unexpectedly")
