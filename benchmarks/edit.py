"""Mask + invert + edit in process: ours against diffusers' pipeline, on the bundled model, at the defaults of both.

    make bench          (or: python benchmarks/edit.py --runs 5)

Ratios of one run on one machine; seconds are shown to make the ratios believable and mean nothing elsewhere. Both
sides get the same picture, prompts, steps and strength. UNet sample-forwards are counted by a hook on the UNet.
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionDiffEditPipeline
from PIL import Image
from rich.console import Console
from rich.table import Table

from api_client.contract import Prompts, Slot
from api_client.pictures import read_picture
from worker.models import Models
from worker.profiles import load_profiles
from worker.stages.edit import edit
from worker.stages.embed import embed
from worker.stages.invert import invert
from worker.stages.mask import mask

PICTURE = Path(__file__).parents[1] / "worker/tiny/samples/06.png"
SOURCE, TARGET = "a photograph of a pear on a green table", "a photograph of some cherries on a green table"


def reference(pipeline: Any, picture: Image.Image) -> None:
    """The three calls of the DiffEdit guide, at their defaults."""
    generator = torch.Generator().manual_seed(0)
    found = pipeline.generate_mask(image=picture, source_prompt=SOURCE, target_prompt=TARGET, generator=generator)
    latents = pipeline.invert(prompt=SOURCE, image=picture, generator=generator).latents
    pipeline(prompt=TARGET, mask_image=found, image_latents=latents, negative_prompt=SOURCE, generator=generator)


def ours(models: Models, data: bytes) -> None:
    """The stages as the runner calls them, at the contract's defaults."""
    walk: dict[str, Any] = {"scheduler": "ddim", "num_inference_steps": 50}
    common: dict[str, Any] = {"models": models, "on_step": lambda done, total: None}
    image = read_picture(data)
    prompts = Prompts(source=(SOURCE,), target=(TARGET,))
    texts = embed(**common, prompts=prompts, caption=SOURCE, negative_prompt=None)
    found = mask(
        **common,
        **walk,
        image=image,
        embeddings=texts[Slot.EMBEDDINGS],
        seed=0,
        num_maps_per_mask=10,
        mask_encode_strength=0.5,
        mask_thresholding_ratio=3.0,
    )
    path = invert(
        **common,
        **walk,
        image=image,
        caption_embedding=texts[Slot.CAPTION_EMBEDDING],
        strength=0.8,
        inversion_guidance_scale=1.0,
    )
    edit(
        **common,
        **walk,
        image=image,
        mask=found[Slot.MASK],
        trajectory=path[Slot.TRAJECTORY],
        embeddings=texts[Slot.EMBEDDINGS],
        strength=0.8,
        guidance_scale=7.5,
    )


def samples_forwarded(unet: torch.nn.Module, run: Callable[[], None]) -> tuple[int, int]:
    """How many samples went through the UNet, and how many in its largest batch."""
    batches: list[int] = []
    hook = unet.register_forward_pre_hook(lambda module, args, kwargs: batches.append(len(args[0])), with_kwargs=True)
    try:
        run()
    finally:
        hook.remove()
    return sum(batches), max(batches)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    warnings.simplefilter("ignore")

    models = Models(load_profiles()["tiny"], device="cpu")
    tokenizer, text_encoder = models.text_encoder
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
    data = PICTURE.read_bytes()
    sides: dict[str, Callable[[], None]] = {
        "diffusers": lambda: reference(pipeline, Image.open(PICTURE).convert("RGB")),
        "ours": lambda: ours(models, data),
    }

    # Counting comes first and warms both up.
    counts = {name: samples_forwarded(models.unet, run) for name, run in sides.items()}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(runs):
        for name, run in sides.items():
            started = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - started)

    table = Table("", "UNet samples", "largest batch", "seconds (median)", "ratio", "ratio, each run")
    for name, times in seconds.items():
        ratios = [time / base for time, base in zip(times, seconds["diffusers"], strict=True)]
        table.add_row(
            name,
            str(counts[name][0]),
            str(counts[name][1]),
            f"{statistics.median(times):.2f}",
            f"{statistics.median(ratios):.2f}",
            " ".join(f"{ratio:.2f}" for ratio in ratios),
        )
    Console().print(table)


if __name__ == "__main__":
    main()
