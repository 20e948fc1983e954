"""DiffEdit (Couairon et al. 2022, arXiv 2210.11427) as plain functions on tensors.

The three steps of the paper's section 3.2, on latents instead of pixels:

    step 1   compute_mask   where do two descriptions of the picture make the model see different noise?
    step 2   invert         walk the picture up to noise with DDIM, keeping every latent on the way
    step 3   edit           walk back down under the target; outside the mask, follow the kept latents

around them `encode` and `decode` (the VAE) and `draw_noise`. Shapes: B pictures, n noises a picture, latents
(4, h, w), text embeddings (B or 1, tokens, D); N = `steps_walked(...)` is the number of steps taken.

Everything is passed in and nothing is kept. The schedulers are a pair over one sequence of noise levels, for epsilon or
v-prediction: diffusers' DDIM pair of one configuration, or `solvers.DPMSolverPlusPlus`. The one window outward is
`on_step(done, total)`, called after each step; what it raises (a cancelled job) ends the walk.

Grad mode belongs to a thread and a worker may call from any, so each function sets its own. It is not `inference_mode`:
tensors made there refuse later writes in place, and hooks that move weights during a forward would put such tensors
into the model.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler
    from diffusers.schedulers.scheduling_ddim_inverse import DDIMInverseScheduler

    Scheduler = TypeVar("Scheduler", DDIMScheduler, DDIMInverseScheduler)

OnStep = Callable[[int, int], None]


def ignore_steps(done: int, total: int) -> None:
    """The default `on_step`: nobody is watching."""


def steps_walked(num_inference_steps: int, strength: float) -> int:
    """How many of the schedule's steps a strength in [0, 1] walks (the paper's encoding ratio r).

    The product is cut, not rounded, as in diffusers: 50 steps at 0.58 are 28, because in floats 50 * 0.58 is 28.99...
    """
    return min(int(num_inference_steps * strength), num_inference_steps)


@torch.no_grad()
def encode(vae: AutoencoderKL, image: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Pictures (B, 3, H, W) in [-1, 1] to latents z0 (B, 4, h, w) of about unit variance.

    Deviation: takes the mode of the posterior where diffusers samples it, so that a picture has one z0 and its
    trajectory does not depend on the seed. With a generator it samples too.
    """
    posterior = vae.encode(image, return_dict=False)[0]
    z0: Tensor = vae.config["scaling_factor"] * (posterior.mode() if generator is None else posterior.sample(generator))
    return z0


@torch.no_grad()
def decode(vae: AutoencoderKL, latents: Tensor) -> Tensor:
    """Latents (B, 4, h, w) to pictures (B, 3, H, W), clamped to [-1, 1]."""
    image: Tensor = vae.decode(latents / vae.config["scaling_factor"], return_dict=False)[0]
    return image.clamp(-1, 1)


