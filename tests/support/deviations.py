"""What diffusers' DiffEdit pipeline does in another way than we do, for tests that compare the two."""

import torch
from torch import Tensor


@torch.no_grad()
def sampled_encoding(vae, image: Tensor, generator: torch.Generator) -> Tensor:
    """Latents (B, 4, h, w) of pictures (B, 3, H, W) in [-1, 1]: a sample of the posterior instead of its mode."""
    return vae.config["scaling_factor"] * vae.encode(image, return_dict=False)[0].sample(generator)


def threshold_by_batch_mean(D: Tensor, ratio: float = 3.0) -> Tensor:
    """The masks of difference maps (B, h, w), with one mean for the batch instead of one for each picture."""
    return D.gt(0.5 * ratio * D.mean())


def one_level_behind(trajectory: Tensor) -> Tensor:
    """A trajectory (B, N + 1, 4, h, w) whose entries are one step late, so that `edit` blends as diffusers does."""
    return torch.cat([trajectory[:, :1], trajectory[:, :-1]], dim=1)


def noise_with_encodings(scheduler, z0: Tensor, encodings: Tensor, noise: Tensor, t: int) -> Tensor:
    """Noise (B, n, 4, h, w) that takes z0 (B, 4, h, w) where `noise` takes `encodings` (B, n, 4, h, w) at timestep t.

    diffusers encodes a picture once for each noise. x_t is a sum of the encoding and the noise, so the difference of
    the encodings can be added to the noise.
    """
    alpha = scheduler.alphas_cumprod[t]
    return noise + (alpha / (1 - alpha)).sqrt() * (encodings - z0[:, None])
