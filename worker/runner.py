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

from api_client.board import AttemptsSpent, Board
from api_client.contract import MAKER, STAGES, ErrorInfo, Job, Slot, Stage, State
from api_client.errors import (
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
from api_client.store import Store
from worker.models import Models
from worker.patience import PatientStore
from worker.pipeline import PIPELINE, knob, recipe_key
from worker.shelf import Damaged, Shelf

log = logging.getLogger(__name__)

BAD_ARTIFACT = ArtifactError.code
SPENT = {
    "worker_lost": "the workers that ran it died, each time; their logs may say why, then retry()",
    BAD_ARTIFACT: "what an earlier stage made was damaged each time it was read; look after the store, then retry()",
    StoreUnavailable.code: "S3 did not answer for longer than DIFFEDIT_STORE_PATIENCE, each time; retry() when it does",
    "timeout": "it took longer than DIFFEDIT_STAGE_TIMEOUT, each time; ask for less, or raise it",
}


class Ended(Exception):
    """The job has its outcome already; work on it stops here."""

    def __init__(self, outcome: State) -> None:
        super().__init__(outcome.value)
        self.outcome = outcome


class Leaving(Exception):
    """This worker is to stop; the job goes to another."""


class Taken(Exception):
    """Another worker makes this artifact just now, for another job."""


@dataclass(frozen=True)
class Current:
    """What a worker is at."""

    job_id: str
    stage: Stage
    since: float = field(default_factory=time.monotonic)


class Runner:
    """Runs stages in the name of a worker.

    `models_of` gives the models of a profile, loaded on first use; `send` puts a job into its queue; `leaving` says
    whether the worker is to stop.
    """

    def __init__(
        self,
        board: Board,
        store: Store,
        models_of: Callable[[str], Models],
        *,
        worker: str,
        send: Callable[[Job], None],
        leaving: Callable[[], bool] = lambda: False,
        store_patience: float = 60,
        recent_bytes: int = 0,
    ) -> None:
        self._board = board
        self._shelf = Shelf(PatientStore(store, store_patience, self._on_retry), recent_bytes)
        self._models_of = models_of
        self._worker = worker
        self._send = send
        self._leaving = leaving
        self.current: Current | None = None

    def run(self, stage: Stage, job_id: str) -> Job | None:
        """Run `stage` of a job, as its record has it, and record how it went.

        Returns:
            The job with the stage's artifacts, for the next stage; None if there is nothing more to do for it.
        """
        self.current = Current(job_id, stage)
        try:
            job = self._board.status(job_id).job
            if self._leaving():
                # Nothing is begun: the message goes back, for the others.
                self._send(job)
                return None
            return self._run(stage, job)
        except Ended as ended:
            log.info("job %s: %s, so stage %s stops", job_id, ended.outcome.value, stage.value)
        except (JobNotFound, JobElsewhere) as nothing_to_do:
            log.info("%s (stage %s)", nothing_to_do, stage.value)
        except Leaving:
            log.info("job %s: stage %s stops, because this worker leaves", job_id, stage.value)
            self._hand_back(job, refund=True)
        except Taken as taken:
            log.info("job %s: stage %s waits for %s, which another worker makes", job_id, stage.value, taken)
            self._hand_back(job, refund=True, send=False)
        except Damaged as damaged:
            log.warning("job %s: the %s is made again: %s", job_id, damaged.slot.value, damaged)
            self._make_again(damaged.slot, job)
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
        except AttemptsSpent as spent:
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
            self.current = None
        return None

    def _fail(self, job_id: str, error: ErrorInfo, *, held: bool = True) -> None:
        """Record that the job failed, if anything can be recorded."""
        log.error("job %s: failed in %s with %s: %s", job_id, error.stage or "-", error.code, error.message)
        try:
            self._board.finish(job_id, State.FAILED, error, self._worker if held else None)
        except (ServiceError, JobNotFound, JobElsewhere) as unrecorded:
            log.error("job %s: its failure could not be recorded: %s", job_id, unrecorded)

    def _hand_back(self, job: Job, *, refund: bool = False, send: bool = True) -> None:
        """Put the job back into the queue for the first stage that it lacks. What fails here, a keeper mends."""
        try:
            if self._board.hand_back(job, self._worker, refund=refund) is None and send:
                self._send(job)
        except (ServiceError, JobNotFound, JobElsewhere) as error:
            log.warning("job %s: could not be handed back: %s", job.id, error)

    def _try_again(self, job: Job, stage: Stage, cause: str) -> None:
        """Let the stage be begun once more, if that is allowed."""
        with suppress(ServiceError):
            self._board.note(job.id, stage, cause)
        self._hand_back(job)

    def _make_again(self, slot: Slot, job: Job) -> None:
        """Let the stage that owns this artifact make it again."""
        try:
            self._shelf.remove(job.refs[slot])
            self._board.note(job.id, MAKER[slot], BAD_ARTIFACT)
        except ServiceError as error:
            log.warning("job %s: the damaged %s could not be deleted: %s", job.id, slot.value, error)
        self._hand_back(job.without(slot))

    def _run(self, stage: Stage, job: Job) -> Job:
        self._go_on(self._board.begin(job.id, stage, self._worker))
        started = time.perf_counter()
        models = self._models_of(job.request.params.model)

        refs = {slot: recipe_key(stage, slot, job, models) for slot in STAGES[stage].gives}
        missing = [slot for slot, key in refs.items() if not self._shelf.holds(slot, key)]
        made = job.with_refs(refs)
        if missing:
            with self._alone([refs[slot] for slot in missing], job):
                values = self._compute(stage, job, models)
                for slot in missing:
                    self._shelf.save(slot, values[slot], made, models)

        seconds = time.perf_counter() - started
        self._go_on(self._board.advance(made, stage, seconds, not missing, self._worker))
        log.info("job %s: %s %s in %.2f s", job.id, stage.value, "made" if missing else "found", seconds)
        return made

    @contextmanager
    def _alone(self, keys: Sequence[str], job: Job) -> Iterator[None]:
        """Nobody else makes these artifacts meanwhile; who waits for them goes on afterwards.

        Raises:
            Taken: somebody makes one of them already.
        """
        mine: list[str] = []
        try:
            for key in keys:
                if not self._board.claim(key, job.id, self._worker):
                    raise Taken(key)
                mine.append(key)
            yield
        finally:
            for key in mine:
                self._wake(key)

    def _wake(self, key: str) -> None:
        try:
            for job_id in self._board.unclaim(key, self._worker):
                with suppress(JobNotFound):
                    self._send(self._board.status(job_id).job)
        except ServiceError as error:
            log.warning("%s: those who wait for it could not be told, and find out later: %s", key, error)

    def _compute(self, stage: Stage, job: Job, models: Models) -> dict[Slot, Any]:
        row = PIPELINE[stage]
        needs = {slot.value: self._shelf.load(slot, job) for slot in STAGES[stage].needs}
        knobs = {name: knob(job.request, name) for name in row.knobs}
        run = partial(row.run, models=models, on_step=partial(self._on_step, job.id), **needs, **knobs)
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

    def _on_retry(self) -> None:
        """The store did not answer: wait for it, unless the job ends or this worker leaves."""
        if self._leaving():
            raise Leaving
        if self.current:
            self._go_on(self._board.count_retry(self.current.job_id, self._worker))

    def _on_step(self, job_id: str, done: int, total: int) -> None:
        if self._leaving():
            raise Leaving
        self._go_on(self._board.tick(job_id, done, total, self._worker))

    def _go_on(self, outcome: State | None) -> None:
        if outcome is not None:
            raise Ended(outcome)
