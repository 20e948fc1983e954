"""How well a picture is restored from its inversion, by solver, number of steps and reuse of features; without mask and
guidance.

python -m benchmarks.quality.solver_roundtrip
"""

import argparse
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
REUSES = ((1, 1), (2, 1), (2, 2), (2, 3), (3, 3))
"""In how many steps the features are kept, in the inversion and in the edit."""


def solver_pairs(models: Models) -> dict[str, tuple[Any, Any]]:
    """Return the inverse scheduler and the scheduler of each solver."""
    config = {**models.scheduler("ddim").config, "timestep_spacing": "leading"}
    ours = {name: (models.inverse_scheduler(name), models.scheduler(name)) for name in ("ddim", "dpmsolver++")}
    diffusers = (
        DPMSolverMultistepInverseScheduler.from_config(config),
        DPMSolverMultistepScheduler.from_config(config),
    )
    return {**ours, "diffusers' dpmsolver++": diffusers}


@torch.no_grad()
def round_trip_psnr(
    models: Models,
    inverse: Any,
    scheduler: Any,
    steps: int,
    z0s: list[torch.Tensor],
    caption: torch.Tensor,
    reuse: tuple[int, int] = (1, 1),
) -> float:
    """Return the PSNR in dB of the pictures decoded after the round trip against those decoded before it."""
    errors = []
    for z0 in z0s:
        options: dict[str, Any] = {"num_inference_steps": steps, "guidance_scale": 1.0}
        trajectory = diffedit.invert(models.denoiser, inverse, z0, caption, **options, feature_reuse=reuse[0])
        everywhere = torch.ones(1, *z0.shape[-2:], dtype=torch.bool)
        options["feature_reuse"] = reuse[1]
        restored = diffedit.edit(models.denoiser, scheduler, trajectory, everywhere, caption, **options)
        after, before = (diffedit.decode(models.vae, latents).clamp(-1, 1) for latents in (restored, z0))
        error = (after - before) / 2
        errors.append(float(error.square().mean()))
    return -10 * math.log10(sum(errors) / len(errors))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], prog="python -m benchmarks.quality.solver_roundtrip"
    )
    parser.add_argument("--steps", type=int, nargs="+", default=STEPS, help="numbers of steps, one row each")
    step_counts = parser.parse_args().steps
    warnings.simplefilter("ignore")
    models = Models(load_profiles()["tiny"], device="cpu")
    pictures = [read_picture(path.read_bytes()) for path in sorted(SAMPLES.glob("0[0-8].png"))]
    z0s = [diffedit.encode(models.vae, VaeImageProcessor().preprocess(picture.image)) for picture in pictures]
    prompts = Prompts(source=(CAPTION,), target=(CAPTION,))
    embeddings = embed(
        models=models, on_step=diffedit.ignore_steps, prompts=prompts, caption=CAPTION, negative_prompt=None
    )
    caption = embeddings[Artifact.CAPTION_EMBEDDING]["caption"]
    pairs = solver_pairs(models)
    table = Table("steps", *pairs, title=f"PSNR in dB, {len(z0s)} samples, strength 0.8")
    for steps in step_counts:
        values = [round_trip_psnr(models, *pair, steps, z0s, caption) for pair in pairs.values()]
        table.add_row(str(steps), *(f"{value:.1f}" for value in values))
    Console().print(table)
    for solver in ("ddim", "dpmsolver++"):
        columns = (f"{inversion}, {edit}" for inversion, edit in REUSES)
        table = Table("steps", *columns, title=f"{solver}, features kept for steps of inversion, edit")
        for steps in step_counts:
            values = [round_trip_psnr(models, *pairs[solver], steps, z0s, caption, reuse) for reuse in REUSES]
            table.add_row(str(steps), *(f"{value:.1f}" for value in values))
        Console().print(table)


if __name__ == "__main__":
    main()
