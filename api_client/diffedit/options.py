"""The keyword arguments of `Client.edit`, as a type: editors complete them, mypy and pyright check them."""

from typing import Literal, TypedDict

from diffedit.contract.stages import Lane
from diffedit.uploads import PictureLike


class EditOptions(TypedDict, total=False):
    """The keyword arguments of `Client.edit`, `Client.edit_many` and `Client.preview_mask`. All are optional.

    Say what to change in one of three ways: `source_prompt` and `target_prompt`; `source_concept` and
    `target_concept`; or `target_prompt` alone. Everything after `mask` and before `lane` is a field of `EditParams`,
    which lists defaults and ranges.
    """

    source_prompt: str | None
    """A sentence that describes the picture as it is."""
    target_prompt: str | None
    """A sentence that describes the picture as it should be."""
    source_concept: str | None
    """The thing to replace, in a word or two. The language model writes the prompts."""
    target_concept: str | None
    """The thing to put there, in a word or two."""
    caption: str | None
    """A sentence that describes the whole picture as it is. The captioner is then skipped."""
    negative_prompt: str | None
    """A sentence that describes what the result must not show."""
    mask: PictureLike | None
    """A picture of the same size, white where the picture may change. The mask stage is then skipped."""

    profile: str
    """The model profile. Default: `DIFFEDIT_PROFILE`, else the only one that live workers serve, else "tiny"."""
    num_inference_steps: int
    """Denoising steps of the whole noise schedule."""
    strength: float
    """How far the picture is turned into noise, up to 1. The edit then takes this share of the steps."""
    guidance_scale: float
    """How strongly the edit follows the target. 1 means no guidance."""
    inversion_guidance_scale: float
    """How strongly the inversion follows the caption. 1 means no guidance."""
    num_maps_per_mask: int
    """Samples of noise over which the mask is averaged."""
    mask_encode_strength: float
    """How far the picture is turned into noise for the mask, up to 1."""
    mask_thresholding_ratio: float | Literal["otsu"]
    """Where the mask is cut: a multiple of half the mean difference, or "otsu" for the cut that separates best."""
    mask_cleanup: bool
    """Remove specks from the mask and fill its holes."""
    num_prompts: int
    """How many sentences the language model writes for each concept."""
    seed: int
    """The seed of all random numbers. Default: a random seed, which the job's request contains."""
    scheduler: Literal["ddim", "dpmsolver++"]
    """The solver of the inversion and the edit. "dpmsolver++" needs only 20 steps where "ddim" needs 50."""

    lane: Lane | Literal["interactive", "batch"]
    """"batch" for a job that can wait: its stages start only while no interactive job waits. Default: "interactive"."""
    start_timeout: float | None
    """Seconds from now. The job expires if no worker has started it by then. Default: no limit."""
    deadline: float | None
    """Seconds from now. The job expires if it has not succeeded by then. Default: no limit."""
    idempotency_key: str | None
    """1 to 200 printable characters. A second call with the same key queues nothing and returns the first job."""
