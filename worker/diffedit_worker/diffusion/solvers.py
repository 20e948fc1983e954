"""DPM-Solver++(2M), in both directions over the noise levels of a DDIM schedule.

Lu et al. 2022 (arXiv 2211.01095), algorithm 2. A step uses the model's estimate x0 of the picture at this level and the
estimate of the step before. With the half-logarithmic signal-to-noise ratio lambda = log(alpha / sigma), from level s
to level t:

    h = lambda_t - lambda_s,  r = h_before / h,  D = x0_s + (x0_s - x0_before) / (2 r)
    x_t = (sigma_t / sigma_s) x_s - alpha_t (exp(-h) - 1) D

With D = x0_s, as in the first step, this is DDIM. The formula does not need h > 0, so the same formula inverts a
picture, over the same levels in the opposite order. Entry i of the trajectory then has exactly the level at which step
i of the edit starts. (In diffusers, the inverse of this solver has other levels than the solver.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler


class DPMSolverPlusPlus:
    """A scheduler with the methods of diffusers that `diffedit` uses: from noise to the picture, or back if `inverse`.

    The model is called at the level of x. (DDIM's inverse calls it at the level of the next x; with this solver, that
    reconstructs a picture less well.)
    """

    def __init__(self, ddim: DDIMScheduler, *, inverse: bool = False) -> None:
        self._ddim = ddim
        self._inverse = inverse

    def set_timesteps(self, num_inference_steps: int) -> None:
        self._ddim.set_timesteps(num_inference_steps)
        self.timesteps: Tensor = self._ddim.timesteps
        end = self._ddim.final_alpha_cumprod.reshape(1)
        # Noisiest first, the picture's level last. In float64, because the levels near the picture are almost equal.
        levels = torch.cat([self._ddim.alphas_cumprod[self.timesteps], end]).double()
        if self._inverse:
            levels = levels.flip(0)
            # The picture's own level has no timestep. The nearest one is the last timestep towards the picture.
            up = self.timesteps.flip(0)
            self.timesteps = torch.cat([up[:1], up[:-1]])
        self._alpha, self._sigma = levels.sqrt(), (1 - levels).sqrt()
        self._lambda = (self._alpha / self._sigma).log()
        self._at: int | None = 0 if self._inverse else None
        self._before: Tensor | None = None

    def step(self, output: Tensor, t: int, x: Tensor, *, return_dict: bool = False) -> tuple[Tensor]:
        """Return x (B, 4, h, w) at the next level, from the model's output at x and timestep t.

        Towards the picture, the first step may start at any timestep.
        """
        if self._at is None:
            self._at = self.timesteps.tolist().index(t)
        s, h = self._at, self._lambda.diff()
        alpha_s, sigma_s = float(self._alpha[s]), float(self._sigma[s])
        if self._ddim.config["prediction_type"] == "v_prediction":
            x0 = alpha_s * x - sigma_s * output
        else:
            x0 = (x - sigma_s * output) / alpha_s
        D = x0
        # If the last timestep of the schedule has the picture's own level, the first inverse step has length 0.
        if self._before is not None and h[s - 1] != 0:
            r = float(h[s - 1] / h[s])
            D = x0 + (x0 - self._before) / (2 * r)
        self._at, self._before = s + 1, x0
        keep, add = self._sigma[s + 1] / self._sigma[s], -self._alpha[s + 1] * torch.expm1(-h[s])
        return (float(keep) * x + float(add) * D,)

    def add_noise(self, z0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Return z0 with noise of the level of timestep t."""
        xt: Tensor = self._ddim.add_noise(z0, noise, t)
        return xt
