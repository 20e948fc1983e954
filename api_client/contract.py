"""What client and worker agree on: stages and slots, the request, the job, and its status.

A *slot* is a named artifact of a job, a *stage* makes one or more of them. `plan(have, goal)` answers which stages are
needed: whoever supplies a slot's content drops the stage that would have made it. There are no other switches.
"""

import hashlib
import json
import re
import secrets
import unicodedata
from collections.abc import Set
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from api_client.errors import ArtifactError, InvalidRequest

MAX_REQUEST_BYTES = 3_300
"""Of the request as ASCII JSON, which Redis keeps in memory for as long as it keeps the job's record."""

MAX_SECONDS = 365 * 24 * 3600


class Slot(StrEnum):
    """The artifacts of a job, in the order in which they come to be."""

    IMAGE = "image"
    CAPTION = "caption"
    PROMPTS = "prompts"
    EMBEDDINGS = "embeddings"
    CAPTION_EMBEDDING = "caption_embedding"
    MASK = "mask"
    TRAJECTORY = "trajectory"
    RESULT = "result"


class Stage(StrEnum):
    """The stages of a job, in the order in which they run."""

    CAPTION = "caption"
    PROMPTS = "prompts"
    EMBED = "embed"
    MASK = "mask"
    INVERT = "invert"
    EDIT = "edit"


class Family(StrEnum):
    """Stages of one family share a queue, so that a worker holds only the models that it needs."""

    LANGUAGE = "language"
    DIFFUSION = "diffusion"


@dataclass(frozen=True)
class StageSpec:
    needs: tuple[Slot, ...]
    gives: tuple[Slot, ...]
    family: Family


STAGES: dict[Stage, StageSpec] = {
    Stage.CAPTION: StageSpec((Slot.IMAGE,), (Slot.CAPTION,), Family.LANGUAGE),
    Stage.PROMPTS: StageSpec((Slot.CAPTION,), (Slot.PROMPTS,), Family.LANGUAGE),
    Stage.EMBED: StageSpec((Slot.PROMPTS, Slot.CAPTION), (Slot.EMBEDDINGS, Slot.CAPTION_EMBEDDING), Family.LANGUAGE),
    Stage.MASK: StageSpec((Slot.IMAGE, Slot.EMBEDDINGS), (Slot.MASK,), Family.DIFFUSION),
    Stage.INVERT: StageSpec((Slot.IMAGE, Slot.CAPTION_EMBEDDING), (Slot.TRAJECTORY,), Family.DIFFUSION),
    Stage.EDIT: StageSpec((Slot.IMAGE, Slot.MASK, Slot.TRAJECTORY, Slot.EMBEDDINGS), (Slot.RESULT,), Family.DIFFUSION),
}

MAKER: dict[Slot, Stage] = {slot: stage for stage, spec in STAGES.items() for slot in spec.gives}


def plan(have: Set[Slot], goal: Slot) -> tuple[Stage, ...]:
    """The stages that lead from the slots in `have` to `goal`, in running order; () if `goal` is already there.

    Raises:
        InvalidRequest: a slot that no stage makes (the picture) is needed and not in `have`.
    """
    stages: set[Stage] = set()
    wanted = [goal]
    while wanted:
        slot = wanted.pop()
        if slot in have:
            continue
        if slot not in MAKER:
            raise InvalidRequest(f"the {slot.value} is missing and no stage can make it; supply it")
        stage = MAKER[slot]
        if stage not in stages:
            stages.add(stage)
            wanted.extend(STAGES[stage].needs)
    return tuple(stage for stage in Stage if stage in stages)


class Lane(StrEnum):
    """A stage of a batch job is begun only while no interactive job waits for that worker."""

    INTERACTIVE = "interactive"
    BATCH = "batch"


def queue_name(profile: str, family: Family, lane: Lane = Lane.INTERACTIVE) -> str:
    """The queue that carries this profile's work of this family."""
    name = f"diffedit.{profile}.{family.value}"
    return name if lane is Lane.INTERACTIVE else f"{name}.{lane.value}"


