"""A diffusion model with random weights, small enough to build and run in milliseconds; nothing is downloaded."""

from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMInverseScheduler, DDIMScheduler, UNet2DConditionModel
from torch import Tensor

from diffedit_worker.diffusion.denoiser import UNetDenoiser
from diffedit_worker.diffusion.diffedit import difference_map
from diffedit_worker.diffusion.thresholding import threshold

# When the machine has other work, two threads of a small model wait for each other much longer than they compute.
torch.set_num_threads(1)

SIZE = 32
TOKENS, WIDTH = 7, 16


@dataclass(frozen=True)
class SmallModels:
    unet: UNet2DConditionModel
    vae: AutoencoderKL
    scheduler: DDIMScheduler
    inverse_scheduler: DDIMInverseScheduler
    denoiser: UNetDenoiser = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "denoiser", UNetDenoiser(self.unet))


def small_models(prediction_type: str = "epsilon", seed: int = 0) -> SmallModels:
    """The schedule is Stable Diffusion's; pictures are SIZE pixels a side, latents half of that."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet = UNet2DConditionModel(
            sample_size=SIZE // 2,
            block_out_channels=(8, 16),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "UpBlock2D"),
            norm_num_groups=4,
            attention_head_dim=4,
            cross_attention_dim=WIDTH,
        )
        vae = AutoencoderKL(
            sample_size=SIZE,
            block_out_channels=(8, 8),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            latent_channels=4,
            norm_num_groups=4,
        )
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type=prediction_type,
    )
    inverse_scheduler = DDIMInverseScheduler.from_config(scheduler.config)
    return SmallModels(unet.eval(), vae.eval(), scheduler, inverse_scheduler)


def pictures(count: int, seed: int = 0) -> Tensor:
    """(count, 3, SIZE, SIZE) in [0, 1]: a bright rough patch on a dark calm ground, so that a mask has two sides."""
    noise = torch.rand(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))
    image = 0.2 * noise
    image[:, :, SIZE // 4 : SIZE // 2, SIZE // 4 : SIZE // 2] = noise[:, :, : SIZE // 4, : SIZE // 4].round()
    return image


def embeddings(count: int, seed: int) -> Tensor:
    """(count, TOKENS, WIDTH), standing for prompts; large, since random attention hardly answers to small ones."""
    return 10 * torch.randn(count, TOKENS, WIDTH, generator=torch.Generator().manual_seed(seed))


def compute_mask(
    *inputs: Any, mask_thresholding_ratio: Any = 3.0, mask_cleanup: bool = False, **options: Any
) -> Tensor:
    """Step 1 of DiffEdit as a whole: the mask (B, h, w) of the difference map, at the defaults of the guide."""
    return threshold(difference_map(*inputs, **options), mask_thresholding_ratio, cleanup=mask_cleanup)
