"""The stages of a job, the artifacts between them, and the queues that carry them.

An *artifact* is one output of a job, such as its mask. A *stage* makes one or more of them. `plan(have, goal)` returns
the stages that a job needs: a stage is skipped when its artifacts are provided. There are no other switches.
"""

from collections.abc import Mapping, Sequence, Set
from enum import StrEnum
from typing import Self

from diffedit.errors import InvalidRequest


class Artifact(StrEnum):
    """The artifacts of a job, in the order in which they are made."""

    IMAGE = "image"
    """The picture that the user uploaded."""
    CAPTION = "caption"
    """A sentence that describes the picture."""
    PROMPTS = "prompts"
    """Sentences that describe the picture before and after the edit."""
    EMBEDDINGS = "embeddings"
    """The embeddings of the source, the target and the negative prompt."""
    CAPTION_EMBEDDING = "caption_embedding"
    """The embedding of the caption, for the inversion."""
    MASK = "mask"
    """Where the picture may change: white, on black."""
    TRAJECTORY = "trajectory"
    """The latents of the picture at each step of the inversion."""
    RESULT = "result"
    """The edited picture."""


class ModelGroup(StrEnum):
    """Stages of one group share a queue, so that a worker loads only the models of the groups that it serves."""

    LANGUAGE = "language"
    """Caption, prompts and embed: the stages with models of texts."""
    DIFFUSION = "diffusion"
    """Mask, invert and edit: the stages with the diffusion model."""


class Stage(StrEnum):
    """The stages of a job, in running order: name, model group, and for each output the artifacts it is made from."""

    CAPTION = "caption", ModelGroup.LANGUAGE, {Artifact.CAPTION: (Artifact.IMAGE,)}
    """Describe the picture with BLIP."""
    PROMPTS = "prompts", ModelGroup.LANGUAGE, {Artifact.PROMPTS: (Artifact.CAPTION,)}
    """Write the prompts with Flan-T5."""
    # The caption's embedding does not depend on the prompts, so the inversion is reused when only the prompts change.
    EMBED = (
        "embed",
        ModelGroup.LANGUAGE,
        {Artifact.EMBEDDINGS: (Artifact.PROMPTS,), Artifact.CAPTION_EMBEDDING: (Artifact.CAPTION,)},
    )
    """Turn the texts into embeddings with CLIP."""
    MASK = "mask", ModelGroup.DIFFUSION, {Artifact.MASK: (Artifact.IMAGE, Artifact.EMBEDDINGS)}
    """Find where source and target differ."""
    INVERT = "invert", ModelGroup.DIFFUSION, {Artifact.TRAJECTORY: (Artifact.IMAGE, Artifact.CAPTION_EMBEDDING)}
    """Turn the picture into noise, step by step."""
    EDIT = (
        "edit",
        ModelGroup.DIFFUSION,
        {Artifact.RESULT: (Artifact.IMAGE, Artifact.MASK, Artifact.TRAJECTORY, Artifact.EMBEDDINGS)},
    )
    """Turn the noise back into a picture, under the target inside the mask."""

    group: ModelGroup
    """The model group whose queue carries the stage."""
    outputs: Mapping[Artifact, Sequence[Artifact]]
    """The artifacts that the stage makes, each with its inputs: the artifacts that it is made from."""

    def __new__(cls, name: str, group: ModelGroup, outputs: Mapping[Artifact, Sequence[Artifact]]) -> Self:
        stage = str.__new__(cls, name)
        stage._value_ = name
        stage.group = group
        stage.outputs = outputs
        return stage

    @property
    def gives(self) -> tuple[Artifact, ...]:
        """The artifacts that the stage makes."""
        return tuple(self.outputs)

    @property
    def needs(self) -> tuple[Artifact, ...]:
        """The inputs of all outputs, each once."""
        return tuple(dict.fromkeys(each for inputs in self.outputs.values() for each in inputs))


STAGE_OF: dict[Artifact, Stage] = {artifact: stage for stage in Stage for artifact in stage.gives}
"""The stage that makes an artifact. The image has none: the user uploads it."""


def plan(have: Set[Artifact], goal: Artifact) -> tuple[Stage, ...]:
    """Return the stages that lead from the artifacts in `have` to `goal`, in running order; () if `have` holds `goal`.

    Raises:
        InvalidRequest: an artifact that no stage makes (the image) is needed and not in `have`.
    """
    stages: set[Stage] = set()
    wanted = [goal]
    while wanted:
        artifact = wanted.pop()
        if artifact in have:
            continue
        if artifact not in STAGE_OF:
            raise InvalidRequest(f"the {artifact.value} is missing and no stage can make it; provide it")
        stage = STAGE_OF[artifact]
        if stage not in stages:
            stages.add(stage)
            wanted.extend(stage.needs)
    return tuple(stage for stage in Stage if stage in stages)


class Lane(StrEnum):
    """The lane of a job. A worker starts a stage of a batch job only while no interactive job waits in its queues."""

    INTERACTIVE = "interactive"
    """Jobs that a person waits for. This is the default."""
    BATCH = "batch"
    """Jobs that can wait."""


def queue_name(profile: str, group: ModelGroup, lane: Lane = Lane.INTERACTIVE) -> str:
    """Return the name of the queue for a profile, a model group and a lane."""
    name = f"diffedit.{profile}.{group.value}"
    return name if lane is Lane.INTERACTIVE else f"{name}.{lane.value}"


def queue_names(
    profile: str, groups: Sequence[ModelGroup] = tuple(ModelGroup), lanes: Sequence[Lane] = tuple(Lane)
) -> tuple[str, ...]:
    """Return the queues of a profile in the order in which a worker serves them.

    Interactive comes before batch, and diffusion before language, so that jobs that have started are finished first.
    """
    ordered = [group for group in reversed(ModelGroup) if group in groups]
    return tuple(queue_name(profile, group, lane) for lane in Lane if lane in lanes for group in ordered)
