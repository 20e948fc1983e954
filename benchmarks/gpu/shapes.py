"""The shapes of Stable Diffusion 1.5, 2.1 and XL, as configurations of diffusers, and a model of such a shape.

The weights are random, so that nothing is downloaded. An edit with them makes no sense, but costs what an edit with
trained weights costs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor

from diffedit_worker.diffusion.denoiser import UNetDenoiser
from diffedit_worker.models.devices import resolve_memory_format
from diffedit_worker.models.schedulers import new_inverse_scheduler, new_scheduler

TOKENS = 77
"""The length of a text embedding of CLIP."""

_VAE: Mapping[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
}
_SCHEDULER = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}


@dataclass(frozen=True)
class Shape:
    """A diffusion model without its weights.

    Attributes:
        size: the side of its pictures, in pixels.
        unet: the configuration of the UNet, where it differs from diffusers' defaults.
        vae: that of the VAE.
        prediction_type: "epsilon" or "v_prediction".
    """

    name: str
    size: int
    unet: Mapping[str, Any]
    vae: Mapping[str, Any] = field(default_factory=lambda: _VAE)
    prediction_type: str = "epsilon"

    def tiny(self) -> Self:
        """Return this shape with a tenth of the widths and fewer layers, and pictures of 8 x 8 latent cells."""
        widths = tuple(width // 10 for width in self.unet.get("block_out_channels", (320, 640, 1280, 1280)))
        heads = {"attention_head_dim": 2, "transformer_layers_per_block": 1}
        unet = {**self.unet, **heads, "block_out_channels": widths, "cross_attention_dim": 16, "sample_size": 8}
        unet["layers_per_block"] = 1
        vae = {**self.vae, "block_out_channels": (32,) * 4, "layers_per_block": 1}
        return replace(self, size=64, unet=unet, vae=vae)

    def build_unet(self, device: torch.device, dtype: torch.dtype) -> Any:
        """Return the UNet with random weights, in the memory layout that a worker uses on this device."""
        with torch.device(device):
            unet = UNet2DConditionModel(**self.unet)
        unet = unet.to(dtype=dtype, memory_format=resolve_memory_format(device))
        return unet.eval().requires_grad_(False)

    def build_vae(self, device: torch.device, dtype: torch.dtype) -> Any:
        """Return the VAE with random weights, with the settings that a worker gives it."""
        with torch.device(device):
            vae = AutoencoderKL(**self.vae, sample_size=self.size)
        vae.enable_slicing()
        return vae.to(dtype=dtype, memory_format=resolve_memory_format(device)).eval().requires_grad_(False)

    @property
    def cell(self) -> int:
        """The side of a latent cell, in pixels."""
        return int(2 ** (len(self.vae["block_out_channels"]) - 1))


SHAPES = {
    shape.name: shape
    for shape in (
        Shape("SD 1.5", 512, {"sample_size": 64, "cross_attention_dim": 768}),
        Shape(
            "SD 2.1",
            768,
            {
                "sample_size": 96,
                "cross_attention_dim": 1024,
                "attention_head_dim": (5, 10, 20, 20),
                "use_linear_projection": True,
            },
            prediction_type="v_prediction",
        ),
        # Without its condition on the pooled text and the picture's size, two small layers of the time embedding.
        Shape(
            "SDXL",
            1024,
            {
                "sample_size": 128,
                "block_out_channels": (320, 640, 1280),
                "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
                "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
                "transformer_layers_per_block": (1, 2, 10),
                "attention_head_dim": (5, 10, 20),
                "cross_attention_dim": 2048,
                "use_linear_projection": True,
            },
        ),
    )
}
"""By name."""


@dataclass(frozen=True)
class ShapedModel:
    """A model of a shape with random weights, and random inputs for it. Each part is built on first use.

    Attributes:
        dtype: the number type of the UNet.
        vae_dtype: that of the VAE: float32, as in a worker.
    """

    shape: Shape
    device: torch.device
    dtype: torch.dtype
    vae_dtype: torch.dtype = torch.float32

    @cached_property
    def unet(self) -> Any:
        torch.manual_seed(0)
        return self.shape.build_unet(self.device, self.dtype)

    @cached_property
    def denoiser(self) -> UNetDenoiser:
        return UNetDenoiser(self.unet)

    @cached_property
    def vae(self) -> Any:
        torch.manual_seed(1)
        return self.shape.build_vae(self.device, self.vae_dtype)

    @property
    def label(self) -> str:
        """The shape and the number type of the UNet, for people."""
        return f"{self.shape.name}, {str(self.dtype).removeprefix('torch.')}"

    @property
    def text_encoder(self) -> tuple[None, None]:
        """No tokenizer and no model: texts are random embeddings."""
        return None, None

    def scheduler(self, name: str) -> Any:
        """Return a new scheduler that goes from noise to the picture. `name` is "ddim" or "dpmsolver++"."""
        return new_scheduler(_SCHEDULER | {"prediction_type": self.shape.prediction_type}, name)

    def inverse_scheduler(self, name: str) -> Any:
        """Return a new scheduler that goes from the picture to noise."""
        return new_inverse_scheduler(_SCHEDULER | {"prediction_type": self.shape.prediction_type}, name)

    def with_dtypes(self, dtype: torch.dtype, vae_dtype: torch.dtype = torch.float32) -> Self:
        """Return a model of the same weights in other number types. The parts that keep theirs are shared."""
        other = replace(self, dtype=dtype, vae_dtype=vae_dtype)
        if dtype is self.dtype:
            vars(other)["unet"] = self.unet
        if vae_dtype is self.vae_dtype:
            vars(other)["vae"] = self.vae
        return other

    def picture(self) -> Tensor:
        """Return a picture of noise, (1, 3, size, size) in [0, 1], in float32."""
        return self._random(1, 3, self.shape.size, self.shape.size, seed=2).sigmoid()

    def text(self, seed: int) -> Tensor:
        """Return what stands for the embedding of a text, (1, TOKENS, D)."""
        return self._random(1, TOKENS, self.unet.config.cross_attention_dim, seed=seed).to(self.dtype)

    def inputs(self, samples: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return (x, t, cond) of one pass: latents (n, 4, h, w), another timestep for each sample, and texts."""
        side = self.shape.size // self.shape.cell
        x = self._random(samples, 4, side, side, seed=3).to(self.dtype)
        t = torch.arange(1, 1 + samples, device=self.device) * 900 // samples
        return x, t, self.text(4).expand(samples, -1, -1).contiguous()

    def _random(self, *shape: int, seed: int) -> Tensor:
        """Return unit Gaussian numbers in float32. They are drawn on the CPU, so that each device gets the same."""
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(self.device)