def queue_names(profile: str) -> tuple[str, ...]:
    """All queues of a profile, in the order in which a worker serves them: what has begun is finished first."""
    return tuple(queue_name(profile, family, lane) for lane in Lane for family in reversed(Family))


def _clean(text: str) -> str:
    text = " ".join(text.split())
    if any(unicodedata.category(char) == "Cc" for char in text):
        raise ValueError("must not contain control characters")
    if not text:
        raise ValueError("must not be empty")
    return text


Text = Annotated[str, StringConstraints(max_length=1000), AfterValidator(_clean)]
ProfileName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")]
JobId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
InputKey = Annotated[str, StringConstraints(pattern=r"^inputs/[0-9a-f]{2}/[0-9a-f]{64}\.(png|jpg|webp)$")]
"""Where an uploaded picture lies in the bucket: by the hash of its content."""


def _of_its_slot(refs: dict[Slot, str]) -> dict[Slot, str]:
    for slot, key in refs.items():
        if not re.fullmatch(rf"artifacts/{slot.value}/[0-9a-f]{{2}}/[0-9a-f]{{64}}\.(png|json|safetensors)", key):
            raise ValueError(f"the {slot.value} lies elsewhere")
    return refs


Refs = Annotated[dict[Slot, str], AfterValidator(_of_its_slot)]
"""Where a job's artifacts lie in the bucket: by the hash of their recipes, each slot in its own folder."""


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Prompts(Frozen):
    """Sentences that describe the picture as it is and as it shall be; several of a kind are averaged as embeddings."""

    source: tuple[str, ...] = Field(min_length=1)
    target: tuple[str, ...] = Field(min_length=1)


TUNED: dict[str, dict[str, Any]] = {"tiny": {"mask_thresholding_ratio": "otsu", "mask_cleanup": True}}
"""Per model, the defaults that differ from the DiffEdit guide's: chosen by benchmarks/quality.py."""


class EditParams(Frozen):
    """The numbers of an edit, named as in diffusers' DiffEdit pipeline, with the DiffEdit guide's defaults.

    A model may have other defaults, where they were measured (`TUNED`).

    `num_inference_steps`, `strength` and `scheduler` hold for inversion and edit alike: the two walk the same noise
    levels, once up and once down. "dpmsolver++" does in 20 steps what "ddim" does in 50. A guidance scale of 1 means no
    guidance. The mask is where the difference is above half of `mask_thresholding_ratio` times its mean, or with "otsu"
    where the difference itself parts the picture in two; `mask_cleanup` drops specks of the mask and fills its holes.
    """

    # A bool is no number, and a text neither.
    model_config = ConfigDict(strict=True)

    model: ProfileName
    num_inference_steps: int = Field(50, ge=1, le=500)
    strength: float = Field(0.8, gt=0, le=1)
    guidance_scale: float = Field(7.5, ge=1, le=50)
    inversion_guidance_scale: float = Field(1.0, ge=1, le=50)
    num_maps_per_mask: int = Field(10, ge=1, le=100)
    mask_encode_strength: float = Field(0.5, gt=0, le=1)
    mask_thresholding_ratio: Annotated[float, Field(gt=0, le=100)] | Literal["otsu"] = 3.0
    mask_cleanup: bool = False
    num_prompts: int = Field(16, ge=1, le=64)
    seed: int = Field(default_factory=lambda: secrets.randbelow(2**32), ge=0, lt=2**32)
    scheduler: Literal["ddim", "dpmsolver++"] = "ddim"

    @model_validator(mode="before")
    @classmethod
    def _measured(cls, values: Any) -> Any:
        return {**TUNED.get(str(values.get("model")), {}), **values} if isinstance(values, dict) else values

    @model_validator(mode="after")
    def _at_least_one_step(self) -> Self:
        for name in ("strength", "mask_encode_strength"):
            if int(self.num_inference_steps * getattr(self, name)) < 1:
                raise ValueError(f"num_inference_steps * {name} is below one step; raise one of them")
        return self


