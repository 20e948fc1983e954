"""One stage of one job: the only place where loading, running, saving, reporting and cancelling meet.

    job waiting for this stage? take it -> artifacts there already? done : load needs -> plain function -> save
    -> job + refs

Whatever happens, the job's record tells it, and the worker lives on.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from diffedit.contract.job import ErrorInfo, Job, JobStatus, State
from diffedit.contract.stages import STAGE_OF, Artifact, Stage
from diffedit.errors import (
    ArtifactError,
    BadRecord,
    BrokerUnavailable,
    DiffEditError,
    JobElsewhere,
    JobNotFound,
    OutOfMemory,
    ServiceError,
    StoreRefused,
    StoreUnavailable,
)
from diffedit.jobs.store import ArtifactLocks, JobStore, LockResult, MaxAttemptsExceeded
from diffedit.objects.store import ObjectStore
from diffedit_worker.models.loading import Models
from diffedit_worker.pipeline import PIPELINE, cache_key, param
from diffedit_worker.runtime.artifacts import ArtifactDamaged, JobArtifacts
from diffedit_worker.runtime.byte_cache import ByteCache
from diffedit_worker.runtime.retrying_store import RetryingStore

log = logging.getLogger(__name__)

TICK = 0.1
"""Seconds between two looks at the record while a stage steps, at least: on a fast device they would cost the server
more than all else."""

BAD_ARTIFACT = ArtifactError.code
SPENT = {
    "worker_lost": "the workers that ran it died, each time; their logs may say why, then retry()",
    BAD_ARTIFACT: "what an earlier stage made was damaged each time it was read; look after the store, then retry()",
    StoreUnavailable.code: "S3 did not answer for longer than DIFFEDIT_S3_RETRY_TIMEOUT, each time; retry() later",
    "timeout": "it took longer than DIFFEDIT_STAGE_TIMEOUT, each time; ask for less, or raise it",
}


class JobEnded(Exception):
    """The job has its outcome already; work on it stops here."""

    def __init__(self, outcome: State) -> None:
        super().__init__(outcome.value)
        self.outcome = outcome


class WorkerStopping(Exception):
    """This worker is to stop; the job goes to another."""


class BeingMade(Exception):
    """Somebody makes this artifact just now, for another job."""


@dataclass
class RunningStage:
    """A stage that a worker is at; `told` is when its record was last looked at."""

    job_id: str
    stage: Stage
    since: float = field(default_factory=time.monotonic)
    told: float = field(default_factory=time.monotonic)


class Runner:
    """Runs stages in the name of a worker, in any thread.

    `models_of` gives the models of a profile, loaded on first use; `send` puts a job into its queue; `leaving` says
    whether the worker is to stop. `on_last_computed` is called when a job's last stage has but to store what it made. A
    look at the record is due `tick` seconds after the last one.
    """

    def __init__(
        self,
        job_store: JobStore,
        artifact_locks: ArtifactLocks,
        object_store: ObjectStore,
        models_of: Callable[[str], Models],
        *,
        worker: str,
        send: Callable[[Job], None],
        leaving: Callable[[], bool] = lambda: False,
        on_last_computed: Callable[[], None] = lambda: None,
        s3_retry_timeout: float = 60,
        cache_bytes: int = 0,
        tick: float = TICK,
    ) -> None:
        self._job_store = job_store
        self._artifact_locks = artifact_locks
        self._object_store = object_store
        self._byte_cache = ByteCache(cache_bytes)
        self._models_of = models_of
        self._worker = worker
        self._send = send
        self._leaving = leaving
        self._on_last_computed = on_last_computed
        self._s3_retry_timeout = s3_retry_timeout
        self._tick = tick
        self._at: dict[str, RunningStage] = {}

    @property
    def at(self) -> list[RunningStage]:
        """What this worker is at: a stage that computes, and perhaps a result before it that is being stored."""
        return list(self._at.values())

    def run(self, stage: Stage, job_id: str) -> Job | None:
        """Run `stage` of a job, as its record has it, and record how it went.

        Returns:
            The job with the stage's artifacts, for the next stage; None if there is nothing more to do for it.
        """
        current = RunningStage(job_id, stage)
        if self._at.setdefault(job_id, current) is not current:
            log.info("job %s: this worker is at it already (stage %s)", job_id, stage.value)
            return None
        try:
            if self._leaving():
                # Nothing is begun: the message goes back, for the others.
                self._send(self._job_store.status(job_id).job)
                return None
            status = self._job_store.start_stage(job_id, stage, self._worker)
            job = status.job
            return self._run(current, status)
        except JobEnded as ended:
            log.info("job %s: %s, so stage %s stops", job_id, ended.outcome.value, stage.value)
        except (JobNotFound, JobElsewhere) as nothing_to_do:
            log.info("%s (stage %s)", nothing_to_do, stage.value)
        except WorkerStopping:
            log.info("job %s: stage %s stops, because this worker leaves", job_id, stage.value)
            self._hand_back(job, count_attempt=False)
        except BeingMade as taken:
            log.info("job %s: stage %s waits for %s, which is being made for another job", job_id, stage.value, taken)
            self._hand_back(job, count_attempt=False, send=False)
        except ArtifactDamaged as damaged:
            log.warning("job %s: the %s is made again: %s", job_id, damaged.artifact.value, damaged)
            self._make_again(damaged.artifact, job)
        except BadRecord as error:
            self._fail(job_id, ErrorInfo(stage=stage, code=error.code, message=str(error)), held=False)
        except StoreRefused as error:
            self._fail(job_id, ErrorInfo(stage=stage, code=error.code, message=str(error)))
        except StoreUnavailable as error:
            log.warning("job %s: stage %s is given up for now: %s", job_id, stage.value, error)
            self._try_again(job, stage, error.code)
        except BrokerUnavailable as error:
            # Nothing can be recorded now. The keeper lets go of the job when it can.
            log.warning("job %s: stage %s is given up for now: %s", job_id, stage.value, error)
        except MaxAttemptsExceeded as spent:
            message = SPENT.get(spent.cause, spent.cause)
            self._fail(job_id, ErrorInfo(stage=stage, code=spent.cause, message=message), held=False)
        except DiffEditError as error:
            self._fail(job_id, ErrorInfo(stage=stage, code=error.code, message=str(error)))
        except Exception as error:
            # The text of a foreign exception may hold anything, so it stays in the worker's log.
            log.exception("job %s: stage %s broke", job_id, stage.value)
            message = f"unexpected {type(error).__name__}; the worker's log holds the traceback under this job's id"
            self._fail(job_id, ErrorInfo(stage=stage, code="internal", message=message))
        finally:
            self._no_longer_at(current)
        return None

    def _fail(self, job_id: str, error: ErrorInfo, *, held: bool = True) -> None:
        """Record that the job failed, if anything can be recorded."""
        log.error("job %s: failed in %s with %s: %s", job_id, error.stage or "-", error.code, error.message)
        try:
            self._job_store.end_job(job_id, State.FAILED, error, self._worker if held else None)
        except (ServiceError, JobNotFound, JobElsewhere) as unrecorded:
            log.error("job %s: its failure could not be recorded: %s", job_id, unrecorded)

    def _no_longer_at(self, current: RunningStage) -> None:
        if self._at.get(current.job_id) is current:
            del self._at[current.job_id]

    def _hand_back(self, job: Job, *, count_attempt: bool = True, send: bool = True) -> None:
        """Put the job back into the queue for the first stage that it lacks. What fails here, a keeper mends."""
        try:
            if self._job_store.requeue(job, self._worker, count_attempt=count_attempt) is None and send:
                # This worker's next message may be this very job's.
                self._at.pop(job.id, None)
                self._send(job)
        except (ServiceError, JobNotFound, JobElsewhere) as error:
            log.warning("job %s: could not be handed back: %s", job.id, error)

    def _try_again(self, job: Job, stage: Stage, cause: str) -> None:
        """Let the stage be begun once more, if that is allowed."""
        with suppress(ServiceError):
            self._job_store.record_cause(job.id, stage, cause)
        self._hand_back(job)

    def _make_again(self, artifact: Artifact, job: Job) -> None:
        """Let the stage that owns this artifact make it again."""
        try:
            self._artifacts(job).remove(job.artifact_keys[artifact])
            self._job_store.record_cause(job.id, STAGE_OF[artifact], BAD_ARTIFACT)
        except ServiceError as error:
            log.warning("job %s: the damaged %s could not be deleted: %s", job.id, artifact.value, error)
        self._hand_back(job.without_artifact(artifact))

    def _run(self, current: RunningStage, status: JobStatus) -> Job:
        self._go_on(status.state if status.is_terminal else None)
        job, stage, started = status.job, current.stage, time.perf_counter()
        models, artifacts = self._models_of(job.request.params.profile), self._artifacts(job)

        artifact_keys = {artifact: cache_key(stage, artifact, job, models) for artifact in stage.gives}
        made = job.with_artifacts(artifact_keys)
        looked_for = {artifact: key for artifact, key in artifact_keys.items() if not news(stage, artifact, status)}
        missing = [
            *(artifact for artifact in artifact_keys if artifact not in looked_for),
            *artifacts.lacks(looked_for),
        ]
        if missing:
            with self._alone([artifact_keys[artifact] for artifact in missing], job) as claim:
                if claim is LockResult.RECENTLY_MADE:
                    missing = artifacts.lacks(artifact_keys)
                if missing:
                    values = self._compute(current, job, artifacts, models)
                    if not made.stages_left:
                        self._on_last_computed()
                    artifacts.save({artifact: values[artifact] for artifact in missing}, made, models)

        seconds = time.perf_counter() - started
        outcome, waiting = self._job_store.complete_stage(made, stage, seconds, missing, self._worker)
        self._wake(waiting)
        self._go_on(outcome)
        log.info("job %s: %s %s in %.2f s", job.id, stage.value, "made" if missing else "found", seconds)
        return made

    def _artifacts(self, job: Job) -> JobArtifacts:
        """This job's artifacts, for which an outage of the store is waited out."""
        object_store = RetryingStore(self._object_store, self._s3_retry_timeout, partial(self._on_retry, job.id))
        return JobArtifacts(object_store, self._byte_cache, job)

    @contextmanager
    def _alone(self, keys: Sequence[str], job: Job) -> Iterator[LockResult]:
        """Nobody else makes these artifacts until the job has advanced, or this fails; who waits for them then goes on.

        Raises:
            Taken: somebody makes one of them already.
        """
        claim = self._artifact_locks.acquire(keys, job.id, self._worker)
        if claim is LockResult.LOCKED:
            raise BeingMade(", ".join(keys))
        try:
            yield claim
        except BaseException:
            with suppress(ServiceError):
                self._wake(self._artifact_locks.release(keys, job.id, self._worker))
            raise

    def _wake(self, waiting: Sequence[str]) -> None:
        """Send the jobs that wait for an artifact. What fails here, a keeper mends."""
        try:
            for job_id in waiting:
                with suppress(JobNotFound):
                    self._send(self._job_store.status(job_id).job)
        except ServiceError as error:
            log.warning("jobs that wait for an artifact could not be sent: %s", error)

    def _compute(self, current: RunningStage, job: Job, artifacts: JobArtifacts, models: Models) -> dict[Artifact, Any]:
        stage, row = current.stage, PIPELINE[current.stage]
        needs = {artifact.value: value for artifact, value in artifacts.load(stage.needs).items()}
        params = {name: param(job.request, name) for name in row.params}
        run = partial(row.run, models=models, on_step=partial(self._on_step, current), **needs, **params)
        try:
            return run()
        except (torch.OutOfMemoryError, MemoryError):
            log.warning("job %s: out of memory in stage %s; once more, in smaller batches", job.id, stage.value)
        # Outside of the handler, whose exception holds on to the frames, and so to the tensors, of what failed.
        models.make_room()
        try:
            return run()
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise OutOfMemory from error

    def _on_retry(self, job_id: str) -> None:
        """The store did not answer: wait for it, unless the job ends or this worker leaves."""
        if self._leaving():
            raise WorkerStopping
        self._go_on(self._job_store.count_retry(job_id, self._worker))

    def _on_step(self, current: RunningStage, done: int, total: int) -> None:
        if self._leaving():
            raise WorkerStopping
        if time.monotonic() - current.told >= self._tick:
            self._go_on(self._job_store.report_step(current.job_id, done, total, self._worker))
            current.told = time.monotonic()

    def _go_on(self, outcome: State | None) -> None:
        if outcome is not None:
            raise JobEnded(outcome)


def news(stage: Stage, artifact: Artifact, status: JobStatus) -> bool:
    """Whether nobody needs to look for this artifact, since what it is made from was not there before this job.

    Another job with the same artifact may have overtaken this one; who claims it is told. When the store lost things,
    it can be wrong, and the artifact is made again without need.
    """
    parents = [parent for parent in stage.outputs[artifact] if parent in status.created_artifacts]
    return bool(parents) and all(
        status.attempts[each] == 1 for each in (stage, *(STAGE_OF[parent] for parent in parents))
    )