def draw_noise(
    shape: Sequence[int], seed: int, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> Tensor:
    """Unit Gaussian noise for `compute_mask`, shape (B, n, 4, h, w).

    Drawn in float32 by a CPU generator and moved afterwards: each kind of device has its own random stream, and one
    seed shall mean one mask everywhere.
    """
    generator = torch.Generator("cpu").manual_seed(seed)
    return torch.randn(tuple(shape), generator=generator).to(device=device, dtype=dtype)


@torch.no_grad()
def predict_noise(
    unet: UNet2DConditionModel,
    x: Tensor,
    t: int,
    cond: Tensor,
    uncond: Tensor | None = None,
    guidance_scale: float = 1.0,
) -> Tensor:
    """eps_theta(x_t, t, cond), shaped like x (B, 4, h, w); the velocity if that is what the model predicts.

    A scale g above 1 adds classifier-free guidance (Ho & Salimans, arXiv 2207.12598), eps_u + g (eps_c - eps_u), in one
    forward of 2 B samples; otherwise `uncond` is not looked at and the forward has B samples. Raises ValueError for
    guidance without `uncond`.
    """
    cond = cond.expand(len(x), -1, -1)
    eps: Tensor
    if guidance_scale <= 1:
        eps = unet(x, t, encoder_hidden_states=cond, return_dict=False)[0]
    elif uncond is None:
        raise ValueError(f"guidance_scale {guidance_scale} needs unconditional embeddings: pass them, or use 1")
    else:
        both = torch.cat([uncond.expand(len(x), -1, -1), cond])
        eps_u, eps_c = unet(torch.cat([x, x]), t, encoder_hidden_states=both, return_dict=False)[0].chunk(2)
        eps = eps_u + guidance_scale * (eps_c - eps_u)
    return eps


@torch.no_grad()
def compute_mask(
    unet: UNet2DConditionModel,
    scheduler: DDIMScheduler,
    z0: Tensor,
    source: Tensor,
    target: Tensor,
    noise: Tensor,
    *,
    num_inference_steps: int = 50,
    mask_encode_strength: float = 0.5,
    mask_thresholding_ratio: float | Literal["otsu"] = 3.0,
    mask_cleanup: bool = False,
    max_batch: int = 8,
    per_picture: bool = True,
    on_step: OnStep = ignore_steps,
) -> Tensor:
    """Step 1: the mask M (B, h, w), bool, true where the edit may change the picture.

    z0 (B, 4, h, w), or (B, n, 4, h, w) for one per noise; noise (B, n, 4, h, w). The paper averages the differences,
    removes extremes, scales to [0, 1] and cuts at 0.5; diffusers removes extremes by clamping at
    `mask_thresholding_ratio` times the mean. Clamp, scale and cut together say: more than half that ratio times the
    mean. Written so, two equal descriptions give an empty mask instead of 0 / 0. How far the mean lies below what
    differs depends on how large that is; "otsu" in place of the ratio cuts where the map itself parts (`otsu`).
    `mask_cleanup` smooths the map and makes whole regions of what passes the cut, as `whole_regions` says. `on_step`
    counts UNet passes, of at most `max_batch` samples each (at least 2). Raises ValueError when the strength is less
    than one step.

    Deviations from diffusers:
    - no guidance: with one negative for both sides the guided difference is a multiple of eps_Q - eps_R, and a factor
      does not move the cut. Half the samples. (Nor does it matter whether the model predicts eps or a velocity.)
    - one VAE encoding a picture, not n: the noises already differ, and z0 shall not depend on the seed.
    - passes of bounded size, a noised latent's source and target in the same one, instead of a batch of 4 B n.
    - each picture has its own mean, so that neighbours in a batch leave its mask alone; `per_picture=False` takes the
      mean over the batch as diffusers does.
    """
    steps = steps_walked(num_inference_steps, mask_encode_strength)
    if steps == 0:
        raise ValueError(f"mask_encode_strength {mask_encode_strength} is less than one step of {num_inference_steps}")
    scheduler = _prepared(scheduler, num_inference_steps)
    t = scheduler.timesteps[-steps]
    B, n = noise.shape[:2]
    xt = scheduler.add_noise(z0 if z0.dim() == 5 else z0[:, None], noise, t).flatten(0, 1)
    R, Q = (text.expand(B, -1, -1).repeat_interleave(n, dim=0) for text in (source, target))
    size = max(1, max_batch // 2)
    chunks = [slice(start, start + size) for start in range(0, B * n, size)]
    differences = []
    for i, chunk in enumerate(chunks):
        eps = predict_noise(unet, xt[chunk].repeat(2, 1, 1, 1), int(t), torch.cat([R[chunk], Q[chunk]]))
        eps_R, eps_Q = eps.float().chunk(2)
        differences.append((eps_Q - eps_R).abs())
        on_step(i + 1, len(chunks))
    D = torch.cat(differences).reshape(noise.shape).mean(dim=(1, 2))
    level = D.mean(dim=(1, 2), keepdim=True) if per_picture else D.mean()
    if mask_cleanup:
        D = smoothed(D)
    cut = otsu(D) if mask_thresholding_ratio == "otsu" else 0.5 * mask_thresholding_ratio * level
    if mask_cleanup:
        return torch.stack([whole_regions(d, c) for d, c in zip(D, cut.expand_as(D)[:, 0, 0], strict=True)])
    return D.gt(cut)


def otsu(D: Tensor) -> Tensor:
    """The cut (B, 1, 1) that parts each map (B, h, w) into the two groups of cells that differ most in their means,
    weighted by their sizes (Otsu 1979, doi 10.1109/TSMC.1979.4310076): halfway between the two cells at the gap."""
    v = D.flatten(1).double().sort(dim=1).values
    n = v.shape[1]
    below = torch.arange(1, n, device=D.device)
    sums = v.cumsum(dim=1)
    low, high = sums[:, :-1] / below, (sums[:, -1:] - sums[:, :-1]) / (n - below)
    gap = (below * (n - below) * (high - low).square()).argmax(dim=1, keepdim=True)
    cut: Tensor = (v.gather(1, gap) + v.gather(1, gap + 1)) / 2
    return cut[:, :, None].to(D.dtype)


def smoothed(D: Tensor) -> Tensor:
    """Each map (B, h, w) under a Gaussian of 0.7 cells: ten noises leave speckles of a cell."""
    smooth = ndimage.gaussian_filter(D.float().cpu().numpy(), sigma=(0, 0.7, 0.7), mode="nearest")
    return torch.from_numpy(smooth).to(D.device)


def whole_regions(D: Tensor, cut: Tensor | float) -> Tensor:
    """The regions (h, w), bool, of a difference map (h, w) that pass `cut` and hold a strong cell, without their holes.

    Not in the paper. A strong cell is one that the paper's scale clamps to 1, at twice the cut, or 80 % of the largest
    where none is that large: what merely passes the cut away from every strong cell is noise, or a thing that the edit
    is not about. (Double thresholding, as in Canny's edge detector.)
    """
    level = D.float().cpu().numpy()
    passing = level > float(cut)
    strong = passing & (level >= min(2 * float(cut), 0.8 * level.max()))
    kept = ndimage.binary_propagation(strong, structure=np.ones((3, 3)), mask=passing)
    return torch.from_numpy(ndimage.binary_fill_holes(kept)).to(D.device)


@torch.no_grad()
def invert(
    unet: UNet2DConditionModel,
    inverse_scheduler: DDIMInverseScheduler,
    z0: Tensor,
    caption: Tensor,
    *,
    num_inference_steps: int = 50,
    strength: float = 0.8,
    uncond: Tensor | None = None,
    guidance_scale: float = 1.0,
    on_step: OnStep = ignore_steps,
) -> Tensor:
    """Step 2: the trajectory (B, N + 1, 4, h, w) of DDIM inversion from z0 (B, 4, h, w), noisiest first, z0 last.

    Entry i is the picture at the noise level at which `edit` stands before its step i.

    Deviations from diffusers: guidance 1 instead of 7.5, since guidance above 1 makes the inversion drift from a path
    that DDIM retraces (the paper inverts without text at all); and z0 is part of the trajectory, for `edit` to end on.
    """
    scheduler = _prepared(inverse_scheduler, num_inference_steps)
    steps = steps_walked(num_inference_steps, strength)
    x, trajectory = z0, [z0]
    for i, t in enumerate(scheduler.timesteps[:steps].tolist()):
        eps = predict_noise(unet, x, t, caption, uncond, guidance_scale)
        x = scheduler.step(eps, t, x, return_dict=False)[0]
        trajectory.append(x)
        on_step(i + 1, steps)
    return torch.stack(trajectory[::-1], dim=1)


@torch.no_grad()
def edit(
    unet: UNet2DConditionModel,
    scheduler: DDIMScheduler,
    trajectory: Tensor,
    mask: Tensor,
    target: Tensor,
    *,
    negative: Tensor | None = None,
    num_inference_steps: int = 50,
    strength: float = 0.8,
    guidance_scale: float = 7.5,
    aligned: bool = True,
    on_step: OnStep = ignore_steps,
) -> Tensor:
    """Step 3: latents (B, 4, h, w) of the edited pictures, by DDIM from trajectory[:, 0] under `target`.

    trajectory (B, N + 1, 4, h, w) as `invert` gives it; mask (B or 1, h, w), bool, true where the picture may change.
    After each step y_t <- M y_t + (1 - M) x_t, so an empty mask returns z0. Raises ValueError when the trajectory was
    made with other steps or another strength.

    Deviation from diffusers: x_t is the entry of the noise level which the step has reached. diffusers takes the level
    it came from, one too noisy each time, and ends on it; `aligned=False` does the same.
    """
    steps = steps_walked(num_inference_steps, strength)
    if trajectory.shape[1] != steps + 1:
        raise ValueError(
            f"the trajectory has {trajectory.shape[1]} entries, but {num_inference_steps} steps at strength {strength} "
            f"need {steps + 1}: invert and edit with the same steps and strength"
        )
    scheduler = _prepared(scheduler, num_inference_steps)
    M, y = mask[:, None], trajectory[:, 0]
    for i, t in enumerate(scheduler.timesteps[num_inference_steps - steps :].tolist()):
        eps = predict_noise(unet, y, t, target, negative, guidance_scale)
        y = scheduler.step(eps, t, y, return_dict=False)[0]
        y = torch.where(M, y, trajectory[:, i + 1 if aligned else i])
        on_step(i + 1, steps)
    return y


def _prepared(scheduler: Scheduler, num_inference_steps: int) -> Scheduler:
    """A private copy set to that many steps.

    Setting the steps changes a scheduler, and the one passed in belongs to a set of models that outlives the job and
    may serve another thread. The timesteps stay on the CPU, where the scheduler keeps its coefficients: looking them up
    by a timestep on a GPU would wait for it at every step.
    """
    own = copy.deepcopy(scheduler)
    own.set_timesteps(num_inference_steps)
    return own
