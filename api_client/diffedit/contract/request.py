"""What a user asks for: the texts and pictures of an edit, and its parameters."""

import json
import secrets
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from diffedit.contract.stages import STAGE_OF, Artifact, ModelGroup, Stage, plan
from diffedit.contract.validation import Frozen, InputKey, ProfileName, StrictNumbers, Text, digest
from diffedit.contract.versions import Hint, not_recorded

MAX_REQUEST_BYTES = 3_300
"""Limit of a request as ASCII JSON. Redis keeps it in memory as long as the job's record."""


def random_seed() -> int:
    return secrets.randbelow(2**32)


class Prompts(Frozen):
    """Sentences that describe the picture before and after the edit. Several sentences are averaged as embeddings."""

    source: tuple[str, ...] = Field(min_length=1)
    """Describe the picture before the edit."""
    target: tuple[str, ...] = Field(min_length=1)
    """Describe the picture after the edit."""


class EditParams(StrictNumbers):
    """The parameters of an edit, named as in diffusers' DiffEdit pipeline, with the defaults of the DiffEdit guide.

    A profile may have other defaults.
    """

    profile: ProfileName
    """The model profile. Default: `DIFFEDIT_PROFILE`, else the only one that live workers serve, else "tiny"."""
    num_inference_steps: int = Field(default=50, ge=1, le=500)
    """Denoising steps of the whole noise schedule. With the scheduler "dpmsolver++", 20 steps are enough."""
    strength: float = Field(default=0.8, gt=0, le=1)
    """Share of the schedule that inversion and edit use. A higher value allows larger changes."""
    guidance_scale: float = Field(default=7.5, ge=1, le=50)
    """How strongly the edit follows the target prompt. 1 means no guidance."""
    guidance_interval: Annotated[float, Hint()] = Field(default=1.0, gt=0, le=1)
    """Share of the edit's steps that have guidance, from the noisiest on. A step without it has one sample, not two."""
    inversion_guidance_scale: float = Field(default=1.0, ge=1, le=50)
    """How strongly the inversion follows the caption. 1 means no guidance. Above 1, the edit retraces it less well."""
    feature_reuse: Annotated[int, Hint()] = Field(default=1, ge=1, le=10)
    """The edit runs the whole UNet in one of this many steps, and only its highest resolution in the others."""
    inversion_feature_reuse: Annotated[int, Hint()] = Field(default=1, ge=1, le=10)
    """The inversion runs the whole UNet in one of this many steps, and only its highest resolution in the others."""
    num_maps_per_mask: int = Field(default=10, ge=1, le=100)
    """Number of noises whose difference maps are averaged for the mask."""
    mask_encode_strength: float = Field(default=0.5, gt=0, le=1)
    """Share of the schedule that sets the noise level of the mask."""
    mask_thresholding_ratio: Annotated[float, Field(gt=0, le=100)] | Literal["otsu"] = 3.0
    """The mask selects the cells whose difference is above half of this ratio times the mean difference.

    A smaller ratio gives a larger mask. "otsu" selects the cut that separates the differences best.
    """
    mask_cleanup: bool = False
    """Remove small spots from the mask and fill its holes."""
    concept_prompts: Annotated[Literal["caption", "sentences"], Hint()] = "sentences"
    """How two concepts become prompts.

    "caption": where the caption names the source concept, the prompts are the caption and the caption with the target
    concept in its place; the language model writes sentences otherwise. "sentences": it always does.
    """
    num_prompts: int = Field(default=16, ge=1, le=64)
    """Number of sentences that the language model writes for each concept."""
    seed: int = Field(default_factory=random_seed, ge=0, lt=2**32)
    """Seed of all random numbers. Default: a random seed, which the job's request contains."""
    scheduler: Literal["ddim", "dpmsolver++"] = "ddim"
    """The solver of inversion and edit: "ddim" or "dpmsolver++"."""

    @classmethod
    def resolve(cls, profile: str, defaults: Mapping[str, Any], given: Mapping[str, Any]) -> Self:
        """Return all parameters of an edit: what the user gave, else the profile's default, else the field's.

        Defaults that this version does not know or accept are ignored, because a newer worker may announce them.

        Raises:
            pydantic.ValidationError: a given parameter is unknown, or a value is out of its range.
        """
        known = {name: value for name, value in defaults.items() if name in cls.model_fields}
        try:
            cls.model_validate({**known, "profile": "any"})
        except ValidationError as error:
            refused = {item["loc"][0] for item in error.errors() if item["loc"]}
            known = {name: value for name, value in known.items() if name not in refused}
        return cls.model_validate({**known, "profile": profile, **given})

    @model_validator(mode="after")
    def _check_at_least_one_step(self) -> Self:
        for name in ("strength", "mask_encode_strength"):
            if int(self.num_inference_steps * getattr(self, name)) < 1:
                raise ValueError(f"num_inference_steps * {name} is below one step; raise one of them")
        return self


