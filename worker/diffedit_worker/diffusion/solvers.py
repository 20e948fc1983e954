"""DPM-Solver++(2M), upwards and downwards over the noise levels of a DDIM schedule.

Lu et al. 2022 (arXiv 2211.01095), algorithm 2: a step uses the picture x0 that the model sees now and the one that it
saw a step before. In half-logarithmic signal-to-noise lambda = log(alpha / sigma), from level s to level t:

    h = lambda_t - lambda_s,  r = h_before / h,  D = x0_s + (x0_s - x0_before) / (2 r)
    x_t = (sigma_t / sigma_s) x_s - alpha_t (exp(-h) - 1) D

With D = x0_s, as in the first step, this is DDIM. Nothing in it asks for h > 0, so that the way up, which inverts a
picture, is the same formula over the same levels in the other order: entry i of the trajectory is where the way down
stands before its step i, exactly. (diffusers' inverse of this solver has other levels than its solver.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler


class DPMSolverPlusPlus:
    """Has of a diffusers scheduler what `diffedit` uses. Walks down from noise; with `inverse`, up from the picture.

    The model is asked at the level at which x stands. (DDIM's inverse asks at the level that it goes to; with this
    solver that reconstructs a picture worse.)
    """

    def __init__(self, ddim: DDIMScheduler, *, inverse: bool = False) -> None:
        self._ddim = ddim
        self._inverse = inverse

    def set_timesteps(self, num_inference_steps: int) -> None:
        self._ddim.set_timesteps(num_inference_steps)
        self.timesteps: Tensor = self._ddim.timesteps
        end = self._ddim.final_alpha_cumprod.reshape(1)
        # Noisiest first, the level of the picture last; float64, since levels near the picture hardly differ.
        levels = torch.cat([self._ddim.alphas_cumprod[self.timesteps], end]).double()
        if self._inverse:
            levels = levels.flip(0)
            # The picture's own level has no timestep; the nearest is the last of the way down.
            up = self.timesteps.flip(0)
            self.timesteps = torch.cat([up[:1], up[:-1]])
        self._alpha, self._sigma = levels.sqrt(), (1 - levels).sqrt()
        self._lambda = (self._alpha / self._sigma).log()
        self._at: int | None = 0 if self._inverse else None
        self._before: Tensor | None = None

    def step(self, output: Tensor, t: int, x: Tensor, *, return_dict: bool = False) -> tuple[Tensor]:
        """x (B, 4, h, w) at the next level, from the model's output at x. The way down may begin at any timestep."""
        if self._at is None:
            self._at = self.timesteps.tolist().index(t)
        s, h = self._at, self._lambda.diff()
        alpha_s, sigma_s = float(self._alpha[s]), float(self._sigma[s])
        if self._ddim.config["prediction_type"] == "v_prediction":
            x0 = alpha_s * x - sigma_s * output
        else:
            x0 = (x - sigma_s * output) / alpha_s
        D = x0
        # Where a schedule's last timestep is the picture's own level, the way up begins with a step of no length.
        if self._before is not None and h[s - 1] != 0:
            r = float(h[s - 1] / h[s])
            D = x0 + (x0 - self._before) / (2 * r)
        self._at, self._before = s + 1, x0
        keep, add = self._sigma[s + 1] / self._sigma[s], -self._alpha[s + 1] * torch.expm1(-h[s])
        return (float(keep) * x + float(add) * D,)

    def add_noise(self, z0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """z0 in noise of the level of timestep t."""
        xt: Tensor = self._ddim.add_noise(z0, noise, t)
        return xt
