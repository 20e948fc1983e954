"""The diffusion model as the algorithm sees it: a function of noised latents, timesteps and text.

A UNet spends most of its time at its lower resolutions, and what it computes there changes slowly from one step to the
next. DeepCache (Ma et al. 2023, arXiv 2312.00858) keeps these *features*, the input of the last up block, and runs only
the highest resolution in the steps between. Such a pass is called shallow here.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

if TYPE_CHECKING:
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel


class Denoiser(Protocol):
    """The diffusion model: eps_theta(x_t, t, cond), or the velocity if the model predicts that.

    Several threads may call it at the same time.
    """

    def __call__(self, x: Tensor, t: Tensor, cond: Tensor, features: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the prediction, shaped like x, and the features, (n, C, h', w').

        Args:
            x: noised latents (n, 4, h, w).
            t: one timestep per sample (n,), int64, on the device of x.
            cond: text embeddings (n, tokens, D).
            features: those of an earlier pass over the same n samples, for a shallow pass, which returns them as they
                are. Without them the pass is a full one and returns new ones.
        """
        ...


class UNetDenoiser:
    """A `Denoiser` over a UNet of diffusers. A full pass is a call of the UNet, equal bit for bit."""

    def __init__(self, unet: UNet2DConditionModel) -> None:
        self._unet = unet
        self._thread = threading.local()
        unet.up_blocks[-1].register_forward_pre_hook(self._keep_features, with_kwargs=True)

    @torch.no_grad()
    def __call__(self, x: Tensor, t: Tensor, cond: Tensor, features: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if features is not None:
            return self._shallow_pass(x, t, cond, features), features
        # The hook runs in the thread that calls the UNet, so what it keeps belongs to this call.
        self._thread.in_full_pass = True
        try:
            eps: Tensor = self._unet(x, t, encoder_hidden_states=cond, return_dict=False)[0]
            return eps, self._thread.features
        finally:
            self._thread.__dict__.clear()

    def _keep_features(self, block: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        # Others may call the same UNet, and their features would stay in memory.
        if getattr(self._thread, "in_full_pass", False):
            self._thread.features = kwargs["hidden_states"]

    def _shallow_pass(self, x: Tensor, t: Tensor, cond: Tensor, features: Tensor) -> Tensor:
        """Run what is left of `UNet2DConditionModel.forward` when the input of the last up block is known.

        These are the time embedding, the first convolution, the first down block, whose outputs the last up block
        takes, that up block, and the output layers.
        """
        unet = self._unet
        if unet.config["center_input_sample"]:
            x = 2 * x - 1
        temb = unet.time_embedding(unet.get_time_embed(sample=x, timestep=t))
        if unet.time_embed_act is not None:
            temb = unet.time_embed_act(temb)
        down, up = unet.down_blocks[0], unet.up_blocks[-1]
        x = unet.conv_in(x)
        _, outputs = down(hidden_states=x, temb=temb, **_text_of(down, cond))
        # One for each layer of the up block. The output of the downsampler, if there is one, is for the other blocks.
        skips = (x, *outputs)[: len(up.resnets)]
        x = up(hidden_states=features, temb=temb, res_hidden_states_tuple=skips, **_text_of(up, cond))
        if unet.conv_norm_out is not None:
            x = unet.conv_act(unet.conv_norm_out(x))
        eps: Tensor = unet.conv_out(x)
        return eps


def _text_of(block: Any, cond: Tensor) -> dict[str, Tensor]:
    """Return the argument by which a block with cross-attention takes the text."""
    return {"encoder_hidden_states": cond} if getattr(block, "has_cross_attention", False) else {}
