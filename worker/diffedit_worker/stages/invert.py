"""Stage invert: go from the picture to noise and keep every latent on the way."""

from typing import Any

import torch

from diffedit.contract.stages import Artifact
from diffedit.pictures import Picture, Size
from diffedit_worker.codecs import check_shapes, tensors_codec
from diffedit_worker.diffusion import diffedit
from diffedit_worker.models.finite import require_finite
from diffedit_worker.models.latents import encode_picture, latent_shape
from diffedit_worker.models.loading import Models
from diffedit_worker.stages.definition import Output, StageDefinition


def invert(
    *,
    models: Models,
    on_step: diffedit.OnStep,
    image: Picture,
    caption_embedding: dict[str, torch.Tensor],
    scheduler: str,
    num_inference_steps: int,
    strength: float,
    inversion_guidance_scale: float,
    inversion_feature_reuse: int,
) -> dict[Artifact, Any]:
    """Return the inverted latents (DiffEdit, step 2), (1, steps + 1, 4, h, w): noisiest first, the picture's last.

    Raises:
        NotFinite: VAE or UNet returned values that are not finite.
    """
    _, z0 = encode_picture(models, image)
    latents = diffedit.invert(
        models.denoiser,
        models.inverse_scheduler(scheduler),
        z0,
        caption_embedding["caption"].to(models.device, models.dtype),
        uncond=caption_embedding["unconditional"].to(models.device, models.dtype),
        num_inference_steps=num_inference_steps,
        strength=strength,
        guidance_scale=inversion_guidance_scale,
        feature_reuse=inversion_feature_reuse,
        on_step=on_step,
    )
    return {Artifact.TRAJECTORY: {"latents": require_finite(latents, "UNet", models.unet)}}


def check(
    trajectory: dict[str, torch.Tensor], *, models: Models, size: Size, num_inference_steps: int, strength: float
) -> None:
    """Raise ArtifactError unless the trajectory has the shape that `invert` gives it."""
    steps = diffedit.count_steps(num_inference_steps, strength)
    check_shapes(trajectory, (1, steps + 1, *latent_shape(models, size)))


DEFINITION = StageDefinition(invert, "diffusion", {Artifact.TRAJECTORY: Output(tensors_codec("latents"), check=check)})
