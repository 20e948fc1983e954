"""The schedulers of a profile: of a DDIM configuration, in both directions, over the same noise levels."""

import inspect
from collections.abc import Mapping
from typing import Any

from diffusers import DDIMInverseScheduler, DDIMScheduler

from diffedit_worker.diffusion.solvers import DPMSolverPlusPlus

_DDIM = {"clip_sample": False, "thresholding": False, "timestep_spacing": "leading", "set_alpha_to_one": False}
"""Settings of both DDIM schedulers, so that inversion and edit use the same noise levels."""


def ddim_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of a scheduler's configuration that DDIM knows.

    Stable Diffusion 1.5 has the configuration of a PNDM scheduler, and diffusers warns of each entry unknown to DDIM.
    """
    known = {"_class_name", *inspect.signature(DDIMScheduler.__init__).parameters}
    return {key: value for key, value in config.items() if key in known}


def new_scheduler(config: Mapping[str, Any], name: str) -> Any:
    """Return a new scheduler that goes from noise to the picture. `name` is "ddim" or "dpmsolver++"."""
    ddim = DDIMScheduler.from_config(dict(config), **_DDIM)
    return ddim if name == "ddim" else DPMSolverPlusPlus(ddim)


def new_inverse_scheduler(config: Mapping[str, Any], name: str) -> Any:
    """Return a new scheduler that goes from the picture to noise, over the noise levels of `new_scheduler`."""
    if name == "ddim":
        return DDIMInverseScheduler.from_config(dict(config), **_DDIM)
    return DPMSolverPlusPlus(new_scheduler(config, "ddim"), inverse=True)
