"""A model of Stable Diffusion's shape with random weights, whose forwards take so long that Python does not matter.

Widths are 0.3 of Stable Diffusion 1.5's: a UNet of 76 million parameters, a VAE of factor 8, pictures of 256 pixels.
Text encoder, captioner and prompter are the bundled ones. It edits nothing sensibly; it costs what such a model costs.
It says how many threads it takes, for the bundled model takes one and leaves its process with that.
"""

import os
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

TINY = Path(__file__).parents[1] / "worker/diffedit_worker/models/tiny"
SIZE = 256
PROFILE = f"""
[midsize]
size = {SIZE}
cpu_threads = {os.cpu_count()}
diffusion.id = "./diffusion"
captioner.id = "{TINY}/captioner"
prompter.id = "{TINY}/prompter"
"""


def midsize(directory: Path) -> Path:
    """Makes the model in `directory`, unless it is there. Returns the TOML file with the profile "midsize"."""
    profiles = directory / "profiles.toml"
    if profiles.exists():
        return profiles
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=SIZE // 8,
        block_out_channels=(96, 192, 384, 384),
        attention_head_dim=8,
        norm_num_groups=32,
        cross_attention_dim=96,
    )
    vae = AutoencoderKL(
        sample_size=SIZE,
        block_out_channels=(32, 64, 128, 128),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=4,
    )
    unet.save_pretrained(directory / "diffusion/unet")
    vae.save_pretrained(directory / "diffusion/vae")
    for part in ("text_encoder", "tokenizer", "scheduler"):
        shutil.copytree(TINY / "diffusion" / part, directory / "diffusion" / part, dirs_exist_ok=True)
    profiles.write_text(PROFILE)
    return profiles
