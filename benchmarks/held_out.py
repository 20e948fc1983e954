"""Edits of held-out swaps, through the worker's own stage functions or by diffusers' pipeline, and what came out.

Every picture is drawn, so the true result and the true changed region are known. Models as small as the bundled one
gain nothing from threads: the cores work on different edits instead, each in a process.
"""

import multiprocessing
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.progress import track

from benchmarks.judge import seen
from benchmarks.sides import Reference, ours, request
from diffedit.contract.stages import Artifact
from diffedit.pictures import Picture
from diffedit_worker.diffusion.letterbox import Letterbox, downsample_mask, upsample_mask
from diffedit_worker.models.loading import Models
from diffedit_worker.models.profiles import load_profiles
from training.bundle import asked
from training.scenes import Layout, Swap, changed_region, draw, swaps

REFERENCE = "diffusers, its defaults"
OURS = "ours, our defaults"
TRUE_MASK = "ours, true mask"
CONCEPTS = "ours, concepts"
ALONE = "ours, target alone"
TRUTH = "control: the true result"
INPUT = "control: the input"
ROWS = (REFERENCE, OURS, TRUE_MASK, CONCEPTS, ALONE, TRUTH, INPUT)


@dataclass(frozen=True)
class Edit:
    """One edit of one swap. Errors are mean squared ones outside the true region, in 8-bit levels."""

    layout: Layout
    source: str
    target: str
    seen: str | None
    iou: float
    recall: float
    raw_error: float
    composed_error: float
    seconds: float
    picture: Image.Image
    mask: Image.Image

    @property
    def succeeded(self) -> bool:
        return self.seen == self.target


class Bench:
    """The models, in one process of several."""

    def __init__(self, profile: str, profiles_file: Path | None) -> None:
        torch.set_num_threads(1)
        self.models = Models(load_profiles(profiles_file)[profile], device="cpu")
        self.reference = Reference(self.models)

    def edit(self, row: str, swap: Swap, params: dict[str, Any]) -> Edit:
        """Edit the swap's picture as the row says, and measure what came out."""
        original, region = draw(swap.before), changed_region(swap)
        began = time.perf_counter()
        with decoded(self.models.vae) as raw:
            picture, mask = self._edited(row, swap, original, params)
        seconds = time.perf_counter() - began
        letterbox = Letterbox.fit(original.size, self.models.size, self.models.vae_scale_factor)
        cells, true_cells = (
            np.asarray(downsample_mask(each, letterbox, self.models.vae_scale_factor)) > 127
            for each in (mask, Image.fromarray(region).convert("L"))
        )
        background = ~region
        return Edit(
            layout=swap.before.layout,
            source=swap.source,
            target=swap.target,
            seen=seen(swap, picture),
            iou=float((cells & true_cells).sum() / (cells | true_cells).sum()),
            recall=float((np.asarray(mask) > 127)[region].mean()),
            raw_error=_error(raw[-1] if raw else picture, original, background),
            composed_error=_error(picture, original, background),
            seconds=seconds,
            picture=picture,
            mask=mask,
        )

    def _edited(
        self, row: str, swap: Swap, original: Image.Image, params: dict[str, Any]
    ) -> tuple[Image.Image, Image.Image]:
        texts = asked(swap)
        if row == REFERENCE:
            picture, found = self.reference(original, texts["source_prompt"], texts["target_prompt"])
            letterbox = Letterbox.fit(original.size, self.models.size, self.models.vae_scale_factor)
            return picture, upsample_mask(Image.fromarray((found[0] * 255).astype(np.uint8)), letterbox)
        if row in (TRUTH, INPUT):
            return draw(swap.after if row == TRUTH else swap.before), Image.fromarray(changed_region(swap)).convert("L")
        have: dict[Artifact, Any] = {Artifact.IMAGE: Picture(original, None, "png")}
        if row == TRUE_MASK:
            have[Artifact.MASK] = Image.fromarray(changed_region(swap)).convert("L")
        if row == CONCEPTS:
            words = {name: texts[name] for name in ("source_concept", "target_concept")}
        elif row == ALONE:
            words = {"target_prompt": texts["target_prompt"]}
        else:
            words = {name: texts[name] for name in ("source_prompt", "target_prompt")}
        profile = self.models.profile
        made = ours(self.models, request(profile, {"seed": 0, **params}, **words), have)
        return made[Artifact.RESULT].image, made[Artifact.MASK]


@contextmanager
def decoded(vae: Any) -> Iterator[list[Image.Image]]:
    """Collects what the VAE decodes meanwhile, as pictures: the edit before the original's pixels are put back."""
    pictures: list[Image.Image] = []

    def collect(module: Any, args: Any, output: torch.Tensor) -> None:
        pixels = ((output[0].clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0)
        pictures.append(Image.fromarray(pixels.cpu().numpy()))

    hook = vae.decoder.register_forward_hook(collect)
    try:
        yield pictures
    finally:
        hook.remove()


def held_out(seed: int, count: int) -> list[Swap]:
    """`count` swaps, half of them in scenes of two objects, and a fifth as many bowls besides."""
    layouts: tuple[tuple[Layout, int], ...] = (("one", count - count // 2), ("two", count // 2), ("bowl", count // 5))
    return [swap for layout, share in layouts for swap in swaps(seed, share, layout)]


def _error(picture: Image.Image, original: Image.Image, where: np.ndarray) -> float:
    difference = np.asarray(picture.convert("RGB"), dtype=np.float64) - np.asarray(original, dtype=np.float64)
    return float(np.square(difference)[where].mean())


Row = tuple[str, dict[str, Any]]
"""Who edits, and with which parameters besides the defaults."""


def edited(
    held: list[Swap],
    rows: Mapping[str, Row],
    *,
    processes: int = 2,
    profile: str = "tiny",
    profiles_file: Path | None = None,
) -> dict[str, list[Edit]]:
    """Each row's edits of all the swaps."""
    results: dict[str, list[Edit]] = {}
    # Started afresh: a fork would lack the threads that torch may have in this process already.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, initializer=_start, initargs=(profile, profiles_file)) as pool:
        for name, (row, params) in rows.items():
            tasks = [(row, swap, params) for swap in held]
            results[name] = list(track(pool.map(_work, tasks), total=len(tasks), description=name, transient=True))
    return results


_bench: Bench


def _start(profile: str, profiles_file: Path | None) -> None:
    global _bench
    _bench = Bench(profile, profiles_file)


def _work(task: tuple[str, Swap, dict[str, Any]]) -> Edit:
    return _bench.edit(*task)
