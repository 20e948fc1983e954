"""What a worker does besides its stages, from one daemon thread: it lives, it watches itself, it looks after lost jobs.

A message may vanish with the worker that took it, with the server's memory, or on its way, or may never have been sent
by a client that died. Nobody notices, since a queue does not know what it once held. The record does: a job that has
not ended waits for a stage or is held by a worker. One worker at a time looks for jobs whose holder is dead and jobs
that wait without a message, and sends a new one for each. A message too many does no harm.
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

from diffedit.contract.job import ErrorInfo, Job, State
from diffedit.errors import BadRecord, JobElsewhere, JobNotFound, ServiceError
from diffedit.jobs.store import JobStore, WorkerInfo, WorkerRegistry
from diffedit.settings import Settings

if TYPE_CHECKING:
    pass

if TYPE_CHECKING:
    from diffedit_worker.runtime.runner import RunningStage

log = logging.getLogger(__name__)

TIMEOUT = "timeout"


class Maintenance:
    """Keeps a worker and, if it is the one to do so, everybody's jobs.

    `at` says what the worker is at, `send` puts a job into its queue, `end` ends this process on the spot.
    """

    def __init__(
        self,
        job_store: JobStore,
        worker_registry: WorkerRegistry,
        settings: Settings,
        worker: WorkerInfo,
        *,
        at: Callable[[], "Sequence[RunningStage]"],
        send: Callable[[Job], None],
        end: Callable[[], object] = lambda: os._exit(1),
    ) -> None:
        self._job_store = job_store
        self._worker_registry = worker_registry
        self._settings = settings
        self._worker = worker
        self._at = at
        self._send = send
        self._end = end
        self._pause = settings.worker_ttl / 5
        self._outage = -math.inf
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)

    def start(self) -> None:
        """Announce the worker, so that it may hold jobs, and go on doing so."""
        self._guarded(self.announce)
        self._thread.start()

    def stop(self) -> None:
        """Take the worker off the list at once, rather than when its last announcement runs out."""
        self._stopping.set()
        self._guarded(lambda: self._worker_registry.unregister(self._worker.id))

    def announce(self) -> None:
        at = self._at()
        # In kilobytes, but on a Mac in bytes.
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        state = {"job": at[-1].job_id if at else None, "memory": memory}
        self._worker_registry.send_heartbeat(self._worker.model_copy(update=state))

    def watch(self) -> None:
        """End this process if its stage takes longer than it may: nothing else stops a model that hangs."""
        now = time.monotonic()
        stuck = [each for each in self._at() if now - each.since >= self._settings.timeout_of(each.stage)]
        if not stuck:
            return
        try:
            for each in stuck:
                log.critical("job %s: stage %s hangs; this worker ends", each.job_id, each.stage.value)
                self._job_store.record_cause(each.job_id, each.stage, TIMEOUT)
            self._worker_registry.unregister(self._worker.id)
        finally:
            self._end()

    def let_go(self) -> None:
        """Hand back what this worker holds and is not at: the record did not answer when a stage ended."""
        held = self._job_store.jobs_held_by(self._worker.id)
        # Looked at afterwards: a worker is at a stage before it takes the job.
        at = {each.job_id for each in self._at()}
        for job_id in held:
            if job_id not in at:
                self._send_again(job_id, self._worker.id)

    def recover(self) -> None:
        """End what has run out of its time, and send a new message for every lost job, if this worker is the one to."""
        # After an outage nobody has announced itself yet, and all would count as dead.
        if time.monotonic() - self._outage < self._settings.worker_ttl:
            return
        if not self._worker_registry.acquire_leadership(self._worker.id, seconds=3 * self._pause):
            return
        for job_id in self._job_store.overdue_jobs():
            with suppress(JobNotFound):
                self._job_store.expire_job(job_id)
        for job_id in self._job_store.orphaned_jobs(grace=self._settings.worker_ttl / 2):
            self._send_again(job_id)

    def _send_again(self, job_id: str, worker: str | None = None) -> None:
        try:
            job = self._job_store.status(job_id).job
            if self._job_store.requeue(job, worker) is None:
                log.warning("job %s was lost; it goes on with stage %s", job_id, job.stages_left[0].value)
                self._send(job)
        except BadRecord as error:
            self._job_store.end_job(job_id, State.FAILED, ErrorInfo(stage=None, code=error.code, message=str(error)))
        except (JobElsewhere, JobNotFound):
            pass  # somebody has it after all, or its record is gone

    def turn(self) -> None:
        """Every duty once; what goes wrong in one does not keep the others from theirs."""
        for duty in (self.announce, self.watch, self.let_go, self.recover):
            self._guarded(duty)

    def _run(self) -> None:
        while not self._stopping.wait(self._pause):
            self.turn()

    def _guarded(self, duty: Callable[[], object]) -> None:
        try:
            duty()
        except ServiceError as error:
            self._outage = time.monotonic()
            log.warning("the keeper could not do its duty now: %s", error)
        except Exception:
            # This thread is what makes the worker count as alive; a bug in one duty shall not end the others.
            log.exception("the keeper's duty broke")
