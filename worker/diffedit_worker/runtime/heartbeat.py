"""What shows that a worker lives, and what ends it when it hangs: the heartbeat and the watchdog."""

import logging
import resource
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from diffedit.jobs.store import JobStore
from diffedit.jobs.workers import WorkerInfo, WorkerRegistry
from diffedit.trace_export import exit_at_once
from diffedit_worker.runtime.context import WorkerContext
from diffedit_worker.runtime.failures import TIMEOUT
from diffedit_worker.runtime.requeueing import requeue_innocent
from diffedit_worker.settings import StageTimeouts

if TYPE_CHECKING:
    from diffedit_worker.runtime.running_stage import RunningStage

log = logging.getLogger(__name__)

RUNS_PER_TTL = 5
"""A worker sends so many heartbeats before it would count as dead."""

BLAMED_SHARE = 0.5
"""Beside a stuck stage, one that made no step for this share of its timeout is to blame as well.

Stages that share a pass of the model hang together, and not at the very same moment."""


class Heartbeat:
    """The heartbeat and the watchdog of one worker.

    `running_stages` returns what the worker runs now, `paused` whether it takes no jobs. `exit_process` ends this
    process at once.
    """

    def __init__(
        self,
        job_store: JobStore,
        worker_registry: WorkerRegistry,
        worker: WorkerInfo,
        stage_timeouts: StageTimeouts,
        context: WorkerContext,
        running_stages: Callable[[], "Sequence[RunningStage]"],
        paused: Callable[[], bool],
        exit_process: Callable[[], object] = lambda: exit_at_once(1),
    ) -> None:
        self._job_store = job_store
        self._worker_registry = worker_registry
        self._worker = worker
        self._stage_timeouts = stage_timeouts
        self._context = context
        self._running_stages = running_stages
        self._paused = paused
        self._exit_process = exit_process
        self._lock = threading.Lock()
        self._ended = False
        self.sent_at: float | None = None
        """When Redis took a heartbeat last, by `time.monotonic`; None if it has taken none."""

    def send(self) -> None:
        """Announce this worker, its jobs and its memory. Let it drain if it shall. Does nothing after `end`."""
        jobs = tuple(each.job_id for each in self._running_stages())
        # `ru_maxrss` is in kilobytes, on macOS in bytes.
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        job = jobs[-1] if jobs else None
        draining = self._context.draining()
        # Versions that know of no draining see that it takes no jobs.
        states = {"paused": draining or self._paused(), "draining": draining}
        info = self._worker.model_copy(update={"job": job, "jobs": jobs, "memory": memory, **states})
        with self._lock:
            if self._ended:
                return
            shall_drain = self._worker_registry.send_heartbeat(info)
            self.sent_at = time.monotonic()
        if shall_drain:
            self._context.drain()

    def end(self) -> None:
        """Unregister the worker at once, instead of when its last heartbeat expires."""
        with self._lock:
            self._ended = True
            self._worker_registry.unregister(self._worker.id)

    def exit_if_stuck(self) -> None:
        """End this process if a step takes longer than the stage's timeout. Nothing else stops a model that hangs.

        The other stages of this worker return to their queues, and their attempts do not count.
        """
        running = self._running_stages()
        if not self._without_step(running, 1):
            return
        try:
            stuck = self._without_step(running, BLAMED_SHARE)
            for each in stuck:
                log.critical("job %s: stage %s is stuck; this worker ends", each.job_id, each.stage.value)
                self._job_store.record_cause(each.job_id, each.stage, TIMEOUT)
            requeue_innocent(self._job_store, self._context, [each.job_id for each in running if each not in stuck])
            self.end()
        finally:
            self._exit_process()

    def _without_step(self, running: "Sequence[RunningStage]", share: float) -> "list[RunningStage]":
        """Return the stages that made no step for this share of their timeouts."""
        now, timeout_of = time.monotonic(), self._stage_timeouts.of
        return [each for each in running if now - each.last_progress_at >= share * timeout_of(each.stage)]
