"""How well a picture comes back from its inversion, by solver and number of steps; without mask and guidance.

python -m benchmarks.solvers
"""

import math
import warnings
from typing import Any

import torch
from diffusers import DPMSolverMultistepInverseScheduler, DPMSolverMultistepScheduler
from diffusers.image_processor import VaeImageProcessor
from rich.console import Console
from rich.table import Table

from diffedit.contract.request import Prompts
from diffedit.contract.stages import Artifact
from diffedit.pictures import read_picture
from diffedit_worker.diffusion import diffedit
from diffedit_worker.models.loading import Models
from diffedit_worker.models.profiles import SAMPLES, load_profiles
from diffedit_worker.stages.embed import embed

CAPTION = "a photograph of a pear on a green table"
STEPS = (10, 15, 20, 25, 50)


def pairs(models: Models) -> dict[str, tuple[Any, Any]]:
    """The ways up and down of each solver."""
    config = {**models.scheduler("ddim").config, "timestep_spacing": "leading"}
    ours = {name: (models.inverse_scheduler(name), models.scheduler(name)) for name in ("ddim", "dpmsolver++")}
    theirs = (
        DPMSolverMultistepInverseScheduler.from_config(config),
        DPMSolverMultistepScheduler.from_config(config),
    )
    return {**ours, "diffusers' dpmsolver++": theirs}


@torch.no_grad()
def round_trip(models: Models, up: Any, down: Any, steps: int, z0s: list[torch.Tensor], caption: torch.Tensor) -> float:
    """Of the pictures decoded after the round trip against those decoded before it, in dB."""
    errors = []
    for z0 in z0s:
        walk: dict[str, Any] = {"num_inference_steps": steps, "guidance_scale": 1.0}
        there = diffedit.invert(models.unet, up, z0, caption, **walk)
        everywhere = torch.ones(1, *z0.shape[-2:], dtype=torch.bool)
        back = diffedit.edit(models.unet, down, there, everywhere, caption, **walk)
        error = (diffedit.decode(models.vae, back) - diffedit.decode(models.vae, z0)) / 2
        errors.append(float(error.square().mean()))
    return -10 * math.log10(sum(errors) / len(errors))


def main() -> None:
    warnings.simplefilter("ignore")
    models = Models(load_profiles()["tiny"], device="cpu")
    pictures = [read_picture(path.read_bytes()) for path in sorted(SAMPLES.glob("0[0-8].png"))]
    z0s = [diffedit.encode(models.vae, VaeImageProcessor().preprocess(picture.image)) for picture in pictures]
    prompts = Prompts(source=(CAPTION,), target=(CAPTION,))
    embedded = embed(
        models=models, on_step=diffedit.ignore_steps, prompts=prompts, caption=CAPTION, negative_prompt=None
    )
    caption = embedded[Artifact.CAPTION_EMBEDDING]["caption"]
    table = Table("steps", *pairs(models), title=f"dB, {len(z0s)} samples, strength 0.8")
    for steps in STEPS:
        made = [round_trip(models, up, down, steps, z0s, caption) for up, down in pairs(models).values()]
        table.add_row(str(steps), *(f"{value:.1f}" for value in made))
    Console().print(table)


if __name__ == "__main__":
    main()
