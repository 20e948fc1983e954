"""Mask + invert + edit in process: ours against diffusers' pipeline, on the same weights, at the defaults of both.

    python -m benchmarks.edit [NAME ...]

Ratios of one run on one machine, the sides taking turns. UNet samples are counted by a hook on the UNet.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure, Measured, measured, run_figures
from benchmarks.midsize import midsize
from benchmarks.sides import Reference, ours, request, samples_forwarded
from diffedit.contract.stages import Artifact
from diffedit.pictures import Picture, read_picture
from diffedit_worker.local.commands import PICTURE, SOURCE, TARGETS
from diffedit_worker.models.devices import limit_cpu_threads
from diffedit_worker.models.loading import Models
from diffedit_worker.models.profiles import SAMPLES, load_profiles

FAST: dict[str, Any] = {"scheduler": "dpmsolver++", "num_inference_steps": 20}


class Sides:
    """Both sides on one model and the demo's picture."""

    def __init__(self, profile: str = "tiny", profiles: Path | None = None) -> None:
        self.models = Models(load_profiles(profiles)[profile], device="cpu")
        limit_cpu_threads(self.models.profile, self.models.device)
        self.picture = read_picture((SAMPLES / PICTURE).read_bytes())
        self._reference = Reference(self.models)

    def reference(self, steps: int = 50) -> None:
        self._reference(self.resized.image, SOURCE, TARGETS[0], steps=steps)

    def ours(self, goal: Artifact = Artifact.RESULT, **params: Any) -> None:
        asked = request(self.models.profile, {"seed": 0, **params}, source_prompt=SOURCE, target_prompt=TARGETS[0])
        self.models.latent_cache.clear()  # it would spare every run but the first its encoding
        ours(self.models, asked, {Artifact.IMAGE: self.picture}, goal)

    @property
    def resized(self) -> Picture:
        """The reference takes pictures of the model's size only; ours fits them itself."""
        size = (self.models.size, self.models.size)
        return Picture(self.picture.image.convert("RGB").resize(size), None, "png")


def compare(sides: Sides, name: str, runs: int) -> Iterator[Figure]:
    runners: dict[str, Callable[[], None]] = {
        "reference": sides.reference,
        "ours": sides.ours,
        "fast": lambda: sides.ours(**FAST),
    }
    samples: dict[str, tuple[int, int]] = {}
    times: dict[str, list[float]] = {side: [] for side in runners}
    sides.reference(steps=2)
    sides.ours(num_inference_steps=2)  # what is loaded lazily is loaded now
    for _ in range(runs):
        for side, run in runners.items():
            started = time.perf_counter()
            samples[side] = samples_forwarded(sides.models.unet, run)
            times[side].append(time.perf_counter() - started)
    base = measured(statistics.median(times["reference"]), "1.00 = {} s, 50 steps")

    def ratio(side: str) -> Measured:
        pairs = zip(times[side], times["reference"], strict=True)
        return measured(statistics.median(mine / theirs for mine, theirs in pairs))

    counted = {side: f"{total}, largest batch {largest}" for side, (total, largest) in samples.items()}
    yield Figure(f"UNet samples of an edit, {name}", counted["ours"], counted["reference"], bar="140 or fewer")
    yield Figure(f"mask + invert + edit, {name}", ratio("ours"), base, bar="0.72 or less")
    fast = f"mask + invert + edit by dpmsolver++ at 20 steps, {samples['fast'][0]} samples, {name}"
    yield Figure(fast, ratio("fast"), base, bar="0.40 or less")


def tiny(runs: int = 5) -> Iterator[Figure]:
    yield from compare(Sides(), "bundled model", runs)


def large(runs: int = 2) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as directory:
        yield from compare(Sides("midsize", midsize(Path(directory))), "mid-size model", runs)


def memory() -> Iterator[Figure]:
    """What the mask of 10 maps takes beyond the loaded model, each side in a process of its own."""
    with tempfile.TemporaryDirectory() as directory:
        profiles = midsize(Path(directory))
        taken = {
            side: subprocess.run(
                [sys.executable, "-c", f"from benchmarks.edit import taken; taken({side!r}, {str(profiles)!r})"],
                check=True,
                capture_output=True,
                text=True,
            ).stdout.split()[-1]
            for side in ("reference", "ours")
        }
    yield Figure(
        "peak memory of the mask, 10 maps, mid-size model",
        reference=f"{taken['reference']} MB (one batch of 40)",
        ours=f"{taken['ours']} MB (batches of 8)",
        bar="bounded by the chunk",
    )


def taken(side: str, profiles: str) -> None:
    """Print by how many MB this process grows at most while a side makes a mask."""
    sides = Sides("midsize", Path(profiles))
    masks: dict[str, Callable[[], object]] = {
        "reference": lambda: sides._reference.mask(sides.resized.image, SOURCE, TARGETS[0]),
        "ours": lambda: sides.ours(Artifact.MASK),
    }
    sides.ours(Artifact.MASK, num_maps_per_mask=1)  # loads what is loaded lazily
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far, which loading has set, is forgotten
    before = _memory("VmRSS")
    masks[side]()
    print(round((_memory("VmHWM") - before) / 1e3))


def _memory(name: str) -> int:
    """A figure of this process in kilobytes, by Linux."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


FIGURES = (tiny, large, memory)

if __name__ == "__main__":
    run_figures(FIGURES, __doc__)
