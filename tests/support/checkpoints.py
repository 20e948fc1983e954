"""A diffusion model on the disk in the layout of the Hub: configurations like real ones, small random weights.

The classes of diffusers and transformers write the files, so they are what these classes read.
"""

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

WIDTH = 32
SIZE = 64
"""The side in pixels of the pictures: 16 latent cells of 4 pixels."""

UNET: dict[str, Any] = {
    "sample_size": 16,
    "block_out_channels": (16, 32),
    "layers_per_block": 1,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "norm_num_groups": 8,
    "attention_head_dim": 4,
    "cross_attention_dim": WIDTH,
}
VAE: dict[str, Any] = {
    "sample_size": SIZE,
    "block_out_channels": (8, 8, 8),
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
    "latent_channels": 4,
    "norm_num_groups": 4,
}
TEXT_ENCODER: dict[str, Any] = {
    "vocab_size": 632,
    "hidden_size": WIDTH,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
}
SCHEDULER: dict[str, Any] = {
    "_class_name": "PNDMScheduler",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
}


def write_checkpoint(
    directory: Path,
    *,
    unet: dict[str, Any] | None = None,
    vae: dict[str, Any] | None = None,
    text_encoder: dict[str, Any] | None = None,
    scheduler: dict[str, Any] | None = None,
    index: dict[str, Any] | None = None,
) -> Path:
    """Write a model that works. Each argument replaces entries of a configuration; `scheduler` replaces all of its."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        UNet2DConditionModel(**{**UNET, **(unet or {})}).save_pretrained(directory / "unet")
        AutoencoderKL(**{**VAE, **(vae or {})}).save_pretrained(directory / "vae")
        encoder = CLIPTextModel(CLIPTextConfig(**{**TEXT_ENCODER, **(text_encoder or {})}))
        encoder.save_pretrained(directory / "text_encoder")
    parts = {
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "safety_checker": [None, None],
    }
    write_json(directory / "model_index.json", {"_class_name": "StableDiffusionPipeline", **parts, **(index or {})})
    write_json(directory / "scheduler/scheduler_config.json", scheduler or SCHEDULER)
    return directory


def write_json(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def change_json(path: Path, **entries: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


def ddim_config(**entries: Any) -> dict[str, Any]:
    """Return the configuration of a DDIM scheduler as diffusers writes it."""
    return {**json.loads(DDIMScheduler(beta_schedule="scaled_linear", steps_offset=1).to_json_string()), **entries}
