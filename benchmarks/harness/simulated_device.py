"""A simulated GPU: a device that takes one pass at a time and sleeps for as long as a pass of so many samples takes.

A sleeping thread frees Python's lock as one does that waits for a GPU. So everything around the passes is real, and the
passes cost what they cost elsewhere.

The times are fitted to iterations per second that diffusers published in its documentation (huggingface/diffusers,
docs/source/en/optimization/torch2.0.md at 2c529b7): text-to-image with Stable Diffusion 1.5, 512 x 512 pixels,
float16, a nightly build of torch after 2.0, batches of 1, 4 and 16 pictures. An iteration is a pass of two samples a
picture. The rates contain the pipeline's own Python code, so a pass alone takes somewhat less.
"""

import threading
import time
from collections.abc import Mapping

import torch
from torch import Tensor

from benchmarks.harness.pass_times import MASK_BATCH, PassTimes
from diffedit.contract.stages import Stage
from diffedit_worker.diffusion import diffedit
from diffedit_worker.diffusion.denoiser import Denoiser
from diffedit_worker.models.schedulers import new_inverse_scheduler, new_scheduler

ITERATIONS_PER_SECOND: Mapping[str, Mapping[int, float]] = {
    "A100": {2: 23.13, 8: 13.12, 32: 3.6},
    "A100, compiled": {2: 49.74, 8: 17.27, 32: 4.68},
    "RTX 4090": {2: 41.89, 8: 12.84, 32: 3.2},
}
"""As published, by the samples of a pass."""

DEVICES = {
    name: PassTimes.fit({samples: 1 / rate for samples, rate in rates.items()})
    for name, rates in ITERATIONS_PER_SECOND.items()
}
"""By name."""


_SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
_LATENTS, _TEXT = (1, 4, 8, 8), (1, 8, 8)
"""Shapes of tensors. They are small, because a GPU needs next to no time for what is done with them between passes."""

DIFFUSION_STAGES = (Stage.MASK, Stage.INVERT, Stage.EDIT)


def use_one_thread() -> None:
    """Let torch compute in the calling thread. Others would wait for each other over tensors as small as these."""
    torch.set_num_threads(1)


def run_passes(stage: Stage, denoiser: Denoiser, on_step: diffedit.OnStep = diffedit.ignore_steps) -> None:
    """Run the algorithm of a diffusion stage with the guide's settings, on tensors without meaning."""
    z0, text = torch.zeros(_LATENTS), torch.zeros(_TEXT)
    scheduler = new_scheduler(_SCHEDULE, "ddim")
    if stage is Stage.MASK:
        noise = diffedit.draw_noise((1, 10, *_LATENTS[1:]), seed=0)
        diffedit.difference_map(denoiser, scheduler, z0, text, text, noise, max_batch=MASK_BATCH, on_step=on_step)
    elif stage is Stage.INVERT:
        diffedit.invert(denoiser, new_inverse_scheduler(_SCHEDULE, "ddim"), z0, text, on_step=on_step)
    else:
        trajectory = torch.zeros(1, 41, *_LATENTS[1:])
        mask = torch.ones(1, *_LATENTS[2:], dtype=torch.bool)
        diffedit.edit(denoiser, scheduler, trajectory, mask, text, negative=text, on_step=on_step)


class SimulatedDenoiser:
    """A `Denoiser` on a simulated device. It predicts no noise, and has no shallow passes.

    Attributes:
        samples: those of each pass so far.
    """

    def __init__(self, times: PassTimes) -> None:
        self.samples: list[int] = []
        self._times = times
        self._device = threading.Lock()

    def __call__(self, x: Tensor, t: Tensor, cond: Tensor, features: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return zeros, after the time of a pass of n samples."""
        if features is not None:
            raise ValueError("nobody published times of shallow passes; simulate settings without feature reuse")
        with self._device:
            time.sleep(self._times.seconds(len(x)))
            self.samples.append(len(x))
        return torch.zeros_like(x), x.new_empty(len(x), 0, 1, 1)
