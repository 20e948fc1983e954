"""Edits of held-out swaps: the table of methods, and the measurements of each edit.

Every picture is drawn, so the true result and the true changed region are known. The edits are made by the worker's own
stage functions or by diffusers' pipeline. Several processes work on different edits: a model as small as the bundled
one gains nothing from more threads.
"""

import multiprocessing
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from rich.progress import track

from benchmarks.harness.baselines import DiffusersBaseline, edit_request, run_stages
from benchmarks.quality.judge import recognize
from diffedit.contract.stages import Artifact
from diffedit.pictures import Picture
from diffedit_worker.diffusion.letterbox import Letterbox, downsample_mask, upsample_mask
from diffedit_worker.models.loading import Models
from diffedit_worker.models.profiles import load_profiles
from training.bundle import edit_texts
from training.scenes import Layout, Swap, changed_region, draw, swaps

DIFFUSERS = "diffusers, its defaults"
OURS = "ours, our defaults"
TRUE_MASK = "ours, true mask"
CONCEPTS = "ours, concepts"
TARGET_ALONE = "ours, target alone"
TRUE_RESULT = "control: the true result"
INPUT = "control: the input"
METHODS = (DIFFUSERS, OURS, TRUE_MASK, CONCEPTS, TARGET_ALONE, TRUE_RESULT, INPUT)
"""How a picture is edited. The two controls are no edits; they show that the judge recognizes what is there."""


class Variant(NamedTuple):
    """A method, with parameters that differ from the defaults."""

    method: str
    params: Mapping[str, Any]


@dataclass(frozen=True)
class Edit:
    """One edit of one swap.

    Attributes:
        recognized: the kind that the judge sees at the edited place; None for the bare table.
        iou: overlap of the mask with the true region, in latent cells, from 0 to 1.
        recall: share of the true region's pixels that the mask covers, from 0 to 1.
        raw_error: mean squared error outside of the true region, in 8-bit levels, of the picture as decoded.
        composed_error: the same after the original's pixels are put back.
    """

    layout: Layout
    source: str
    target: str
    recognized: str | None
    iou: float
    recall: float
    raw_error: float
    composed_error: float
    seconds: float
    picture: Image.Image
    mask: Image.Image

    @property
    def succeeded(self) -> bool:
        return self.recognized == self.target


class Editor:
    """The models of one process, and the edits that it makes with them."""

    def __init__(self, profile: str, profiles_file: Path | None) -> None:
        torch.set_num_threads(1)
        self.models = Models(load_profiles(profiles_file)[profile], device="cpu")
        self._baseline = DiffusersBaseline(self.models)

    def edit(self, swap: Swap, variant: Variant) -> Edit:
        """Edit the picture of the swap and measure the result."""
        original, region = draw(swap.before), changed_region(swap)
        began = time.perf_counter()
        with decoded_pictures(self.models.vae) as decoded:
            picture, mask = self._edit(swap, variant, original, region)
        seconds = time.perf_counter() - began
        cells, true_cells = self._latent_cells(mask), self._latent_cells(Image.fromarray(region).convert("L"))
        return Edit(
            layout=swap.before.layout,
            source=swap.source,
            target=swap.target,
            recognized=recognize(swap, picture),
            iou=float((cells & true_cells).sum() / (cells | true_cells).sum()),
            recall=float((np.asarray(mask) > 127)[region].mean()),
            raw_error=_mean_squared_error(decoded[-1] if decoded else picture, original, ~region),
            composed_error=_mean_squared_error(picture, original, ~region),
            seconds=seconds,
            picture=picture,
            mask=mask,
        )

    def _edit(
        self, swap: Swap, variant: Variant, original: Image.Image, region: np.ndarray
    ) -> tuple[Image.Image, Image.Image]:
        """Return the edited picture and the mask, in the size of the original."""
        method, texts = variant.method, edit_texts(swap)
        true_mask = Image.fromarray(region).convert("L")
        if method == DIFFUSERS:
            picture, mask = self._baseline.edit(original, texts["source_prompt"], texts["target_prompt"])
            return picture, upsample_mask(Image.fromarray((mask[0] * 255).astype(np.uint8)), self._letterbox(original))
        if method in (TRUE_RESULT, INPUT):
            return draw(swap.after if method == TRUE_RESULT else swap.before), true_mask
        have: dict[Artifact, Any] = {Artifact.IMAGE: Picture(original, None, "png")}
        if method == TRUE_MASK:
            have[Artifact.MASK] = true_mask
        fields = {CONCEPTS: ("source_concept", "target_concept"), TARGET_ALONE: ("target_prompt",)}
        chosen = fields.get(method, ("source_prompt", "target_prompt"))
        request = edit_request(
            self.models.profile, {"seed": 0, **variant.params}, **{name: texts[name] for name in chosen}
        )
        artifacts = run_stages(self.models, request, have)
        return artifacts[Artifact.RESULT].image, artifacts[Artifact.MASK]

    def _letterbox(self, picture: Image.Image) -> Letterbox:
        return Letterbox.fit(picture.size, self.models.size, self.models.vae_scale_factor)

    def _latent_cells(self, mask: Image.Image) -> np.ndarray:
        """Return the mask in latent cells, bool, as the edit stage uses it."""
        cells: np.ndarray = np.asarray(downsample_mask(mask, self._letterbox(mask), self.models.vae_scale_factor)) > 127
        return cells


@contextmanager
def decoded_pictures(vae: Any) -> Iterator[list[Image.Image]]:
    """Collect the pictures that the VAE decodes: the edits before the original's pixels are put back."""
    pictures: list[Image.Image] = []

    def collect(module: Any, args: Any, output: torch.Tensor) -> None:
        pixels = ((output[0].clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0)
        pictures.append(Image.fromarray(pixels.cpu().numpy()))

    hook = vae.decoder.register_forward_hook(collect)
    try:
        yield pictures
    finally:
        hook.remove()


def held_out_swaps(seed: int, count: int) -> list[Swap]:
    """Return `count` swaps, half of them in scenes of two objects, and in addition `count` / 5 swaps in bowls."""
    layouts: tuple[tuple[Layout, int], ...] = (("one", count - count // 2), ("two", count // 2), ("bowl", count // 5))
    return [swap for layout, number in layouts for swap in swaps(seed, number, layout)]


def edit_all(
    held_out: list[Swap],
    variants: Mapping[str, Variant],
    *,
    processes: int = 2,
    profile: str = "tiny",
    profiles_file: Path | None = None,
) -> dict[str, list[Edit]]:
    """Edit all swaps with each variant, in several processes. Return the edits by the variant's name."""
    results: dict[str, list[Edit]] = {}
    # A forked process would lack the threads that torch may have started in this one.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, initializer=_start_process, initargs=(profile, profiles_file)) as pool:
        for name, variant in variants.items():
            tasks = [(swap, variant) for swap in held_out]
            edits = pool.map(_edit_in_process, tasks)
            results[name] = list(track(edits, total=len(tasks), description=name, transient=True))
    return results


def _mean_squared_error(picture: Image.Image, original: Image.Image, where: np.ndarray) -> float:
    difference = np.asarray(picture.convert("RGB"), dtype=np.float64) - np.asarray(original, dtype=np.float64)
    return float(np.square(difference)[where].mean())


_editor: Editor


def _start_process(profile: str, profiles_file: Path | None) -> None:
    global _editor
    _editor = Editor(profile, profiles_file)


def _edit_in_process(task: tuple[Swap, Variant]) -> Edit:
    return _editor.edit(*task)
