"""Edits in this process: by our stages without queue and store, and by diffusers' pipeline, the baseline."""

import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple, Protocol

import torch
from diffusers import StableDiffusionDiffEditPipeline
from PIL import Image

from diffedit.contract.object_keys import input_key
from diffedit.contract.presets import DEFAULT
from diffedit.contract.request import EditParams, EditRequest
from diffedit.contract.stages import Artifact, plan
from diffedit_worker.models.loading import Models
from diffedit_worker.models.profiles import Profile
from diffedit_worker.pipeline import PIPELINE, param


def edit_request(profile: Profile, params: Mapping[str, Any], **texts: str | None) -> EditRequest:
    """Return the request that a client would send, without its picture. `params` may name a `preset`."""
    given = {**params}
    defaults = profile.params_of(given.pop("preset", DEFAULT))
    resolved = EditParams.resolve(profile.name, defaults, given)
    return EditRequest(image=input_key(b"", "png"), params=resolved, **texts)


def run_stages(
    models: Models, request: EditRequest, have: Mapping[Artifact, Any], goal: Artifact = Artifact.RESULT
) -> dict[Artifact, Any]:
    """Run the stages from `have` (the picture and perhaps a mask) to `goal`; return all artifacts.

    The stage functions are called with the same arguments as in a worker.
    """
    values = dict(have)
    if request.given_caption:
        values.setdefault(Artifact.CAPTION, request.given_caption)
    if request.given_prompts:
        values.setdefault(Artifact.PROMPTS, request.given_prompts)
    for stage in plan(values.keys(), goal):
        definition = PIPELINE[stage]
        needs = {artifact.value: values[artifact] for artifact in stage.needs}
        params = {name: param(request, name) for name in definition.params}
        values |= definition.run(models=models, on_step=lambda *_: None, **needs, **params)
    return values


class PipelineParts(Protocol):
    """What diffusers' pipeline is made of: `Models`, or another model with parts of these names."""

    @property
    def vae(self) -> Any: ...

    @property
    def unet(self) -> Any: ...

    @property
    def text_encoder(self) -> tuple[Any, Any]: ...

    def scheduler(self, name: str) -> Any: ...

    def inverse_scheduler(self, name: str) -> Any: ...


def diffusers_pipeline(models: PipelineParts) -> StableDiffusionDiffEditPipeline:
    """Return diffusers' deprecated pipeline on the same weights as ours."""
    tokenizer, text_encoder = models.text_encoder
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipeline = StableDiffusionDiffEditPipeline(
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
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


class DiffusersBaseline:
    """The three calls of diffusers' DiffEdit guide, with the pipeline's defaults, on the same weights as ours."""

    def __init__(self, models: Models) -> None:
        self._pipeline = diffusers_pipeline(models)

    def edit(
        self, picture: Image.Image, source: str, target: str, seed: int = 0, steps: int = 50
    ) -> tuple[Image.Image, Any]:
        """Return the edited picture, and the mask of zeros and ones, (1, h, w) in latent cells.

        The picture must have the size of the model.
        """
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
        """Return the mask of zeros and ones, (1, h, w) in latent cells."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self._pipeline.generate_mask(image=picture, source_prompt=source, target_prompt=target, **common)


class UNetSamples(NamedTuple):
    """How many samples went through the UNet, how many through its first level alone, and the largest batch."""

    full: int
    shallow: int
    largest_batch: int

    def __str__(self) -> str:
        shallow = f" + {self.shallow} shallow" if self.shallow else ""
        return f"{self.full}{shallow}, largest batch {self.largest_batch}"


def count_unet_samples(unet: Any, function: Callable[[], object]) -> UNetSamples:
    """Call `function`, and count the samples that go through the UNet."""
    full: list[int] = []
    batches: list[int] = []
    # Both kinds of passes run the first convolution.
    hooks = [
        module.register_forward_pre_hook(partial(_note_batch, noted), with_kwargs=True)
        for module, noted in ((unet, full), (unet.conv_in, batches))
    ]
    try:
        function()
    finally:
        for hook in hooks:
            hook.remove()
    return UNetSamples(sum(full), sum(batches) - sum(full), max(batches))


def _note_batch(noted: list[int], module: Any, args: Any, kwargs: Any) -> None:
    noted.append(len(args[0]))
