"""A picture as the diffusion model sees it."""

import hashlib

from diffusers.image_processor import VaeImageProcessor
from torch import Tensor

from diffedit.pictures import Picture
from diffedit_worker.diffusion import diffedit
from diffedit_worker.diffusion.canvas import Canvas
from diffedit_worker.models.loading import Models


def encoded(models: Models, image: Picture) -> tuple[Canvas, Tensor]:
    """How the picture lies on the model's canvas, and its latents z0 (1, 4, h, w) on the model's device.

    The last picture's are kept, for mask and inversion begin with the same ones, mostly on the same worker.
    """
    canvas = Canvas.fit(image.image.size, models.size, models.vae_scale_factor)
    placed = canvas.place(image.image)
    key = hashlib.sha256(placed.tobytes() + repr(placed.size).encode()).hexdigest()
    if models.last_encoded is None or models.last_encoded[0] != key:
        pixels = VaeImageProcessor(do_resize=False).preprocess(placed)
        z0 = diffedit.encode(models.vae, pixels.to(models.device, models.dtype))
        models.last_encoded = (key, z0)
    return canvas, models.last_encoded[1]
