"""DiffEdit (Couairon et al. 2022, arXiv 2210.11427) as plain functions on tensors.

The three steps of the paper's section 3.2, on latents instead of pixels:

    step 1   difference_map   find where the model predicts different noise for two descriptions of the picture
    step 2   invert           go from the picture to noise with DDIM and keep every latent on the way
    step 3   edit             go back from the noise with the target text; outside of the mask, use the kept latents

`thresholding.threshold` makes the mask of step 1 from the difference map. `encode` and `decode` (the VAE) and
`draw_noise` complete the steps. Shapes: B pictures, n noises for each picture, latents (4, h, w), text embeddings (B or
1, tokens, D). N = `count_steps(...)` is the number of steps taken.

Two means make a step cheaper, both off by default: guidance in the noisiest steps only (`guidance_interval`), and the
UNet's lower resolutions only in some steps (`feature_reuse`).

The functions keep no state. The two schedulers share one sequence of noise levels, for epsilon or v-prediction: either
diffusers' DDIM pair of one configuration, or `solvers.DPMSolverPlusPlus`. `on_step(done, total)` is called after each
step; an exception that it raises (a cancelled job) ends the function.

Each function sets its own grad mode, because grad mode belongs to a thread and a worker may call from any thread. It is
`no_grad` and not `inference_mode`: tensors made in inference mode refuse later writes in place.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from diffedit_worker.diffusion.denoiser import Denoiser

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler
    from diffusers.schedulers.scheduling_ddim_inverse import DDIMInverseScheduler

    Scheduler = TypeVar("Scheduler", DDIMScheduler, DDIMInverseScheduler)

OnStep = Callable[[int, int], None]
OnLatents = Callable[[Tensor], None]


def ignore_steps(done: int, total: int) -> None:
    """Do nothing. The default `on_step`."""


def ignore_latents(latents: Tensor) -> None:
    """Do nothing. The default `on_latents`."""


def count_steps(num_inference_steps: int, strength: float) -> int:
    """Return how many of the schedule's steps are taken at a strength in [0, 1] (the paper's encoding ratio r).

    The product is cut and not rounded, as in diffusers: 50 steps at 0.58 give 28, because 50 * 0.58 is 28.99... in
    floating point.
    """
    return min(int(num_inference_steps * strength), num_inference_steps)


@torch.no_grad()
def encode(vae: AutoencoderKL, image: Tensor) -> Tensor:
    """Return the latents z0 (B, 4, h, w), of about unit variance, of pictures (B, 3, H, W) in [-1, 1].

    Deviation from diffusers: the mode of the posterior instead of a sample. So a picture has one z0, and its trajectory
    does not depend on the seed.
    """
    posterior = vae.encode(image, return_dict=False)[0]
    z0: Tensor = vae.config["scaling_factor"] * posterior.mode()
    return z0


@torch.no_grad()
def decode(vae: AutoencoderKL, latents: Tensor) -> Tensor:
    """Return the pictures (B, 3, H, W) of latents (B, 4, h, w): in [-1, 1], and in places a little outside of it."""
    image: Tensor = vae.decode(latents / vae.config["scaling_factor"], return_dict=False)[0]
    return image


def draw_noise(
    shape: Sequence[int], seed: int, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> Tensor:
    """Return unit Gaussian noise for `difference_map`, shape (B, n, 4, h, w).

    It is drawn in float32 on the CPU and then moved to the device. Each kind of device has its own random stream, and
    a seed must give the same mask on all of them.
    """
    generator = torch.Generator("cpu").manual_seed(seed)
    return torch.randn(tuple(shape), generator=generator).to(device=device, dtype=dtype)


@torch.no_grad()
def predict_noise(
    denoiser: Denoiser,
    x: Tensor,
    t: int,
    cond: Tensor,
    uncond: Tensor | None = None,
    guidance_scale: float = 1.0,
    features: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return eps_theta(x_t, t, cond), shaped like x (B, 4, h, w), or the velocity if the model predicts that.

    A scale g above 1 adds classifier-free guidance (Ho & Salimans, arXiv 2207.12598), eps_u + g (eps_c - eps_u), in one
    forward pass of 2 B samples. Otherwise `uncond` is ignored and the pass has B samples.

    Also returns the features of the pass. With the `features` that an earlier call for the same x returned, the pass is
    a shallow one (`denoiser`). Those of a call with guidance, B without the text and then B with it, also serve a call
    without guidance, which takes the latter.

    Raises:
        ValueError: guidance without `uncond`.
    """
    cond = cond.expand(len(x), -1, -1)
    timesteps = torch.full((len(x),), t, device=x.device)
    if guidance_scale <= 1:
        eps, features = denoiser(x, timesteps, cond, None if features is None else features[-len(x) :])
    elif uncond is None:
        raise ValueError(f"guidance_scale {guidance_scale} needs unconditional embeddings: pass them, or use 1")
    else:
        both = torch.cat([uncond.expand(len(x), -1, -1), cond])
        predicted, features = denoiser(torch.cat([x, x]), timesteps.repeat(2), both, features)
        eps_u, eps_c = predicted.chunk(2)
        eps = eps_u + guidance_scale * (eps_c - eps_u)
    return eps, features