class EditRequest(Frozen):
    """What the user asks for, in one of three ways.

    - two prompts: `source_prompt` and `target_prompt`;
    - two concepts: `source_concept` and `target_concept`, from which the language model writes the prompts;
    - a target alone: `target_prompt`, the caption being the source.

    `image` and `mask` are keys of uploaded pictures. `mask` is white where the picture may change. `caption` describes
    the picture as it is and conditions the inversion; without it `source_prompt` does, else the captioner's words.
    """

    image: InputKey
    mask: InputKey | None = None
    source_prompt: Text | None = None
    target_prompt: Text | None = None
    source_concept: Text | None = None
    target_concept: Text | None = None
    caption: Text | None = None
    negative_prompt: Text | None = None
    goal: Literal[Slot.RESULT, Slot.MASK] = Slot.RESULT
    params: EditParams

    @model_validator(mode="after")
    def _one_way_of_asking(self) -> Self:
        prompts, concepts = (
            bool(self.source_prompt or self.target_prompt),
            bool(self.source_concept or self.target_concept),
        )
        if prompts and concepts:
            raise ValueError("give prompts or concepts, not both")
        if concepts and not (self.source_concept and self.target_concept):
            raise ValueError("concepts come in pairs; give source_concept and target_concept")
        if not concepts and not self.target_prompt:
            raise ValueError("nothing says what to change; give target_prompt, or source_concept and target_concept")
        source = self.source_concept or self.source_prompt or self.caption
        target = self.target_concept or self.target_prompt
        if source and target and source.casefold() == target.casefold():
            raise ValueError("source and target say the same, so there is nothing to change")
        if self.goal is Slot.MASK and self.mask:
            raise ValueError("a mask is given and a mask is asked for; leave one out")
        if len(json.dumps(self.model_dump(mode="json"))) > MAX_REQUEST_BYTES:
            raise ValueError(f"the texts are too long together; the request may take {MAX_REQUEST_BYTES} bytes as JSON")
        return self

    @property
    def given_caption(self) -> str | None:
        """The caption that the user supplied, if any."""
        return self.caption or self.source_prompt

    @property
    def given_prompts(self) -> Prompts | None:
        """The prompts that the user supplied, if both are known without a language model."""
        source = self.source_prompt or self.caption
        if self.target_prompt and source:
            return Prompts(source=(source,), target=(self.target_prompt,))
        return None

    @property
    def supplied(self) -> dict[Slot, str]:
        """The slots that the request itself fills, each with what identifies its content (a key or a hash)."""
        values = {
            Slot.IMAGE: self.image,
            Slot.MASK: self.mask,
            Slot.CAPTION: self.given_caption and digest(self.given_caption),
            Slot.PROMPTS: self.given_prompts and digest(self.given_prompts.model_dump(mode="json")),
        }
        return {slot: value for slot, value in values.items() if value}

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages that this request needs."""
        return plan(self.supplied.keys(), self.goal)

    @property
    def families(self) -> frozenset[Family]:
        """The model families that these stages need."""
        return frozenset(STAGES[stage].family for stage in self.stages)


def digest(value: object) -> str:
    """SHA-256 of a JSON value in canonical form, as 64 hex digits."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


class Terms(Frozen):
    """How a job is to be served; no result depends on it.

    `start_timeout` and `deadline` are seconds since the submission: a job that no worker has begun by the one, or that
    has not succeeded by the other, is EXPIRED. None is as long as it takes.
    """

    lane: Lane = Lane.INTERACTIVE
    start_timeout: float | None = Field(None, gt=0, le=MAX_SECONDS)
    deadline: float | None = Field(None, gt=0, le=MAX_SECONDS)


