"""The latents of a picture: what the diffusion model works on."""

import hashlib

from diffusers.image_processor import VaeImageProcessor
from torch import Tensor

from diffedit.pictures import Picture
from diffedit_worker.diffusion import diffedit
from diffedit_worker.diffusion.letterbox import Letterbox
from diffedit_worker.models.loading import Models


def encode_picture(models: Models, picture: Picture) -> tuple[Letterbox, Tensor]:
    """Return how the picture fits the model's square, and its latents z0 (1, 4, h, w) on the model's device."""
    letterbox = Letterbox.fit(picture.image.size, models.size, models.vae_scale_factor)
    fitted = letterbox.apply(picture.image)

    def encode() -> Tensor:
        pixels = VaeImageProcessor(do_resize=False).preprocess(fitted)
        return diffedit.encode(models.vae, pixels.to(models.device, models.dtype))

    key = hashlib.sha256(fitted.tobytes() + repr(fitted.size).encode()).hexdigest()
    return letterbox, models.latent_cache.get(key, encode)