class EditRequest(Frozen):
    """What the user asks for, in one of three ways.

    - two prompts: `source_prompt` and `target_prompt`;
    - two concepts: `source_concept` and `target_concept`; caption or language model make the prompts of them;
    - a target alone: `target_prompt`; the caption is the source.
    """

    image: InputKey
    """Key of the uploaded picture."""
    mask: InputKey | None = None
    """Key of an uploaded mask of the picture's size, white where the picture may change."""
    source_prompt: Text | None = None
    """A sentence that describes the picture as it is."""
    target_prompt: Text | None = None
    """A sentence that describes the picture as it should be."""
    source_concept: Text | None = None
    """The thing to replace, in a few words. `concept_prompts` says how two concepts become prompts."""
    target_concept: Text | None = None
    """The thing that replaces it, in a few words."""
    caption: Text | None = None
    """A sentence that describes the whole picture as it is. Default: `source_prompt`, else the captioner's text."""
    negative_prompt: Text | None = None
    """A sentence that describes what the result must not show. Default: the source."""
    goal: Artifact = Artifact.RESULT
    """The artifact that the job makes last."""
    params: EditParams
    """The parameters of the edit."""

    @model_validator(mode="after")
    def _check_texts(self) -> Self:
        prompts = bool(self.source_prompt or self.target_prompt)
        concepts = bool(self.source_concept or self.target_concept)
        if prompts and concepts:
            raise ValueError("give prompts or concepts, not both")
        if concepts and not (self.source_concept and self.target_concept):
            raise ValueError("concepts come in pairs; give source_concept and target_concept")
        if not concepts and not self.target_prompt:
            raise ValueError("nothing says what to change; give target_prompt, or source_concept and target_concept")
        source = self.source_concept or self.source_prompt or self.caption
        target = self.target_concept or self.target_prompt
        if source and target and source.casefold() == target.casefold():
            raise ValueError("source and target are the same, so there is nothing to change")
        return self

    @model_validator(mode="after")
    def _check_goal_and_size(self) -> Self:
        if self.goal in self.provided:
            raise ValueError(f"goal: the {self.goal.value} is given already, so there is nothing to compute")
        # As it is recorded: a request of an older version must not grow by the fields that it does not have.
        if len(json.dumps(self.model_dump(mode="json", exclude=not_recorded(self)))) > MAX_REQUEST_BYTES:
            raise ValueError(f"the texts are too long together; a request may take {MAX_REQUEST_BYTES} bytes as JSON")
        return self

    @property
    def given_caption(self) -> str | None:
        """The caption that the user provided, if any."""
        return self.caption or self.source_prompt

    @property
    def given_prompts(self) -> Prompts | None:
        """The prompts that the user provided, if both are known without a language model."""
        source = self.source_prompt or self.caption
        if self.target_prompt and source:
            return Prompts(source=(source,), target=(self.target_prompt,))
        return None

    @property
    def provided(self) -> dict[Artifact, str]:
        """The artifacts that the request itself provides, each with a key or a hash that identifies its content."""
        values = {
            Artifact.IMAGE: self.image,
            Artifact.MASK: self.mask,
            Artifact.CAPTION: self.given_caption and digest(self.given_caption),
            Artifact.PROMPTS: self.given_prompts and digest(self.given_prompts.model_dump(mode="json")),
        }
        return {artifact: value for artifact, value in values.items() if value}

    def is_of_picture(self, artifact: Artifact) -> bool:
        """Return whether an artifact depends on the picture or on the mask. The others depend only on texts."""
        if artifact is Artifact.IMAGE or artifact in self.provided:
            return artifact in (Artifact.IMAGE, Artifact.MASK)
        return any(map(self.is_of_picture, STAGE_OF[artifact].outputs[artifact]))

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages that this request needs, in running order."""
        return plan(self.provided.keys(), self.goal)

    @property
    def groups(self) -> frozenset[ModelGroup]:
        """The model groups that these stages need."""
        return frozenset(stage.group for stage in self.stages)
