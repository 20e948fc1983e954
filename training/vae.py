"""The VAE: pictures of 64 x 64 pixels to latents of 4 x 16 x 16 and back."""

import logging
import math
from collections.abc import Iterator
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from training.data import Pictures
from training.loop import fit
from training.scenes import SIZE

log = logging.getLogger("training")

CHANNELS = (16, 32, 96)
BATCH = 16
JOINT_STEPS, DECODER_STEPS = 2400, 800
POSTERIOR_STD = 0.1
"""Standard deviation of the posterior of the raw latents.

It is constant, because a posterior this small collapses with a learned variance and a KL term."""

LATENT_STD = 0.5
"""Standard deviation of the scaled latents. Stable Diffusion's is 1.

Smooth latents of 16 x 16 survive much more noise than those of 64 x 64. With a standard deviation of 1, the object
remains visible under the noise of strength 0.8, and few edits succeed."""


def new_vae() -> AutoencoderKL:
    """Return the VAE with random weights."""
    levels = len(CHANNELS)
    return AutoencoderKL(
        block_out_channels=CHANNELS,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        mid_block_add_attention=False,
        sample_size=SIZE,
    )


def train_vae(pictures: Pictures, directory: Path, seed: int) -> tuple[AutoencoderKL, Tensor]:
    """Train encoder and decoder together, then the decoder alone on the final latents.

    Returns:
        The VAE, and the scaled latents of all pictures, (N, 4, 16, 16).
    """
    torch.manual_seed(seed)
    vae = new_vae().to(memory_format=torch.channels_last)
    whiten(vae, pictures.images(slice(0, 64)))

    def joint(generator: torch.Generator) -> Tensor:
        x = pictures.images(pictures.choose(BATCH, generator))
        z = vae.encode(x).latent_dist.mode()
        noise = torch.randn(z.shape, generator=generator)
        y = vae.decode(z + POSTERIOR_STD * noise).sample.float()
        # Without the last term, the latents would grow until the noise no longer matters.
        penalty: Tensor = 5e-4 * z.square().mean()
        return reconstruction_loss(y, x) + penalty

    fit("vae", vae, joint, directory=directory, seed=seed, steps=JOINT_STEPS, lr=1.5e-3)
    fold_scale(vae, pictures.images(slice(0, 1024)))
    vae.encoder.requires_grad_(False)
    vae.quant_conv.requires_grad_(False)
    latents = encode_all(vae, pictures, directory)
    std = torch.exp(vae.quant_conv.bias[4:, None, None] / 2)

    def decoder(generator: torch.Generator) -> Tensor:
        numbers = pictures.choose(BATCH, generator)
        z = latents[numbers] / vae.config["scaling_factor"]
        noise = torch.randn(z.shape, generator=generator)
        return reconstruction_loss(vae.decode(z + std / 2 * noise).sample.float(), pictures.images(numbers))

    fit("vae-decoder", vae, decoder, directory=directory, seed=seed + 1, steps=DECODER_STEPS, lr=1e-3)
    return vae.requires_grad_(False), latents


@torch.no_grad()
def encode_all(vae: AutoencoderKL, pictures: Pictures, directory: Path) -> Tensor:
    """Return the scaled latents of all pictures, (N, 4, 16, 16). They are saved in `directory`."""
    path = directory / "latents.pt"
    if not path.exists():
        log.info("encoding %d pictures", len(pictures))
        parts = [
            vae.encode(pictures.images(slice(start, start + 64))).latent_dist.mode()
            for start in range(0, len(pictures), 64)
        ]
        torch.save(vae.config["scaling_factor"] * torch.cat(parts).contiguous(), path)
    latents: Tensor = torch.load(path, weights_only=True)
    return latents


def reconstruction_loss(y: Tensor, x: Tensor) -> Tensor:
    """Return L1 + 2 MSE + a quarter of the L1 distance of the gradients. The last term keeps edges sharp."""
    across = (y.diff(dim=3) - x.diff(dim=3)).abs().mean() + (y.diff(dim=2) - x.diff(dim=2)).abs().mean()
    return (y - x).abs().mean() + 2 * (y - x).square().mean() + 0.25 * across


@torch.no_grad()
def whiten(vae: AutoencoderKL, images: Tensor) -> None:
    """Change a new VAE so that its latents have zero mean and unit covariance.

    Random weights give four nearly equal channels.
    """
    z = vae.encode(images).latent_dist.mode().permute(1, 0, 2, 3).flatten(1)
    mean, (values, vectors) = z.mean(dim=1), torch.linalg.eigh(torch.cov(z))
    _transform(vae, vectors @ torch.diag(values.clamp(min=1e-8).rsqrt()) @ vectors.T, mean)


@torch.no_grad()
def fold_scale(vae: AutoencoderKL, images: Tensor) -> None:
    """Give the latents zero mean and, after the scaling factor, the standard deviation LATENT_STD in each channel.

    The decoder is changed accordingly, so that the decoded pictures stay the same. The posterior gets the variance that
    the VAE was trained with.
    """
    z = torch.cat([vae.encode(batch).latent_dist.mode() for batch in _batches(images)])
    mean, std = z.mean(dim=(0, 2, 3)), z.std(dim=(0, 2, 3))
    scale = LATENT_STD / (std * vae.config["scaling_factor"])
    _transform(vae, torch.diag(scale), mean)
    back = vae.post_quant_conv
    back.bias += torch.einsum("oi,i->o", back.weight[:, :, 0, 0], mean)
    back.weight /= scale[None, :, None, None]
    vae.quant_conv.weight[4:] = 0
    vae.quant_conv.bias[4:] = 2 * torch.log(POSTERIOR_STD * scale)


def round_trip_psnr(vae: AutoencoderKL, images: Tensor) -> float:
    """Return the mean PSNR in dB of pictures (N, 3, SIZE, SIZE) after encoding and decoding."""
    with torch.no_grad():
        y = torch.cat([vae.decode(vae.encode(batch).latent_dist.mode()).sample for batch in _batches(images)])
    return (10 * torch.log10(4 / (y.clamp(-1, 1) - images).square().mean(dim=(1, 2, 3)))).mean().item()


def _batches(images: Tensor) -> Iterator[Tensor]:
    return (images[start : start + 64] for start in range(0, len(images), 64))


def _transform(vae: AutoencoderKL, matrix: Tensor, mean: Tensor) -> None:
    """Replace the posterior's mean z by matrix (z - mean), inside of quant_conv."""
    convolution = vae.quant_conv
    weight, bias = convolution.weight[:4, :, 0, 0].clone(), convolution.bias[:4].clone()
    convolution.weight[:4] = (matrix @ weight)[:, :, None, None]
    convolution.bias[:4] = matrix @ (bias - mean)


assert math.log2(SIZE // 16) == len(CHANNELS) - 1
