"""diffusers' deprecated DiffEdit pipeline as the oracle, on small models with random weights.

`tests.support.deviations` undoes our deviations (sampled encodings, one for each noise; the mean over the batch; the
blend one level behind). Everything else must agree. `python -m tests.unit.test_parity` prints the differences as a
table.

The oracle's mask is always guided: without guidance it unpacks (embeddings, None) in the wrong order and fails. With
guidance the wrong order makes its difference (1 - g)(eps_Q - eps_R), and the scaling of the map removes the factor.
"""

import warnings
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import NamedTuple

import pytest
import torch
from diffusers import StableDiffusionDiffEditPipeline
from diffusers.utils import logging

from diffedit_worker.diffusion.diffedit import decode, difference_map, edit, encode, invert
from tests.support.deviations import noise_with_encodings, one_level_behind, sampled_encoding, threshold_by_batch_mean
from tests.support.models import compute_mask, embeddings, pictures, small_models

STEPS, STRENGTH, MASK_STRENGTH, MAPS = 5, 0.6, 0.5, 2
TOLERANCE = 1e-4

models_of = cache(small_models)


class Case(NamedTuple):
    seed: int
    guidance: float
    count: int
    prediction_type: str

    def __str__(self):
        many = "1 picture" if self.count == 1 else f"{self.count} pictures"
        return f"{self.prediction_type}, guidance {self.guidance}, {many}, seed {self.seed}"


def cases(seeds: int) -> list[Case]:
    return [Case(*case) for case in product(range(seeds), (1.0, 7.5), (1, 2), ("epsilon", "v_prediction"))]


@dataclass(frozen=True)
class Result:
    mask: torch.Tensor
    trajectory: torch.Tensor
    latents: torch.Tensor
    image: torch.Tensor


class Differences(NamedTuple):
    mask_cells: int
    trajectory: float
    latents: float
    image: float


def differences(case: Case, behind: bool = True) -> tuple[Differences, Result]:
    """How far our result is from the oracle's, and our result. Our trajectory has one more entry at its end: z0."""
    models = models_of(case.prediction_type, case.seed)
    images = pictures(case.count, case.seed)
    source, target, negative = (embeddings(case.count, 10 * case.seed + k) for k in range(3))
    a = upstream(models, images, source, target, negative, case)
    b = ours(models, images, source, target, negative, case, behind)

    def largest(x, y):
        assert x.shape == y.shape
        return (x - y).abs().max().item()

    found = Differences(
        mask_cells=int((a.mask != b.mask).sum()),
        trajectory=largest(a.trajectory, b.trajectory[:, :-1]),
        latents=largest(a.latents, b.latents),
        image=largest(a.image, b.image),
    )
    return found, b


def upstream(models, images, source, target, negative, case) -> Result:
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipe = StableDiffusionDiffEditPipeline(
            vae=models.vae,
            text_encoder=None,
            tokenizer=None,
            unet=models.unet,
            scheduler=models.scheduler,
            inverse_scheduler=models.inverse_scheduler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    logging.set_verbosity(verbosity)
    pipe.set_progress_bar_config(disable=True)
    mask = pipe.generate_mask(
        images,
        source_prompt_embeds=source,
        source_negative_prompt_embeds=negative,
        target_prompt_embeds=target,
        target_negative_prompt_embeds=negative,
        num_maps_per_mask=MAPS,
        mask_encode_strength=MASK_STRENGTH,
        num_inference_steps=STEPS,
        generator=torch.Generator().manual_seed(case.seed),
    )
    mask = torch.from_numpy(mask)
    shared = {
        "num_inference_steps": STEPS,
        "inpaint_strength": STRENGTH,
        "guidance_scale": case.guidance,
        "negative_prompt_embeds": negative if case.guidance > 1 else None,
    }
    generator = torch.Generator().manual_seed(case.seed)
    trajectory = pipe.invert(prompt_embeds=source, image=images, generator=generator, **shared).latents
    edited = {"prompt_embeds": target, "mask_image": mask.float(), "image_latents": trajectory, **shared}
    latents = pipe(output_type="latent", **edited).images
    image = pipe.image_processor.postprocess(decoded_upstream(pipe, latents), output_type="pt")
    return Result(mask.bool(), trajectory, latents, image)


@torch.no_grad()
def decoded_upstream(pipe, latents):
    """The decoding at the end of the pipeline's call. To call it again for a picture would double the time."""
    return pipe.vae.decode(latents / pipe.vae.config.scaling_factor, return_dict=False)[0]


def ours(models, images, source, target, negative, case, behind) -> Result:
    images = 2 * images - 1
    generator = torch.Generator().manual_seed(case.seed)
    copies = sampled_encoding(models.vae, images.repeat_interleave(MAPS, dim=0), generator)
    copies = copies.unflatten(0, (case.count, MAPS))
    noise = torch.randn(copies.flatten(0, 1).shape, generator=generator).view_as(copies)
    z0 = encode(models.vae, images)
    noise = noise_with_encodings(models.scheduler, z0, copies, noise, mask_timestep(models.scheduler))
    inputs = (models.denoiser, models.scheduler, z0, source, target, noise)
    steps = {"num_inference_steps": STEPS, "mask_encode_strength": MASK_STRENGTH}
    mask = threshold_by_batch_mean(difference_map(*inputs, **steps))
    if case.count == 1:
        assert torch.equal(mask, compute_mask(*inputs, **steps))
    shared = {"num_inference_steps": STEPS, "strength": STRENGTH, "guidance_scale": case.guidance}
    z0 = sampled_encoding(models.vae, images, torch.Generator().manual_seed(case.seed))
    trajectory = invert(models.denoiser, models.inverse_scheduler, z0, source, uncond=negative, **shared)
    followed = one_level_behind(trajectory) if behind else trajectory
    latents = edit(models.denoiser, models.scheduler, followed, mask, target, negative=negative, **shared)
    return Result(mask, trajectory, latents, decode(models.vae, latents).clamp(-1, 1) / 2 + 0.5)


def mask_timestep(scheduler) -> int:
    """The timestep of the noise level at which both sides compute the mask."""
    own = deepcopy(scheduler)
    own.set_timesteps(STEPS)
    return int(own.timesteps[-int(STEPS * MASK_STRENGTH)])


@pytest.mark.parametrize("case", cases(seeds=2), ids=str)
def test_agrees_with_diffusers(case):
    found, result = differences(case)
    assert all(len(mask.unique()) == 2 for mask in result.mask), "a mask of one value compares nothing"
    assert found.mask_cells == 0
    assert max(found.trajectory, found.latents, found.image) <= TOLERANCE


def test_without_the_shift_the_blend_differs_from_diffusers():
    found, _ = differences(Case(0, 1.0, 1, "epsilon"), behind=False)
    assert found.mask_cells == 0
    assert found.trajectory <= TOLERANCE
    assert found.latents > 100 * TOLERANCE


def table(seeds: int = 3) -> str:
    rows = [
        "| case | mask cells differing | trajectory max diff | latents max diff | image max diff |",
        "|---|---|---|---|---|",
    ]
    for case in cases(seeds):
        cells, *floats = differences(case)[0]
        rows.append(f"| {case} | {cells} | " + " | ".join(f"{value:.1e}" for value in floats) + " |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(table())
