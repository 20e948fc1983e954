"""What a worker does besides its stages, in two daemon threads.

The first one sends the heartbeat and watches the running stages. Nothing in it takes long, because a worker whose
heartbeat is late counts as dead. The second one does everything else, which may take any time: it asks S3, and it may
have thousands of jobs to rescue (`rescue.py`), and copies of submissions to delete (`settled_copies.py`).
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from diffedit.jobs.store import JobStore
from diffedit.jobs.workers import WorkerInfo, WorkerRegistry
from diffedit.objects.store import ObjectStore
from diffedit_worker.runtime.context import WorkerContext
from diffedit_worker.runtime.duties import DutyThread, guarded
from diffedit_worker.runtime.fitness import Fitness
from diffedit_worker.runtime.heartbeat import RUNS_PER_TTL, Heartbeat
from diffedit_worker.runtime.rescue import Rescue
from diffedit_worker.runtime.settled_copies import SettledCopies
from diffedit_worker.settings import WorkerSettings

if TYPE_CHECKING:
    from diffedit_worker.runtime.running_stage import RunningStage


class Maintenance:
    """The maintenance of one worker. `running_stages` returns what the worker runs now."""

    def __init__(
        self,
        job_store: JobStore,
        worker_registry: WorkerRegistry,
        settings: WorkerSettings,
        worker: WorkerInfo,
        context: WorkerContext,
        fitness: Fitness,
        running_stages: Callable[[], "Sequence[RunningStage]"],
        object_store: ObjectStore,
    ) -> None:
        interval = settings.worker_ttl / RUNS_PER_TTL
        self.heartbeat = Heartbeat(
            job_store,
            worker_registry,
            worker,
            settings.stage_timeouts,
            context,
            running_stages,
            paused=lambda: fitness.paused,
        )
        self.rescue = Rescue(
            job_store,
            worker_registry,
            context,
            running_jobs=lambda: {each.job_id for each in running_stages()},
            worker_ttl=settings.worker_ttl,
            refusal_patience=settings.refusal_patience,
            slice_seconds=interval,
        )
        copies = SettledCopies(job_store, object_store, lambda: self.rescue.is_leader and not fitness.paused)
        self.threads = (
            DutyThread("heartbeat", interval, self.heartbeat.exit_if_stuck, self.heartbeat.send),
            DutyThread(
                "maintenance",
                interval,
                fitness.end_pause_if_possible,
                self.rescue.release_idle,
                self.rescue.rescue_orphans,
                copies.delete,
            ),
        )

    def start(self) -> None:
        """Send the first heartbeat, so that the worker may run jobs, and start the threads."""
        guarded(self.heartbeat.send)
        for thread in self.threads:
            thread.start()

    def stop(self) -> None:
        """Stop the threads and unregister the worker."""
        for thread in self.threads:
            thread.stop()
        guarded(self.heartbeat.end)
