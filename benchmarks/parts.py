"""How good each of the bundled models is by itself, on scenes and concepts that it may be asked about."""

from collections.abc import Sequence

import numpy as np
import torch
from rich.table import Table

from benchmarks.figures import share
from diffedit.contract.stages import Artifact
from diffedit.pictures import Picture
from diffedit_worker.diffusion.diffedit import ignore_steps
from diffedit_worker.models.loading import Models
from diffedit_worker.stages.caption import caption
from diffedit_worker.stages.prompts import prompts
from training.captions import CONTENTS, bowl_phrase, phrase, phrases
from training.scenes import KINDS, draw, scenes
from training.vae import psnr


def parts(models: Models, seed: int, count: int = 300, num_prompts: int = 16) -> Table:
    """The VAE's round trip, the captioner's words and the prompter's sentences, on `count` scenes of a seed."""
    held = list(scenes(seed, count))
    pictures = [draw(scene) for scene in held]
    pixels = np.stack([np.asarray(picture) for picture in pictures])
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1

    said = [
        caption(models=models, on_step=ignore_steps, image=Picture(picture, None, "png"))[Artifact.CAPTION]
        for picture in pictures
    ]
    named = [all(_says(text, thing) for thing in phrases(scene)) for text, scene in zip(said, held, strict=True)]

    concepts = [phrase(kind).split(" ", 1)[1] for kind in KINDS] + [bowl_phrase(content)[2:] for content in CONTENTS]
    written = {concept: _sentences(models, concept, num_prompts) for concept in concepts}
    held_words = [_says(text, concept) for concept, texts in written.items() for text in texts]
    # The shares of different sentences within one concept's answer.
    distinct = [len(set(texts)) / len(texts) for texts in written.values()]

    table = Table("", "", title="the models by themselves")
    table.add_row(f"VAE round trip, {count} scenes", f"{psnr(models.vae, images):.2f} dB")
    table.add_row(f"caption names everything, {count} scenes", f"{share(named)} %")
    table.add_row(f"sentence holds its concept, {len(concepts)} x {num_prompts}", f"{share(held_words)} %")
    table.add_row("different sentences for a concept", f"{100 * np.mean(distinct):.0f} %")
    return table


def _sentences(models: Models, concept: str, count: int) -> Sequence[str]:
    made = prompts(
        models=models,
        on_step=ignore_steps,
        caption="",
        target_prompt=None,
        source_concept=concept,
        target_concept=concept,
        num_prompts=count,
        seed=0,
    )
    texts: Sequence[str] = made[Artifact.PROMPTS].target
    return texts


def _says(text: str, words: str) -> bool:
    """Whether `words` are in the text, as whole words."""
    return f" {words} " in f" {text} "
