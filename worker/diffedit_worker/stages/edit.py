"""Stage edit: denoise towards the target inside the mask, keep the picture outside of it."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from diffusers.image_processor import VaeImageProcessor
from PIL import Image

from diffedit.contract.stages import Artifact
from diffedit.pictures import Picture, Size
from diffedit_worker.codecs import RESULT, check_size
from diffedit_worker.diffusion import diffedit
from diffedit_worker.diffusion.letterbox import Letterbox, compose, downsample_mask
from diffedit_worker.models.finite import require_finite
from diffedit_worker.models.loading import Models
from diffedit_worker.models.previews import OnPreviewedStep, Previews
from diffedit_worker.stages.definition import Output, StageDefinition


def edit(
    *,
    models: Models,
    on_step: OnPreviewedStep,
    image: Picture,
    mask: Image.Image,
    trajectory: dict[str, torch.Tensor],
    embeddings: dict[str, torch.Tensor],
    scheduler: str,
    num_inference_steps: int,
    strength: float,
    guidance_scale: float,
    guidance_interval: float,
    feature_reuse: int,
) -> dict[Artifact, Any]:
    """Return the edited picture (DiffEdit, step 3) in the original's size, with the original's pixels outside the mask.

    If the original is transparent in parts, so is the result outside the mask. With each step, `on_step` also gets a
    function that makes a preview of the picture as it forms.

    Raises:
        NotFinite: VAE or UNet returned values that are not finite.
    """
    letterbox = Letterbox.fit(image.image.size, models.size, models.vae_scale_factor)
    cells = torch.from_numpy(np.array(downsample_mask(mask, letterbox, models.vae_scale_factor))) > 127
    states = trajectory["latents"].to(models.device, models.dtype)
    previews = Previews(image.image, states[:, -1], letterbox)
    latents = diffedit.edit(
        models.denoiser,
        models.scheduler(scheduler),
        states,
        cells[None].to(models.device),
        embeddings["target"].to(models.device, models.dtype),
        negative=embeddings["negative"].to(models.device, models.dtype),
        num_inference_steps=num_inference_steps,
        strength=strength,
        guidance_scale=guidance_scale,
        guidance_interval=guidance_interval,
        feature_reuse=feature_reuse,
        on_step=lambda done, total: on_step(done, total, previews.encode),
        on_latents=previews.keep,
    )
    require_finite(latents, "UNet", models.unet)
    pixels = require_finite(diffedit.decode(models.vae, latents.to(models.vae_dtype)), "VAE", models.vae)
    edited = letterbox.undo(VaeImageProcessor().postprocess(pixels.float(), output_type="pil")[0])
    cell = models.vae_scale_factor * letterbox.size[0] / letterbox.scaled[0]
    original = image.layer or image.image
    composed = compose(original, edited.convert(original.mode), mask, edge=cell)
    return {Artifact.RESULT: replace(image, image=composed, layer=None)}


def check(result: Picture, *, size: Size) -> None:
    """Raise BadPicture unless the result has the picture's size."""
    check_size("result", result.image, size)


DEFINITION = StageDefinition(edit, "diffusion", {Artifact.RESULT: Output(RESULT, check=check)})
