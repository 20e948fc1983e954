"""What the benchmarks compare, in this process: the worker's stages without queue and store; diffusers' pipeline."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from diffusers import StableDiffusionDiffEditPipeline
from PIL import Image

from diffedit.contract.request import EditParams, EditRequest
from diffedit.contract.stages import Artifact, plan
from diffedit_worker.models.loading import Models
from diffedit_worker.models.profiles import Profile
from diffedit_worker.pipeline import PIPELINE, param


def request(profile: Profile, params: Mapping[str, Any], **asked: str | None) -> EditRequest:
    """What a client would send, for a picture that is at hand and not in a store."""
    nowhere = f"inputs/{'0' * 2}/{'0' * 64}.png"
    return EditRequest(image=nowhere, params=EditParams.resolve(profile.name, profile.params, params), **asked)


def ours(
    models: Models, asked: EditRequest, have: Mapping[Artifact, Any], goal: Artifact = Artifact.RESULT
) -> dict[Artifact, Any]:
    """What the stages between `have` (the picture, perhaps a mask) and `goal` make, called as the runner calls them."""
    values = dict(have)
    if asked.given_caption:
        values.setdefault(Artifact.CAPTION, asked.given_caption)
    if asked.given_prompts:
        values.setdefault(Artifact.PROMPTS, asked.given_prompts)
    for stage in plan(values.keys(), goal):
        row = PIPELINE[stage]
        needs = {artifact.value: values[artifact] for artifact in stage.needs}
        params = {name: param(asked, name) for name in row.params}
        values |= row.run(models=models, on_step=lambda done, total: None, **needs, **params)
    return values


class Reference:
    """The three calls of the DiffEdit guide on diffusers' pipeline, at its defaults, over the same weights."""

    def __init__(self, models: Models) -> None:
        tokenizer, text_encoder = models.text_encoder
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._pipeline = StableDiffusionDiffEditPipeline(
                vae=models.vae,
                text_encoder=text_encoder,
                tokenizer=tokenizer,
                unet=models.unet,
                scheduler=models.scheduler("ddim"),
                inverse_scheduler=models.inverse_scheduler("ddim"),
                safety_checker=None,
                feature_extractor=None,
                requires_safety_checker=False,
            )
        self._pipeline.set_progress_bar_config(disable=True)

    def __call__(
        self, picture: Image.Image, source: str, target: str, seed: int = 0, steps: int = 50
    ) -> tuple[Image.Image, Any]:
        """The edited picture, and the mask in latent cells: 0 and 1, (1, h, w)."""
        common = {"num_inference_steps": steps, "generator": torch.Generator().manual_seed(seed)}
        mask = self.mask(picture, source, target, **common)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            latents = self._pipeline.invert(prompt=source, image=picture, **common).latents
            images = self._pipeline(
                prompt=target, mask_image=mask, image_latents=latents, negative_prompt=source, **common
            ).images
        return images[0], mask

    def mask(self, picture: Image.Image, source: str, target: str, **common: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self._pipeline.generate_mask(image=picture, source_prompt=source, target_prompt=target, **common)


def samples_forwarded(unet: torch.nn.Module, run: Callable[[], object]) -> tuple[int, int]:
    """How many samples went through the UNet, and how many in its largest batch."""
    batches: list[int] = []
    hook = unet.register_forward_pre_hook(lambda module, args, kwargs: batches.append(len(args[0])), with_kwargs=True)
    try:
        run()
    finally:
        hook.remove()
    return sum(batches), max(batches)
