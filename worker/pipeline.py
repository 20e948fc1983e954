"""The table: which function runs a stage, with which model, and what each of its artifacts is made from.

Adding a stage takes a function in `stages/`, a row here and a row in `api_client/contract.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.metadata import version
from typing import Any, Literal

from api_client.contract import STAGES, EditRequest, Job, Slot, Stage, digest
from api_client.store import artifact_key
from worker.artifacts import CODECS
from worker.models import Models
from worker.stages.caption import caption
from worker.stages.edit import edit
from worker.stages.embed import embed
from worker.stages.invert import invert
from worker.stages.mask import mask
from worker.stages.prompts import prompts


@dataclass(frozen=True)
class Recipe:
    """What an artifact depends on besides its stage and model: other artifacts and knobs of the request."""

    parents: tuple[Slot, ...]
    knobs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """How a stage is run.

    `run` gets `models`, `on_step`, the slots that the stage needs and the knobs of its recipes, all by name, and
    nothing else: a knob that is missing from the recipe cannot be used by accident. Raise `version` when `run` comes
    to give other results for the same input.
    """

    run: Callable[..., dict[Slot, Any]]
    model: Literal["captioner", "prompter", "diffusion"]
    version: int
    recipes: dict[Slot, Recipe]

    @cached_property
    def knobs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(knob for recipe in self.recipes.values() for knob in recipe.knobs))


PIPELINE: dict[Stage, Row] = {
    Stage.CAPTION: Row(caption, "captioner", 1, {Slot.CAPTION: Recipe((Slot.IMAGE,))}),
    Stage.PROMPTS: Row(
        prompts,
        "prompter",
        1,
        {
            Slot.PROMPTS: Recipe(
                (Slot.CAPTION,), ("target_prompt", "source_concept", "target_concept", "num_prompts", "seed")
            )
        },
    ),
    # Two recipes, since the caption's embedding (and with it the inversion) must outlive a change of the prompts. A
    # third for the negative prompt would spare a mask when only that changes, and cost every job an object more.
    Stage.EMBED: Row(
        embed,
        "diffusion",
        1,
        {
            Slot.EMBEDDINGS: Recipe((Slot.PROMPTS,), ("negative_prompt",)),
            Slot.CAPTION_EMBEDDING: Recipe((Slot.CAPTION,)),
        },
    ),
    Stage.MASK: Row(
        mask,
        "diffusion",
        1,
        {
            Slot.MASK: Recipe(
                (Slot.IMAGE, Slot.EMBEDDINGS),
                (
                    "seed",
                    "scheduler",
                    "num_inference_steps",
                    "num_maps_per_mask",
                    "mask_encode_strength",
                    "mask_thresholding_ratio",
                    "mask_cleanup",
                ),
            )
        },
    ),
    Stage.INVERT: Row(
        invert,
        "diffusion",
        1,
        {
            Slot.TRAJECTORY: Recipe(
                (Slot.IMAGE, Slot.CAPTION_EMBEDDING),
                ("scheduler", "num_inference_steps", "strength", "inversion_guidance_scale"),
            )
        },
    ),
    Stage.EDIT: Row(
        edit,
        "diffusion",
        1,
        {
            Slot.RESULT: Recipe(
                (Slot.IMAGE, Slot.MASK, Slot.TRAJECTORY, Slot.EMBEDDINGS),
                ("scheduler", "num_inference_steps", "strength", "guidance_scale"),
            )
        },
    ),
}


def knob(request: EditRequest, name: str) -> Any:
    """A field of the request or of its parameters, by name."""
    return getattr(request if name in EditRequest.model_fields else request.params, name)


def recipe_key(stage: Stage, slot: Slot, job: Job, models: Models) -> str:
    """Where this job's artifact for `slot` lies: the same recipe gives the same key, on any worker."""
    row = PIPELINE[stage]
    recipe = row.recipes[slot]
    ingredients = {
        "stage": stage.value,
        "version": row.version,
        "slot": slot.value,
        "model": models.identity(row.model),
        "knobs": {name: knob(job.request, name) for name in recipe.knobs},
        "parents": {parent.value: job.identity(parent) for parent in recipe.parents},
    }
    return artifact_key(slot.value, digest(ingredients), CODECS[slot].extension)


def manifest(job: Job, models: Models, texts: dict[str, Any]) -> dict[str, Any]:
    """Everything that is needed to make this job's result again, as JSON.

    `texts` are the caption and prompts that were used, so that the manifest stands on its own when the bucket is gone.
    """
    return {
        "format": 1,
        "request": job.request.model_dump(mode="json"),
        "texts": texts,
        "artifacts": {slot.value: key for slot, key in job.refs.items()},
        # The worker that edits need not have the language models, so it names them without looking at them.
        "models": {
            part: models.identity(part) if part == PIPELINE[Stage.EDIT].model else models.name(part)
            for part in dict.fromkeys(PIPELINE[stage].model for stage in job.request.stages)
        },
        "stages": {stage.value: PIPELINE[stage].version for stage in job.request.stages},
        "device": models.device.type,
        "software": software(),
    }


assert all(set(PIPELINE[stage].recipes) == set(spec.gives) for stage, spec in STAGES.items())


@cache
def software() -> dict[str, str]:
    """The versions that a result may depend on. Looking them up takes milliseconds."""
    return {name: version(name) for name in ("diffedit-service", "diffusers", "transformers", "torch")}
