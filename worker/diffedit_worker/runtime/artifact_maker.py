"""The work of one stage, from its inputs in the object store to its artifacts there.

Its artifacts are looked for. Those that are missing are locked, so that no other job makes them as well. Then the
inputs are loaded, the function of the stage runs, and its artifacts are saved.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import partial
from time import monotonic
from typing import Any, NamedTuple

from diffedit.contract.job import Job, JobStatus
from diffedit.contract.stages import Artifact, Lane, Stage
from diffedit.decoding import decoding_limits
from diffedit.errors import OutOfMemory, ServiceError
from diffedit.jobs.store import JobStore
from diffedit.jobs.workers import ArtifactLocks, LockResult
from diffedit.objects.store import ObjectStore
from diffedit_worker.diffusion.batching import yielding
from diffedit_worker.models.loading import Models
from diffedit_worker.pipeline import cache_key, param
from diffedit_worker.runtime.artifacts import JobArtifacts, can_skip_lookup
from diffedit_worker.runtime.byte_cache import ByteCache
from diffedit_worker.runtime.context import WorkerContext
from diffedit_worker.runtime.device_clock import DeviceClock
from diffedit_worker.runtime.dispositions import BeingMade, WorkerStopping, raise_if_ended
from diffedit_worker.runtime.previews import Preview, report_step
from diffedit_worker.runtime.retrying_store import RetryingStore
from diffedit_worker.runtime.running_stage import RunningStage
from diffedit_worker.runtime.stage_gate import StageGate
from diffedit_worker.stages.definition import StageDefinition


class Made(NamedTuple):
    """What a stage left in the object store.

    Attributes:
        job: the job with the artifacts of the stage and their contents.
        new: the artifacts that were made; the others were there already.
    """

    job: Job
    new: Sequence[Artifact]


class ArtifactMaker:
    """Makes the artifacts of stages that were started, in any thread.

    `send` puts jobs that waited for an artifact back into their queues.
    """

    def __init__(
        self,
        job_store: JobStore,
        artifact_locks: ArtifactLocks,
        object_store: ObjectStore,
        context: WorkerContext,
        gate: StageGate,
        send: Callable[[Sequence[str]], None],
        *,
        s3_retry_timeout: float,
        cache_bytes: int,
        max_pixels: int,
        report_interval: float,
        pipeline: Mapping[Stage, StageDefinition],
    ) -> None:
        self._job_store = job_store
        self._artifact_locks = artifact_locks
        self._object_store = object_store
        self._byte_cache = ByteCache(cache_bytes)
        self._context = context
        self._gate = gate
        self._device_clock = DeviceClock()
        self._send = send
        self._s3_retry_timeout = s3_retry_timeout
        self._max_pixels = max_pixels
        self._report_interval = report_interval
        self._pipeline = pipeline
        self._is_right_bucket = False

    def artifacts_of(self, job: Job, models: Models) -> JobArtifacts:
        """Return the job's artifacts in an object store that waits for S3."""
        object_store = RetryingStore(self._object_store, self._s3_retry_timeout, partial(self._on_retry, job.id))
        return JobArtifacts(object_store, self._byte_cache, job, self._job_store.contents_of, models)

    def make(self, current: RunningStage, status: JobStatus, models: Models) -> Made:
        """Make the missing artifacts of the stage. Their locks are held until the stage is complete."""
        job, stage, times = status.job, current.stage, current.times
        artifacts = self.artifacts_of(job, models)
        keys = {artifact: cache_key(stage, artifact, job, models) for artifact in stage.gives}
        updated_job = job.with_artifacts(keys)

        new = [artifact for artifact in keys if can_skip_lookup(stage, artifact, status)]
        with times.measure("load"):
            contents = artifacts.find({artifact: keys[artifact] for artifact in keys if artifact not in new})
        missing = [artifact for artifact in keys if artifact not in contents]
        if missing:
            with self._locked([keys[artifact] for artifact in missing], job) as lock:
                if lock is LockResult.RECENTLY_RELEASED:
                    with times.measure("load"):
                        contents = artifacts.find(keys)
                    missing = [artifact for artifact in keys if artifact not in contents]
                if missing:
                    self._require_right_bucket(artifacts)
                    values = self._compute(current, job, artifacts, models)
                    if not updated_job.stages_left:
                        self._context.release_slot()
                    with times.measure("save"):
                        contents |= artifacts.save({each: values[each] for each in missing}, updated_job)
        return Made(job.with_artifacts(keys, contents), missing)

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
                self._send(self._artifact_locks.release(keys, job.id, self._context.id))
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
        with decoding_limits(self._max_pixels, partial(self._on_step, current, 0, 0)), current.times.measure("load"):
            needs = {artifact.value: value for artifact, value in artifacts.load(stage.needs).items()}
        params = {name: param(job.request, name) for name in definition.params}
        on_step = partial(self._on_step, current)
        run = partial(definition.run, models=models, on_step=on_step, **needs, **params)

        def again() -> AbstractContextManager[None]:
            current.out_of_memory += 1
            # What other stages use may be what is missing, so the second try is alone.
            return nullcontext() if current.alone else self._gate.alone_from_now(partial(on_step, 0, 0))

        share = self._device_clock.computing(current.times.add_device_seconds)
        with yielding(job.options.lane is Lane.BATCH), current.times.measure("compute"), share:
            try:
                return models.memory.run_within(run, again)
            except OutOfMemory:
                current.out_of_memory += 1
                raise

    def _on_retry(self, job_id: str) -> None:
        """Called before a request to S3 is repeated. Raises if there is no reason to wait for S3."""
        if self._context.shutting_down():
            raise WorkerStopping
        raise_if_ended(self._job_store.count_retry(job_id, self._context.id))

    def _on_step(self, current: RunningStage, step: int, steps: int, preview: Preview | None = None) -> None:
        """Called by the stage after each step. Raises if the stage must stop."""
        if self._context.shutting_down():
            raise WorkerStopping
        current.last_step_at = monotonic()
        if current.last_step_at - current.last_reported_at >= self._report_interval:
            report_step(self._job_store, current, step, steps, self._context.id, preview)
