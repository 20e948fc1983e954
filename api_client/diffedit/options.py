"""The keyword arguments of `Client.edit`, as a type: editors complete them, mypy and pyright check them."""

from typing import Literal, TypedDict

from diffedit.contract.stages import Lane
from diffedit.uploads import PictureLike


class EditOptions(TypedDict, total=False):
    """The keyword arguments of `Client.edit`, `Client.edit_many` and `Client.preview_mask`. All are optional.

    Say what to change in one of three ways: `source_prompt` and `target_prompt`; `source_concept` and
    `target_concept`; or `target_prompt` alone. A stage is skipped when you provide its output. Everything after
    `mask` and before `lane` but `preset` is a field of `EditParams`, which lists defaults and ranges.
    """

    source_prompt: str | None
    """A sentence that describes the picture as it is."""
    target_prompt: str | None
    """A sentence that describes the picture as it should be."""
    source_concept: str | None
    """The thing to replace, in a few words. `concept_prompts` says how two concepts become prompts."""
    target_concept: str | None
    """The thing that replaces it, in a few words."""
    caption: str | None
    """A sentence that describes the whole picture as it is. Default: `source_prompt`, else the captioner's text."""
    negative_prompt: str | None
    """A sentence that describes what the result must not show. Default: the source."""
    mask: PictureLike | None
    """A picture of the same size, white where the picture may change."""

    profile: str
    """The model profile. Default: `DIFFEDIT_PROFILE`, else the only one that live workers serve, else "tiny"."""
    preset: str
    """Named parameter defaults: "guide" for the DiffEdit guide's, or a preset of the profile, such as "draft".

    Parameters that you give have priority. Default: "default", the profile's own.
    """
    num_inference_steps: int
    """Denoising steps of the whole noise schedule. With the scheduler "dpmsolver++", 20 steps are enough."""
    strength: float
    """Share of the schedule that inversion and edit use. A higher value allows larger changes."""
    guidance_scale: float
    """How strongly the edit follows the target prompt. 1 means no guidance."""
    guidance_interval: float
    """Share of the edit's steps that have guidance, from the noisiest on. A step without it has one sample, not two."""
    inversion_guidance_scale: float
    """How strongly the inversion follows the caption. 1 means no guidance. Above 1, the edit retraces it less well."""
    feature_reuse: int
    """The edit runs the whole UNet in one of this many steps, and only its highest resolution in the others."""
    inversion_feature_reuse: int
    """The inversion runs the whole UNet in one of this many steps, and only its highest resolution in the others."""
    num_maps_per_mask: int
    """Number of noises whose difference maps are averaged for the mask."""
    mask_encode_strength: float
    """Share of the schedule that sets the noise level of the mask."""
    mask_thresholding_ratio: float | Literal["otsu"]
    """The mask selects the cells whose difference is above half of this ratio times the mean difference.

    A smaller ratio gives a larger mask. "otsu" selects the cut that separates the differences best.
    """
    mask_cleanup: bool
    """Remove small spots from the mask and fill its holes."""
    concept_prompts: Literal["caption", "sentences"]
    """How two concepts become prompts.

    "caption": where the caption names the source concept, the prompts are the caption and the caption with the target
    concept in its place; the language model writes sentences otherwise. "sentences": it always does.
    """
    num_prompts: int
    """Number of sentences that the language model writes for each concept."""
    seed: int
    """Seed of all random numbers. Default: a random seed, which the job's request contains."""
    scheduler: Literal["ddim", "dpmsolver++"]
    """The solver of inversion and edit: "ddim" or "dpmsolver++"."""

    lane: Lane | Literal["interactive", "batch"]
    """"interactive" or "batch". A batch job runs only while no interactive job waits. Default: "interactive"."""
    start_timeout: float | None
    """Seconds after the submission. The job expires if no worker has started it by then. Default: no limit."""
    deadline: float | None
    """Seconds after the submission. The job expires if it has not succeeded by then. Default: no limit."""
    owner: str | None
    """Whose the job is: 1 to 200 printable characters, such as a user's id. Default: nobody's."""
    tags: dict[str, str]
    """Labels to find the job by: up to 10, with names of up to 40 and values of up to 100 characters."""
    keep: float | None
    """Seconds for which record, pictures, artifacts and result are kept after the end of the job, at least 60.

    Then the record is gone, and the next garbage collection deletes the others. Default: the record is kept for
    `DIFFEDIT_RETENTION`, and garbage collection goes by the age of an object.
    """
    webhook: str | None
    """A URL to which events are sent, such as "edit.started" and "edit.succeeded", signed by Standard Webhooks.

    `diffedit webhooks` must be running to send them. Default: none are sent.
    """
    idempotency_key: str | None
    """1 to 200 printable characters. The same call with the same key queues nothing and returns the first job.

    Another request with this key raises IdempotencyConflict.
    """