@torch.no_grad()
def difference_map(
    denoiser: Denoiser,
    scheduler: DDIMScheduler,
    z0: Tensor,
    source: Tensor,
    target: Tensor,
    noise: Tensor,
    *,
    num_inference_steps: int = 50,
    mask_encode_strength: float = 0.5,
    max_batch: int = 8,
    on_step: OnStep = ignore_steps,
) -> Tensor:
    """Step 1: return D (B, h, w): |eps_Q - eps_R|, the mean over n noises and the channels.

    R is `source` and Q is `target`. z0 (B, 4, h, w) is noised to the level of `mask_encode_strength`, once with each
    noise (B, n, 4, h, w). `on_step` counts forward passes of at most `max_batch` (at least 2) samples.

    Deviations from diffusers:
    - No guidance. With one negative text for both sides, the guided difference is a multiple of eps_Q - eps_R, and a
      factor does not change the mask. This halves the samples. It also makes no difference whether the model predicts
      eps or a velocity.
    - One VAE encoding for each picture instead of n. The noises differ anyway, and z0 must not depend on the seed.
    - Passes of bounded size instead of one batch of 4 B n. A pass holds source and target of the same noised latents.

    Raises:
        ValueError: `mask_encode_strength` is less than one step.
    """
    steps = count_steps(num_inference_steps, mask_encode_strength)
    if steps == 0:
        raise ValueError(f"mask_encode_strength {mask_encode_strength} is less than one step of {num_inference_steps}")
    scheduler = _prepared(scheduler, num_inference_steps)
    t = scheduler.timesteps[-steps]
    B, n = noise.shape[:2]
    xt = scheduler.add_noise(z0[:, None], noise, t).flatten(0, 1)
    R, Q = (text.expand(B, -1, -1).repeat_interleave(n, dim=0) for text in (source, target))
    size = max(1, max_batch // 2)
    chunks = [slice(start, start + size) for start in range(0, B * n, size)]
    differences = []
    for i, chunk in enumerate(chunks):
        eps, _ = predict_noise(denoiser, xt[chunk].repeat(2, 1, 1, 1), int(t), torch.cat([R[chunk], Q[chunk]]))
        eps_R, eps_Q = eps.float().chunk(2)
        differences.append((eps_Q - eps_R).abs())
        on_step(i + 1, len(chunks))
    return torch.cat(differences).reshape(noise.shape).mean(dim=(1, 2))


@torch.no_grad()
def invert(
    denoiser: Denoiser,
    inverse_scheduler: DDIMInverseScheduler,
    z0: Tensor,
    caption: Tensor,
    *,
    num_inference_steps: int = 50,
    strength: float = 0.8,
    uncond: Tensor | None = None,
    guidance_scale: float = 1.0,
    feature_reuse: int = 1,
    on_step: OnStep = ignore_steps,
) -> Tensor:
    """Step 2: return the trajectory (B, N + 1, 4, h, w) of the DDIM inversion of z0 (B, 4, h, w).

    The noisiest latents are first and z0 is last. Entry i has the noise level at which step i of `edit` starts. Of
    `feature_reuse` steps, the first one is a full pass and the others are shallow ones with its features.

    Deviations from diffusers:
    - Guidance 1 instead of 7.5. With guidance above 1 the inversion drifts, and DDIM does not retrace it. (The paper
      inverts without text.)
    - The trajectory includes z0, so that `edit` ends on it.
    """
    scheduler = _prepared(inverse_scheduler, num_inference_steps)
    steps = count_steps(num_inference_steps, strength)
    x, trajectory, features = z0, [z0], None
    for i, t in enumerate(scheduler.timesteps[:steps].tolist()):
        if i % feature_reuse == 0:
            features = None
        eps, features = predict_noise(denoiser, x, t, caption, uncond, guidance_scale, features)
        x = scheduler.step(eps, t, x, return_dict=False)[0]
        trajectory.append(x)
        on_step(i + 1, steps)
    return torch.stack(trajectory[::-1], dim=1)


@torch.no_grad()
def edit(
    denoiser: Denoiser,
    scheduler: DDIMScheduler,
    trajectory: Tensor,
    mask: Tensor,
    target: Tensor,
    *,
    negative: Tensor | None = None,
    num_inference_steps: int = 50,
    strength: float = 0.8,
    guidance_scale: float = 7.5,
    guidance_interval: float = 1.0,
    feature_reuse: int = 1,
    on_step: OnStep = ignore_steps,
    on_latents: OnLatents = ignore_latents,
) -> Tensor:
    """Step 3: return the latents (B, 4, h, w) of the edited pictures, by DDIM from trajectory[:, 0] with `target`.

    trajectory (B, N + 1, 4, h, w) as `invert` returns it; mask (B or 1, h, w), bool, true where the picture may change.
    After each step y_t <- M y_t + (1 - M) x_t, so an empty mask returns z0.

    Only the first `guidance_interval`, a share in [0, 1], of the steps has guidance (Kynkäänniemi et al. 2024, arXiv
    2404.07724): near the picture it changes little, and a step without it is one sample instead of two.
    `feature_reuse` is as in `invert`. Before each `on_step`, `on_latents` gets the latents that the step has made.

    Deviation from diffusers: x_t is the entry of the noise level that the step has reached. diffusers uses the level at
    which the step started, which is one level too noisy, also after the last step.

    Raises:
        ValueError: the trajectory was made with another number of steps or another strength.
    """
    steps = count_steps(num_inference_steps, strength)
    if trajectory.shape[1] != steps + 1:
        raise ValueError(
            f"the trajectory has {trajectory.shape[1]} entries, but {num_inference_steps} steps at strength {strength} "
            f"need {steps + 1}: invert and edit with the same steps and strength"
        )
    scheduler = _prepared(scheduler, num_inference_steps)
    M, y, features = mask[:, None], trajectory[:, 0], None
    guided = count_steps(steps, guidance_interval)
    for i, t in enumerate(scheduler.timesteps[num_inference_steps - steps :].tolist()):
        if i % feature_reuse == 0:
            features = None
        scale = guidance_scale if i < guided else 1.0
        eps, features = predict_noise(denoiser, y, t, target, negative, scale, features)
        y = scheduler.step(eps, t, y, return_dict=False)[0]
        y = torch.where(M, y, trajectory[:, i + 1])
        on_latents(y)
        on_step(i + 1, steps)
    return y


def _prepared(scheduler: Scheduler, num_inference_steps: int) -> Scheduler:
    """Return a copy of the scheduler that is set to this number of steps.

    Setting the steps changes a scheduler, and other threads may use the one that was passed in. The timesteps stay on
    the CPU, where the scheduler keeps its coefficients. With a timestep on a GPU, every look-up would wait for the GPU.
    """
    own = copy.deepcopy(scheduler)
    own.set_timesteps(num_inference_steps)
    return own
