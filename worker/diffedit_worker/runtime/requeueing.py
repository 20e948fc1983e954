"""How a worker passes a job on: to another worker, to a later turn, or to the stage that must run again."""

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from diffedit.contract.job import Job
from diffedit.contract.stages import STAGE_OF, Artifact, Stage
from diffedit.errors import ArtifactError, BadRecord, JobError, JobNotFound, ServiceError
from diffedit.jobs.store import JobStore
from diffedit_worker.runtime.context import WorkerContext
from diffedit_worker.runtime.failures import error_info

log = logging.getLogger(__name__)


class Requeueing:
    """Passes the jobs of one worker on. If Redis does not answer, maintenance will do it.

    `forget` is called before a message is sent: the next message that this worker receives may be that one.
    """

    def __init__(
        self, job_store: JobStore, context: WorkerContext, forget: Callable[[str], object], hand_back_pause: float
    ) -> None:
        self._job_store = job_store
        self._context = context
        self._forget = forget
        self._hand_back_pause = hand_back_pause

    def refuse(self, error: Exception, job: Job, stage: Stage) -> None:
        """Hand the job to another worker, and note that this one could not run the stage.

        If no other live worker can try, the job waits without a message, until the leader sends it again. So a worker
        that is alone does not fail at the same job without a pause.
        """
        try:
            refusal = self._job_store.refuse_stage(job, stage, self._context.id, error_info(error, stage))
            self._forget(job.id)
            if refusal.outcome is None and refusal.others:
                self._context.enqueue(job)
        except (ServiceError, JobError) as problem:
            log.warning("job %s: could not be passed on: %s", job.id, problem)

    def requeue(self, job: Job, *, count_attempt: bool = True, send: bool = True) -> None:
        """Let the job wait for the first stage that it lacks, with a message in its queue unless `send` is False."""
        try:
            if self._job_store.requeue(job, self._context.id, count_attempt=count_attempt) is None and send:
                self._forget(job.id)
                self._context.enqueue(job)
        except (ServiceError, JobError) as error:
            log.warning("job %s: could not be requeued: %s", job.id, error)

    def make_again(self, artifact: Artifact, job: Job, remove: Callable[[str], object]) -> None:
        """Let the stage of a damaged artifact make it again. `remove` deletes what is stored at a key."""
        try:
            remove(job.artifact_keys[artifact])
            self._job_store.record_cause(job.id, STAGE_OF[artifact], ArtifactError.code)
        except (ServiceError, JobError) as error:
            log.warning("job %s: the damaged %s could not be deleted: %s", job.id, artifact.value, error)
        self.requeue(job.without_artifact(artifact))

    def hand_back(self, job_id: str) -> None:
        """Return a message to its queue, after a pause in which this task takes no other, so that others can."""
        time.sleep(self._hand_back_pause)
        self._forget(job_id)
        self.send([job_id])

    def park(self, job_id: str) -> None:
        """Let a job wait until another one of its owner has ended, or until its queue is resumed."""
        try:
            job = self._job_store.status(job_id).job
            self._forget(job_id)
            self._job_store.park_job(job)
        except (ServiceError, JobError) as error:
            log.warning("job %s: could not be parked: %s", job_id, error)

    def send(self, job_ids: Sequence[str]) -> None:
        """Send these jobs, if they have not ended. Maintenance sends those that cannot be sent here."""
        try:
            for job_id in job_ids:
                with suppress(JobNotFound, BadRecord):
                    status = self._job_store.status(job_id)
                    if not status.is_terminal:
                        self._context.enqueue(status.job)
        except ServiceError as error:
            log.warning("jobs that wait could not be sent: %s", error)


def requeue_innocent(job_store: JobStore, context: WorkerContext, job_ids: Sequence[str]) -> None:
    """Requeue jobs of this worker whose stages must stop although nothing is wrong with them. No attempt counts.

    Called before the process ends. What cannot be done is left to the leader, and then an attempt counts.
    """
    try:
        for job_id in job_ids:
            with suppress(JobError):  # it is not started yet, or it has ended
                job = job_store.status(job_id).job
                if job_store.requeue(job, context.id, count_attempt=False) is None:
                    log.warning("job %s: returns to its queue, because this worker ends", job_id)
                    context.enqueue(job)
    except ServiceError as error:
        log.warning("jobs of this worker could not be requeued: %s", error)
