"""A model of Stable Diffusion's shape with random weights, whose forward passes take much longer than Python's part.

The widths are 0.3 of those of Stable Diffusion 1.5: a UNet of 76 million parameters and a VAE of factor 8, for pictures
of 256 x 256 pixels. Text encoder, captioner and prompter are those of the bundled model. The edits make no sense, but
cost what edits with a model of this size cost.
"""

import os
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from diffedit_worker.models.profiles import SAMPLES

BUNDLED = SAMPLES.parent
SIZE = 256
# The number of threads is given because the bundled model sets it to one for its process.
PROFILE = f"""
[midsize]
size = {SIZE}
cpu_threads = {os.cpu_count()}
diffusion.id = "./diffusion"
captioner.id = "{BUNDLED}/captioner"
prompter.id = "{BUNDLED}/prompter"
"""


def make_midsize_model(directory: Path) -> Path:
    """Make the model in `directory` if it is not there. Return the TOML file with its profile, "midsize"."""
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
    for name in ("text_encoder", "tokenizer", "scheduler"):
        shutil.copytree(BUNDLED / "diffusion" / name, directory / "diffusion" / name, dirs_exist_ok=True)
    profiles.write_text(PROFILE)
    return profiles