class Job(Frozen):
    """A job: who it is, all that was asked, how to serve it, and where lies what has been made so far."""

    id: JobId
    request: EditRequest
    terms: Terms = Terms()
    refs: Refs = Field(default_factory=dict)

    @property
    def stages_left(self) -> tuple[Stage, ...]:
        """The stages whose artifacts are not there yet, in running order."""
        return plan(self.request.supplied.keys() | self.refs.keys(), self.request.goal)

    @property
    def queue(self) -> str:
        """The queue in which this job waits for the first of the stages that are left."""
        return self.queue_of(self.stages_left[0])

    def queue_of(self, stage: Stage) -> str:
        return queue_name(self.request.params.model, STAGES[stage].family, self.terms.lane)

    def with_refs(self, refs: dict[Slot, str]) -> "Job":
        return self.model_copy(update={"refs": {**self.refs, **refs}})

    def without(self, slot: Slot) -> "Job":
        """The same job before the stage that gives this slot, and those after it, had run."""
        made = MAKER[slot]
        later = {each for stage in tuple(Stage)[tuple(Stage).index(made) :] for each in STAGES[stage].gives}
        return self.model_copy(update={"refs": {each: key for each, key in self.refs.items() if each not in later}})

    def identity(self, slot: Slot) -> str:
        """What identifies the content of a filled slot: its key, or the hash of a supplied text.

        Raises:
            ArtifactError: the slot is not filled.
        """
        identity = self.request.supplied.get(slot) or self.refs.get(slot)
        if identity is None:
            raise ArtifactError(f"nothing fills the slot {slot.value}; an earlier stage was left out")
        return identity


class State(StrEnum):
    """Where a job stands. Derived from the record, never stored."""

    QUEUED = "queued"
    """Recorded; no stage has begun."""
    RUNNING = "running"
    """At least one stage has begun; between two stages it waits in a queue."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    """Not begun within its `start_timeout`, or not done within its `deadline`."""


TERMINAL = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED, State.EXPIRED})


class ErrorInfo(Frozen):
    """Why a job failed."""

    stage: Stage | None
    code: str
    message: str


class JobStatus(Frozen):
    """A job's record at one moment.

    `step` of `steps` counts inside the current stage; `progress` (0 to 1) runs over all stages. `worker` is the id of
    the worker that began the current stage, which may be gone. `timings` holds seconds per finished stage, `cache_hits`
    the stages whose artifacts were already there, `made` the artifacts that the job had to make, `attempts` how often
    each stage was begun, `retries` how often one waited for a store that did not answer, `refs` where the artifacts
    made so far lie. Timestamps are the Redis server's, in UTC.
    """

    id: str
    state: State
    stages: tuple[Stage, ...]
    stage: Stage | None = None
    stage_index: int = 0
    step: int = 0
    steps: int = 0
    progress: float = 0.0
    worker: str | None = None
    timings: dict[Stage, float] = {}
    cache_hits: tuple[Stage, ...] = ()
    made: tuple[Slot, ...] = ()
    attempts: dict[Stage, int] = {}
    retries: int = 0
    error: ErrorInfo | None = None
    refs: Refs = {}
    request: EditRequest
    terms: Terms = Terms()
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def is_terminal(self) -> bool:
        return self.state in TERMINAL

    @property
    def ends_by(self) -> datetime | None:
        """When the job expires, unless something happens before."""
        limits = [None if self.started_at else self.terms.start_timeout, self.terms.deadline]
        seconds = [limit for limit in limits if limit is not None]
        return self.created_at + timedelta(seconds=min(seconds)) if seconds else None

    @property
    def seems_overdue(self) -> bool:
        """Whether this host's clock says that the job's time is over. Only the server's counts."""
        return not self.is_terminal and self.ends_by is not None and self.ends_by <= datetime.now(UTC)

    @property
    def job(self) -> Job:
        """The job as its stages see it."""
        return Job(id=self.id, request=self.request, terms=self.terms, refs=self.refs)


def explain(error: ValidationError) -> str:
    """A pydantic error as one line that names each field and what is wrong with it, without echoing the values."""
    parts = []
    for item in error.errors(include_url=False, include_input=False, include_context=False):
        # A parameter is named as the caller named it, without the group that it is kept in.
        places = item["loc"][1:] if item["loc"][:1] == ("params",) else item["loc"]
        where = ".".join(map(str, places))
        parts.append(f"{where}: {item['msg']}" if where else item["msg"].removeprefix("Value error, "))
    return "; ".join(parts)
