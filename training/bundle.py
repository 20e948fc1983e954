"""The bundle: a directory with half-precision weights and sample pictures, which a profile can name."""

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMInverseScheduler, StableDiffusionDiffEditPipeline
from PIL import Image

from training.captions import bowl_phrase, caption
from training.denoiser import new_scheduler
from training.scenes import Bowl, Scene, Swap, Thing, changed_region, draw, with_kind


def _sample(table: str, target: str, *things: Thing, index: int = 0, bowl: Bowl | None = None) -> Swap:
    before = Scene(table, 0, things, bowl)
    return Swap(before, with_kind(before, index, target), index)


SAMPLES = (
    _sample("pink", "grapes", Thing("dog", 23, 27, 38, 4)),
    _sample("green", "pineapple", Thing("cat", 22, 32, 30, -16)),
    _sample("blue", "apple", Thing("dog", 16, 40, 24, -12), Thing("ball", 46, 38, 30, 4)),
    _sample("blue", "dog", Thing("strawberry", 37, 34, 30, -4)),
    _sample("purple", "strawberry", Thing("orange", 18, 37, 24, -8), Thing("flower", 48, 38, 24, 0), index=1),
    _sample("purple", "pear", Thing("lemon", 18, 40, 30, 0), Thing("watermelon", 48, 34, 30, 0)),
    _sample("green", "cherries", Thing("pear", 39, 37, 34, 8)),
    _sample("pink", "cat", Thing("orange", 16, 37, 28, 0), Thing("flower", 47, 42, 28, 8), index=1),
    _sample(
        "wooden",
        "pear",
        *(Thing("apple", 19, 28, 24, 4), Thing("orange", 45, 28, 24, -8), Thing("banana", 32, 30, 24, 0)),
        bowl=Bowl(32, 35, 52),
    ),
)
"""The bundled pictures, each with an edit."""


def save_bundle(directory: Path, *, vae: Any, denoiser: Any, captioner: Any, prompter: Any) -> None:
    """Save all models in float16 in the format that the worker loads. They can be loaded as float32 as well.

    Args:
        denoiser: UNet, text encoder and tokenizer.
        captioner: model and processor.
        prompter: model and tokenizer.
    """
    unet, text_encoder, tokenizer = denoiser
    scheduler = new_scheduler()
    pipeline = StableDiffusionDiffEditPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        inverse_scheduler=DDIMInverseScheduler.from_config(scheduler.config),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.to(torch.float16).save_pretrained(directory / "diffusion")
    for name, (model, processor) in {"captioner": captioner, "prompter": prompter}.items():
        model.half().save_pretrained(directory / name)
        processor.save_pretrained(directory / name)


def save_samples(directory: Path) -> None:
    """Save each sample with its true result and its true changed region, and the edits in `scenes.json`."""
    directory.mkdir(parents=True, exist_ok=True)
    entries = []
    for number, swap in enumerate(SAMPLES):
        names = {"picture": f"{number:02}.png", "truth": f"{number:02}-truth.png", "region": f"{number:02}-region.png"}
        draw(swap.before).save(directory / names["picture"])
        draw(swap.after).save(directory / names["truth"])
        Image.fromarray(changed_region(swap)).save(directory / names["region"])
        entries.append(names | edit_texts(swap))
    (directory / "scenes.json").write_text(json.dumps(entries, indent=1) + "\n")


def edit_texts(swap: Swap) -> dict[str, str]:
    """Return the prompts and the concepts that ask for this swap, as arguments of an edit."""
    name = (lambda kind: bowl_phrase(kind).removeprefix("a ")) if swap.before.bowl else (lambda kind: kind)
    return {
        "source_prompt": caption(swap.before),
        "target_prompt": caption(swap.after),
        "source_concept": name(swap.source),
        "target_concept": name(swap.target),
    }
