"""Stage mask: find where the picture must change to match the target."""

from typing import Any, Literal

import torch
from PIL import Image

from diffedit.contract.stages import Artifact
from diffedit.errors import EmptyMask
from diffedit.pictures import Picture, Size
from diffedit_worker.codecs import MASK, check_size
from diffedit_worker.diffusion import diffedit
from diffedit_worker.diffusion.letterbox import upsample_mask
from diffedit_worker.diffusion.thresholding import threshold
from diffedit_worker.models.finite import require_finite
from diffedit_worker.models.latents import encode_picture
from diffedit_worker.models.loading import Models
from diffedit_worker.stages.definition import Output, StageDefinition


def mask(
    *,
    models: Models,
    on_step: diffedit.OnStep,
    image: Picture,
    embeddings: dict[str, torch.Tensor],
    seed: int,
    scheduler: str,
    num_inference_steps: int,
    num_maps_per_mask: int,
    mask_encode_strength: float,
    mask_thresholding_ratio: float | Literal["otsu"],
    mask_cleanup: bool,
) -> dict[Artifact, Any]:
    """Return the mask (DiffEdit, step 1) as a picture of mode "L" and the original's size, 255 where it may change.

    Raises:
        EmptyMask: the model sees no difference between source and target.
        NotFinite: VAE or UNet returned values that are not finite.
    """
    letterbox, z0 = encode_picture(models, image)
    noise = diffedit.draw_noise((1, num_maps_per_mask, *z0.shape[1:]), seed, device=models.device, dtype=models.dtype)
    D = diffedit.difference_map(
        models.denoiser,
        models.scheduler(scheduler),
        z0,
        embeddings["source"].to(models.device, models.dtype),
        embeddings["target"].to(models.device, models.dtype),
        noise,
        num_inference_steps=num_inference_steps,
        mask_encode_strength=mask_encode_strength,
        max_batch=models.max_batch,
        on_step=on_step,
    )
    cells = threshold(require_finite(D, "UNet", models.unet), mask_thresholding_ratio, cleanup=mask_cleanup)
    if not cells.any():
        raise EmptyMask(
            "the model sees no difference between source and target; ask for a clearer change, or give a mask"
        )
    grid = Image.fromarray(cells[0].to(torch.uint8).mul(255).cpu().numpy())
    return {Artifact.MASK: upsample_mask(grid, letterbox)}


def check(mask: Image.Image, *, size: Size) -> None:
    """Raise BadPicture unless the mask has the picture's size."""
    check_size("mask", mask, size)


DEFINITION = StageDefinition(mask, "diffusion", {Artifact.MASK: Output(MASK, check=check)})
