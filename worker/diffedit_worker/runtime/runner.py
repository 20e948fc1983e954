"""One stage of one job: the only place where loading, running, saving, reporting and cancelling meet.

    start the stage in the job's record -> look for its artifacts -> load its inputs -> run its function -> save
    -> complete the stage in the record

Whatever happens, the job's record says so and the worker continues. `dispositions.py` lists what becomes of a job whose
stage stops early.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from typing import Any

from diffedit.contract.job import Job, JobStatus
from diffedit.contract.stages import Artifact, Lane, Stage
from diffedit.decoding import MAX_PIXELS, decoding_limits
from diffedit.errors import BadRecord, ServiceError
from diffedit.jobs.store import JobStore, MaxAttemptsExceeded, MustRunAlone
from diffedit.jobs.workers import ArtifactLocks, LockResult
from diffedit.objects.store import ObjectStore
from diffedit_worker.diffusion.batching import yielding
from diffedit_worker.models.loading import Models
from diffedit_worker.pipeline import PIPELINE, cache_key, param
from diffedit_worker.runtime.artifacts import ArtifactDamaged, JobArtifacts, can_skip_lookup
from diffedit_worker.runtime.byte_cache import ByteCache
from diffedit_worker.runtime.context import WorkerContext
from diffedit_worker.runtime.device_clock import DeviceClock
from diffedit_worker.runtime.dispositions import (
    BeingMade,
    Disposition,
    WorkerStopping,
    device_failure,
    log_disposition,
    raise_if_ended,
)
from diffedit_worker.runtime.failures import error_info, record_failure
from diffedit_worker.runtime.late_artifacts import settled_if_late
from diffedit_worker.runtime.previews import Preview, report_step
from diffedit_worker.runtime.requeueing import Requeueing
from diffedit_worker.runtime.retrying_store import RetryingStore
from diffedit_worker.runtime.running_stage import RunningStage
from diffedit_worker.runtime.stage_gate import StageGate
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
    seconds at most.
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
    ) -> None:
        self._job_store = job_store
        self._artifact_locks = artifact_locks
        self._object_store = object_store
        self._byte_cache = ByteCache(cache_bytes)
        self._models_of = models_of
        self._context = context
        self._s3_retry_timeout = s3_retry_timeout
        self._max_pixels = max_pixels
        self._report_interval = report_interval
        self._side_by_side = side_by_side
        self._gate, self._device_clock = StageGate(), DeviceClock()
        self._pipeline = pipeline
        self._running: dict[str, RunningStage] = {}
        self._requeueing = Requeueing(
            job_store, context, lambda job_id: self._running.pop(job_id, None), hand_back_pause
        )
        self._is_right_bucket = False

    @property
    def running_stages(self) -> list[RunningStage]:
        """The stages that this worker runs. Some of them may only upload their results, or wait for their turn."""
        return list(self._running.values())

    def run(self, stage: Stage, job_id: str) -> Job | None:
        """Run a stage of a job and record how it went.

        Returns:
            The job with the artifacts of the stage, for the next stage. None if there is nothing more to do here.
        """
        current = RunningStage(job_id, stage, alone=not self._side_by_side)
        while (before := self._running.setdefault(job_id, current)) is not current:
            if not before.makes_way():
                log.info("job %s: stage %s is dropped: this worker runs a stage of this job", job_id, stage.value)
                return None
        try:
            return self._run_in_turn(current)
        except WorkerStopping:
            # The message returns to the queue, for the other workers.
            self._requeueing.send([job_id])
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
            return self._job_store.start_stage(current.job_id, current.stage, self._context.id, alone=current.alone)
        except MustRunAlone:
            raise
        except Exception as error:
            # Without the status no job can be passed on. If the stage was started, maintenance requeues it.
            disposition = log_disposition(error, current.job_id, current.stage)
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
        try:
            return self._make_artifacts(current, status)
        except Exception as caught:
            error = device_failure(caught) or caught
            self._carry_out(log_disposition(error, current.job_id, current.stage), error, current, status.job)
            return None

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
                self._requeueing.make_again(error.artifact, job, self._artifacts_of(job, current.models).remove)
            case Disposition.DROP:
                pass

    def _fail(self, error: Exception, current: RunningStage) -> None:
        # `start_stage` raises these two. After the second one no worker runs the job, so it is ended without a worker.
        not_started = isinstance(error, BadRecord | MaxAttemptsExceeded)
        worker = None if not_started else self._context.id
        record_failure(self._job_store, current.job_id, error_info(error, current.stage), worker)

    def _make_artifacts(self, current: RunningStage, status: JobStatus) -> Job:
        """Make the missing artifacts of the stage and complete it. Returns the job with the artifacts."""
        raise_if_ended(status.state if status.is_terminal else None)
        job, stage, started_at = status.job, current.stage, time.perf_counter()
        current.models = models = self._models_of(job.request.params.profile)
        artifacts = self._artifacts_of(job, models)
        keys = {artifact: cache_key(stage, artifact, job, models) for artifact in stage.gives}
        updated_job = job.with_artifacts(keys)

        new = [artifact for artifact in keys if can_skip_lookup(stage, artifact, status)]
        contents = artifacts.find({artifact: keys[artifact] for artifact in keys if artifact not in new})
        missing = [artifact for artifact in keys if artifact not in contents]
        if missing:
            with self._locked([keys[artifact] for artifact in missing], job) as lock:
                if lock is LockResult.RECENTLY_RELEASED:
                    contents = artifacts.find(keys)
                    missing = [artifact for artifact in keys if artifact not in contents]
                if missing:
                    self._require_right_bucket(artifacts)
                    values = self._compute(current, job, artifacts, models)
                    if not updated_job.stages_left:
                        self._context.release_slot()
                    contents |= artifacts.save({each: values[each] for each in missing}, updated_job)

        updated_job = job.with_artifacts(keys, contents)
        seconds = time.perf_counter() - started_at
        current.is_completing, worker = True, self._context.id
        store, used = self._job_store, current.device_seconds
        with settled_if_late({keys[artifact]: contents[artifact] for artifact in missing}, artifacts, store):
            done = store.complete_stage(updated_job, stage, seconds, missing, worker, device_seconds=used, send=True)
            self._requeueing.send(done.waiters)
            if missing:
                self._context.stage_computed(stage)
            raise_if_ended(done.outcome)
        counts, found = models.pass_counts, "made" if missing else "found"
        passes = f"; so far {counts.requests} calls of the UNet in {counts.passes} passes" if counts else ""
        log.info("job %s: %s %s in %.2f s%s", job.id, stage.value, found, seconds, passes)
        return updated_job

    def _artifacts_of(self, job: Job, models: Models) -> JobArtifacts:
        """Return the job's artifacts in an object store that waits for S3."""
        object_store = RetryingStore(self._object_store, self._s3_retry_timeout, partial(self._on_retry, job.id))
        return JobArtifacts(object_store, self._byte_cache, job, self._job_store.contents_of, models)

    @contextmanager
    def _locked(self, keys: Sequence[str], job: Job) -> Iterator[LockResult]:
        """Lock these artifacts. `complete_stage` releases the locks; an error inside the context releases them, too.

        Raises:
            BeingMade: another job is making one of the artifacts.
        """
        lock = self._artifact_locks.acquire(keys, job.id, self._context.id)
        if lock is LockResult.LOCKED:
            raise BeingMade(f"another job is making {' or '.join(keys)}")
        try:
            yield lock
        except BaseException:
            with suppress(ServiceError):
                self._requeueing.send(self._artifact_locks.release(keys, job.id, self._context.id))
            raise

    def _require_right_bucket(self, artifacts: JobArtifacts) -> None:
        """Before this worker stores anything, find a client's picture in its bucket. Nobody looks in another one."""
        if not self._is_right_bucket:
            artifacts.require_picture()
            self._is_right_bucket = True

    def _compute(self, current: RunningStage, job: Job, artifacts: JobArtifacts, models: Models) -> dict[Artifact, Any]:
        """Run the function of the stage."""
        stage, definition = current.stage, self._pipeline[current.stage]
        # A job that has ended, or a worker that shuts down, must not wait for a picture that takes long to decode.
        with decoding_limits(self._max_pixels, partial(self._on_step, current, 0, 0)):
            needs = {artifact.value: value for artifact, value in artifacts.load(stage.needs).items()}
        params = {name: param(job.request, name) for name in definition.params}
        on_step = partial(self._on_step, current)
        run = partial(definition.run, models=models, on_step=on_step, **needs, **params)
        # What other stages use may be what is missing, so the second try is alone.
        again = nullcontext if current.alone else partial(self._gate.alone_from_now, partial(on_step, 0, 0))
        with yielding(job.options.lane is Lane.BATCH), self._device_clock.computing(current.add_device_seconds):
            return models.memory.run_within(run, again)

    def _on_retry(self, job_id: str) -> None:
        """Called before a request to S3 is repeated. Raises if there is no reason to wait for S3."""
        if self._context.shutting_down():
            raise WorkerStopping
        raise_if_ended(self._job_store.count_retry(job_id, self._context.id))

    def _on_step(self, current: RunningStage, step: int, steps: int, preview: Preview | None = None) -> None:
        """Called by the stage after each step. Raises if the stage must stop."""
        if self._context.shutting_down():
            raise WorkerStopping
        current.last_step_at = time.monotonic()
        if current.last_step_at - current.last_reported_at >= self._report_interval:
            report_step(self._job_store, current, step, steps, self._context.id, preview)
