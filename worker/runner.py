"""One stage of one job: the only place where loading, running, saving, reporting and cancelling meet.

    artifacts there already? -> done : load needs -> plain function -> save -> job + refs

Whatever happens, the job's record tells it, and the worker lives on.
"""

import json
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from api_client.board import Board
from api_client.contract import STAGES, ErrorInfo, Job, Slot, Stage, State
from api_client.errors import ArtifactError, DiffEditError, JobNotFound, ServiceError
from api_client.store import Store
from worker.artifacts import CODECS
from worker.models import Models
from worker.pipeline import PIPELINE, knob, manifest, recipe_key

log = logging.getLogger(__name__)


class Ended(Exception):
    """The job has its outcome already; work on it stops here."""

    def __init__(self, outcome: State) -> None:
        super().__init__(outcome.value)
        self.outcome = outcome


class Runner:
    """Runs stages. `models_of` gives the models of a profile, loaded on first use."""

    def __init__(self, board: Board, store: Store, models_of: Callable[[str], Models]) -> None:
        self._board = board
        self._store = store
        self._models_of = models_of

    def run(self, stage: Stage, job: Job) -> Job | None:
        """Run `stage` and record how it went.

        Returns:
            The job with the stage's artifacts, for the next stage; None if there is nothing more to do for it.
        """
        try:
            return self._run(stage, job)
        except Ended as ended:
            log.info("job %s: %s, so stage %s stops", job.id, ended.outcome.value, stage.value)
        except JobNotFound:
            log.warning("job %s: no record of it, so its stage %s is dropped", job.id, stage.value)
        except DiffEditError as error:
            self._fail(job.id, ErrorInfo(stage=stage, code=error.code, message=str(error)))
        except Exception as error:
            # The text of a foreign exception may hold anything, so it stays in the worker's log.
            log.exception("job %s: stage %s broke", job.id, stage.value)
            message = f"unexpected {type(error).__name__}; the worker's log holds the traceback under this job's id"
            self._fail(job.id, ErrorInfo(stage=stage, code="internal", message=message))
        return None

    def _fail(self, job_id: str, error: ErrorInfo) -> None:
        """Record that the job failed, if anything can be recorded."""
        log.error("job %s: failed in %s with %s: %s", job_id, error.stage or "-", error.code, error.message)
        try:
            self._board.finish(job_id, State.FAILED, error)
        except (ServiceError, JobNotFound) as unrecorded:
            log.error("job %s: its failure could not be recorded: %s", job_id, unrecorded)

    def _run(self, stage: Stage, job: Job) -> Job:
        self._go_on(self._board.begin(job.id, stage))
        started = time.perf_counter()
        models = self._models_of(job.request.params.model)

        refs = {slot: recipe_key(stage, slot, job, models) for slot in STAGES[stage].gives}
        missing = [slot for slot, key in refs.items() if not self._store.exists(key)]
        made = job.with_refs(refs)
        if missing:
            values = self._compute(stage, job, models)
            for slot in missing:
                self._save(slot, values[slot], made, models)

        seconds = time.perf_counter() - started
        self._go_on(self._board.advance(job.id, stage, refs, seconds, hit=not missing))
        log.info("job %s: %s %s in %.2f s", job.id, stage.value, "made" if missing else "found", seconds)
        if stage is job.request.stages[-1]:
            self._board.finish(job.id, State.SUCCEEDED)
        return made

    def _compute(self, stage: Stage, job: Job, models: Models) -> dict[Slot, Any]:
        row = PIPELINE[stage]
        needs = {slot.value: self._load(slot, job) for slot in STAGES[stage].needs}
        knobs = {name: knob(job.request, name) for name in row.knobs}
        return row.run(models=models, on_step=partial(self._on_step, job.id), **needs, **knobs)

    def _on_step(self, job_id: str, done: int, total: int) -> None:
        self._go_on(self._board.tick(job_id, done, total))

    def _go_on(self, outcome: State | None) -> None:
        if outcome is not None:
            raise Ended(outcome)

    def _load(self, slot: Slot, job: Job) -> Any:
        request = job.request
        if slot is Slot.CAPTION and request.given_caption:
            return request.given_caption
        if slot is Slot.PROMPTS and request.given_prompts:
            return request.given_prompts
        try:
            return CODECS[slot].decode(self._store.get(job.identity(slot)))
        except ArtifactError as error:
            raise ArtifactError(f"the {slot.value} cannot be used: {error}") from error

    def _save(self, slot: Slot, value: Any, job: Job, models: Models) -> None:
        key = job.refs[slot]
        provenance: dict[str, Any] = {}
        if slot is Slot.RESULT:
            prompts = self._load(Slot.PROMPTS, job).model_dump(mode="json")
            provenance = manifest(job, models, {"caption": self._load(Slot.CAPTION, job), "prompts": prompts})
            # Before the picture: its presence means that everything is there.
            self._store.put(manifest_key(key), json.dumps(provenance, indent=1).encode())
        self._store.put(key, CODECS[slot].encode(value, provenance))


def manifest_key(result: str) -> str:
    """Where the manifest of a result lies: beside it."""
    return result.rpartition(".")[0] + ".json"
