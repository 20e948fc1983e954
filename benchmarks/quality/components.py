"""How good each of the bundled models is alone: VAE, captioner and prompter."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from rich.table import Table

from benchmarks.harness.estimates import share_with_interval
from diffedit.contract.stages import Artifact
from diffedit.pictures import Picture
from diffedit_worker.diffusion.diffedit import ignore_steps
from diffedit_worker.models.loading import Models
from diffedit_worker.stages.caption import caption
from diffedit_worker.stages.prompts import prompts
from training.captions import CONTENTS, bowl_phrase, phrase, phrases
from training.scenes import KINDS, draw, scenes
from training.vae import round_trip_psnr


def component_quality(models: Models, seed: int, count: int = 300, num_prompts: int = 16) -> Table:
    """Return a table with the PSNR of the VAE, and how often captions and sentences are correct.

    Args:
        seed: the seed of `count` scenes. Not one that the models were trained with.
        num_prompts: the number of sentences that the prompter writes for each concept.
    """
    held_out = list(scenes(seed, count))
    pictures = [draw(scene) for scene in held_out]
    images = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures]))
    images = images.permute(0, 3, 1, 2).float() / 127.5 - 1

    captions = [caption_of(models, picture) for picture in pictures]
    complete = [
        all(_contains(text, words) for words in phrases(scene)) for text, scene in zip(captions, held_out, strict=True)
    ]

    concepts = [phrase(kind).split(" ", 1)[1] for kind in KINDS] + [bowl_phrase(content)[2:] for content in CONTENTS]
    sentences = {concept: _sentences(models, concept, num_prompts) for concept in concepts}
    correct = [_contains(text, concept) for concept, texts in sentences.items() for text in texts]
    distinct = [len(set(texts)) / len(texts) for texts in sentences.values()]

    table = Table("", "", title="the models alone")
    table.add_row(f"PSNR of the VAE round trip, {count} scenes", f"{round_trip_psnr(models.vae, images):.2f} dB")
    table.add_row(f"captions that name every object, {count} scenes", f"{share_with_interval(complete)} %")
    table.add_row(
        f"sentences that contain their concept, {len(concepts)} x {num_prompts}", f"{share_with_interval(correct)} %"
    )
    table.add_row("different sentences among those of one concept", f"{100 * np.mean(distinct):.0f} %")
    return table


def caption_of(models: Models, picture: Image.Image) -> str:
    """Return what the captioner writes."""
    artifacts = caption(models=models, on_step=ignore_steps, image=Picture(picture, None, "png"))
    text: str = artifacts[Artifact.CAPTION]
    return text


def _sentences(models: Models, concept: str, count: int) -> Sequence[str]:
    artifacts = prompts(
        models=models,
        on_step=ignore_steps,
        caption="",
        target_prompt=None,
        source_concept=concept,
        target_concept=concept,
        concept_prompts="sentences",
        num_prompts=count,
        seed=0,
    )
    texts: Sequence[str] = artifacts[Artifact.PROMPTS].target
    return texts


def _contains(text: str, words: str) -> bool:
    """Return whether `text` contains `words` as whole words."""
    return f" {words} " in f" {text} "
