"""One stage of one job, from its start in the job's record to its end there.

    start the stage in the job's record -> make its artifacts (`artifact_maker.py`) -> complete the stage in the record
    -> tell the observers (`stage_report.py`)

Whatever happens, the job's record says so and the worker continues. `dispositions.py` lists what becomes of a job whose
stage stops early.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence

from diffedit.contract.job import Job, JobStatus
from diffedit.contract.stages import Stage
from diffedit.decoding import MAX_PIXELS
from diffedit.errors import BadRecord
from diffedit.jobs.store import JobStore, MaxAttemptsExceeded, MustRunAlone
from diffedit.jobs.workers import ArtifactLocks
from diffedit.objects.store import ObjectStore
from diffedit_worker.models.loading import Models
from diffedit_worker.pipeline import PIPELINE
from diffedit_worker.runtime.artifact_maker import ArtifactMaker, Made
from diffedit_worker.runtime.artifacts import ArtifactDamaged
from diffedit_worker.runtime.context import WorkerContext
from diffedit_worker.runtime.dispositions import (
    OUTCOMES,
    Disposition,
    WorkerStopping,
    code_of,
    device_failure,
    log_disposition,
    raise_if_ended,
)
from diffedit_worker.runtime.failures import error_info, record_failure
from diffedit_worker.runtime.late_artifacts import settled_if_late
from diffedit_worker.runtime.requeueing import Requeueing
from diffedit_worker.runtime.running_stage import Ending, RunningStage, StageTimes
from diffedit_worker.runtime.stage_gate import StageGate
from diffedit_worker.runtime.stage_log import StageLog
from diffedit_worker.runtime.stage_report import Observer, Outcome, stage_report, tell
from diffedit_worker.stages.definition import StageDefinition

log = logging.getLogger(__name__)

REPORT_INTERVAL = 0.1
"""Seconds between two reports of a stage. On a fast device, more would cost Redis more than everything else."""

HAND_BACK_PAUSE = 1.0
"""Seconds. Without it, a worker that leaves a stage to others would empty the queue before they are free."""


class Runner:
    """Runs stages on behalf of a worker, in any thread.

    `models_of` returns the models of a profile, which are loaded on first use. With `side_by_side`, the worker runs
    several stages at the same time. Progress is reported, and a cancelled job is noticed, every `report_interval`
    seconds at most. `observers` are told of each stage that was started, after the log.
    """

    def __init__(
        self,
        job_store: JobStore,
        artifact_locks: ArtifactLocks,
        object_store: ObjectStore,
        models_of: Callable[[str], Models],
        context: WorkerContext,
        *,
        s3_retry_timeout: float,
        cache_bytes: int,
        max_pixels: int = MAX_PIXELS,
        side_by_side: bool = False,
        report_interval: float = REPORT_INTERVAL,
        hand_back_pause: float = HAND_BACK_PAUSE,
        pipeline: Mapping[Stage, StageDefinition] = PIPELINE,
        observers: Sequence[Observer] = (),
    ) -> None:
        self._job_store = job_store
        self._models_of = models_of
        self._context = context
        self._side_by_side = side_by_side
        self._observers: tuple[Observer, ...] = (StageLog(models_of), *observers)
        self._gate = StageGate()
        self._running: dict[str, RunningStage] = {}
        self._requeueing = Requeueing(
            job_store, context, lambda job_id: self._running.pop(job_id, None), hand_back_pause
        )
        self._maker = ArtifactMaker(
            job_store,
            artifact_locks,
            object_store,
            context,
            self._gate,
            self._requeueing.send,
            s3_retry_timeout=s3_retry_timeout,
            cache_bytes=cache_bytes,
            max_pixels=max_pixels,
            report_interval=report_interval,
            pipeline=pipeline,
        )

    @property
    def running_stages(self) -> list[RunningStage]:
        """The stages that this worker runs. Some of them may only upload their results, or wait for their turn."""
        return list(self._running.values())

    def run(self, stage: Stage, job_id: str, ending: Ending | None = None) -> Job | None:
        """Run a stage of a job and record how it went. `ending`, if given, says so to the caller.

        Returns:
            The job with the artifacts of the stage, for the next stage. None if there is nothing more to do here.
        """
        current = RunningStage(job_id, stage, alone=not self._side_by_side, ending=ending or Ending())
        while (before := self._running.setdefault(job_id, current)) is not current:
            if not before.makes_way():
                log.info("job %s: stage %s is dropped: this worker runs a stage of this job", job_id, stage.value)
                return None
        try:
            return self._run_in_turn(current)
        except WorkerStopping:
            # The message returns to the queue, for the other workers.
            self._requeueing.send([job_id])
            current.ending.outcome = Outcome.REQUEUED
            return None
        finally:
            if self._running.get(job_id) is current:
                del self._running[job_id]
            current.ended.set()

    def hand_back(self, job_id: str) -> None:
        """Return a message to its queue, after a pause in which this task takes no other, so that others can."""
        self._requeueing.hand_back(job_id)

    def _run_in_turn(self, current: RunningStage) -> Job | None:
        """Run the stage beside others, or alone if an earlier attempt was lost. Raises WorkerStopping."""

        def wait() -> None:
            self._require_work()
            current.last_step_at = time.monotonic()

        try:
            with self._gate.beside_others(wait):
                return self._start_and_run(current)
        except MustRunAlone:
            log.info("job %s: stage %s runs alone, because it was lost before", current.job_id, current.stage.value)
            with self._gate.alone(wait):
                current.alone = True
                return self._start_and_run(current)

    def _require_work(self) -> None:
        if self._context.shutting_down() or self._context.paused():
            raise WorkerStopping

    def _start(self, current: RunningStage) -> JobStatus | None:
        """Start the stage in the job's record. Returns None if it must not run here.

        Raises:
            MustRunAlone: it runs beside others, and must not. WorkerStopping: this worker takes no jobs.
        """
        self._require_work()
        try:
            worker, alone = self._context.id, current.alone
            return self._job_store.start_stage(current.job_id, current.stage, worker, alone=alone)
        except MustRunAlone:
            raise
        except Exception as error:
            # Without the status no job can be passed on. If the stage was started, maintenance requeues it.
            disposition = log_disposition(error, current.job_id, current.stage)
            current.ending.outcome, current.ending.code = OUTCOMES[disposition], code_of(error)
            if disposition is Disposition.FAIL:
                self._fail(error, current)
            elif disposition is Disposition.HAND_BACK:
                self.hand_back(current.job_id)
            elif disposition in (Disposition.PARK, Disposition.HOLD):
                self._requeueing.park(current.job_id)
            return None

    def _start_and_run(self, current: RunningStage) -> Job | None:
        status = self._start(current)
        if status is None:
            return None
        current.times = StageTimes()
        try:
            made = self._make_and_complete(current, status)
        except Exception as caught:
            error = device_failure(caught) or caught
            disposition = log_disposition(error, current.job_id, current.stage)
            if not status.is_terminal:
                # Before the job is passed on, because that may end this process.
                self._report(current, status, OUTCOMES[disposition], code_of(error))
            self._carry_out(disposition, error, current, status.job)
            return None
        self._report(current, status, Outcome.MADE if made.new else Outcome.FOUND)
        return made.job

    def _make_and_complete(self, current: RunningStage, status: JobStatus) -> Made:
        """Make the missing artifacts of the stage and record that it is complete. The message for the next is sent."""
        raise_if_ended(status.state if status.is_terminal else None)
        current.models = models = self._models_of(status.request.params.profile)
        made = self._maker.make(current, status, models)
        (job, new), worker, stage = made, self._context.id, current.stage
        current.is_completing, current.times.ended_at = True, time.perf_counter()
        stored = {job.artifact_keys[artifact]: job.contents[artifact] for artifact in new}
        with settled_if_late(stored, self._maker.artifacts_of(job, models), self._job_store):
            store, seconds, used = self._job_store, current.times.seconds, current.times.device
            done = store.complete_stage(job, stage, seconds, new, worker, device_seconds=used, send=True)
            self._requeueing.send(done.waiters)
            if new:
                self._context.stage_computed(stage)
            raise_if_ended(done.outcome)
        return made

    def _report(self, current: RunningStage, status: JobStatus, outcome: Outcome, code: str = "") -> None:
        current.ending.outcome, current.ending.code = outcome, code
        tell(self._observers, stage_report(current, status, self._context.name(), outcome, code))

    def _carry_out(self, disposition: Disposition, error: Exception, current: RunningStage, job: Job) -> None:
        """Do what the disposition says. If Redis does not answer, maintenance will requeue the job."""
        match disposition:
            case Disposition.FAIL:
                self._fail(error, current)
            case Disposition.REFUSE:
                self._requeueing.refuse(error, job, current.stage)
                self._context.stage_refused(current.stage, job.id, error)
            case Disposition.REQUEUE:
                self._requeueing.requeue(job, count_attempt=False)
            case Disposition.WAIT_FOR_LOCK:
                self._requeueing.requeue(job, count_attempt=False, send=False)
            case Disposition.MAKE_AGAIN:
                assert isinstance(error, ArtifactDamaged) and current.models
                self._requeueing.make_again(error.artifact, job, self._maker.artifacts_of(job, current.models).remove)
            case Disposition.DROP:
                pass

    def _fail(self, error: Exception, current: RunningStage) -> None:
        # `start_stage` raises these two. After the second one no worker runs the job, so it is ended without a worker.
        not_started = isinstance(error, BadRecord | MaxAttemptsExceeded)
        worker = None if not_started else self._context.id
        record_failure(self._job_store, current.job_id, error_info(error, current.stage), worker)
