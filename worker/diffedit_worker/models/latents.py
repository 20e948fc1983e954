"""The latents of a picture: what the diffusion model works on."""

import hashlib

from diffusers.image_processor import VaeImageProcessor
from torch import Tensor

from diffedit.pictures import Picture, Size
from diffedit_worker.diffusion import diffedit
from diffedit_worker.diffusion.letterbox import Letterbox
from diffedit_worker.models.finite import require_finite
from diffedit_worker.models.loading import Models


def latent_shape(models: Models, size: Size) -> tuple[int, int, int]:
    """Return the shape (4, h, w) of the latents of a picture of this size."""
    width, height = Letterbox.fit(size, models.size, models.vae_scale_factor).padded
    return models.vae.config.latent_channels, height // models.vae_scale_factor, width // models.vae_scale_factor


def encode_picture(models: Models, picture: Picture) -> tuple[Letterbox, Tensor]:
    """Return how the picture fits the model's square, and its latents z0 (1, 4, h, w) on the model's device.

    Raises:
        NotFinite: the VAE returned values that are not finite. They are not kept.
    """
    letterbox = Letterbox.fit(picture.image.size, models.size, models.vae_scale_factor)
    fitted = letterbox.apply(picture.image)

    def encode() -> Tensor:
        pixels = VaeImageProcessor(do_resize=False).preprocess(fitted)
        z0 = diffedit.encode(models.vae, pixels.to(models.device, models.vae_dtype)).to(models.dtype)
        return require_finite(z0, "VAE", models.vae)

    key = hashlib.sha256(fitted.tobytes() + repr(fitted.size).encode()).hexdigest()
    return letterbox, models.latent_cache.get(key, encode)
