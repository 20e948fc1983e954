"""The way from the picture back into noise, which the edit walks forth again."""

from typing import Any

import torch
from diffusers.image_processor import VaeImageProcessor

from api_client.contract import Slot
from api_client.pictures import Picture
from worker import diffedit
from worker.canvas import Canvas
from worker.models import Models


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
) -> dict[Slot, Any]:
    """The inverted latents (DiffEdit, step 2), (1, steps + 1, 4, h, w), noisiest first, the clean ones last."""
    canvas = Canvas.fit(image.image.size, models.size, models.vae_scale_factor)
    pixels = VaeImageProcessor(do_resize=False).preprocess(canvas.place(image.image))
    z0 = diffedit.encode(models.vae, pixels.to(models.device, models.dtype))
    latents = diffedit.invert(
        models.unet,
        models.inverse_scheduler(scheduler),
        z0,
        caption_embedding["caption"].to(models.device, models.dtype),
        uncond=caption_embedding["unconditional"].to(models.device, models.dtype),
        num_inference_steps=num_inference_steps,
        strength=strength,
        guidance_scale=inversion_guidance_scale,
        on_step=on_step,
    )
    return {Slot.TRAJECTORY: {"latents": latents}}
