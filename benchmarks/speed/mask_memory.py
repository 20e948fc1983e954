"""Peak memory of the mask stage beyond the loaded model, against diffusers' pipeline."""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.harness.midsize_model import make_midsize_model
from benchmarks.harness.process_memory import PeakMemory
from benchmarks.harness.results import ResultRow
from benchmarks.speed.comparison import Comparison


def mask_memory() -> Iterator[ResultRow]:
    """Compare the peak memory of a mask of 10 maps with the mid-size model."""
    with tempfile.TemporaryDirectory() as directory:
        profiles = make_midsize_model(Path(directory))
        # Each side needs a process of its own, because the peak of a process never falls.
        peaks = {
            side: subprocess.run(
                [sys.executable, "-m", "benchmarks.speed.mask_memory", side, str(profiles)],
                check=True,
                capture_output=True,
                text=True,
            ).stdout.split()[-1]
            for side in ("reference", "ours")
        }
    yield ResultRow(
        "peak memory of the mask, 10 maps, mid-size model",
        reference=f"{peaks['reference']} MiB (one batch of 40)",
        ours=f"{peaks['ours']} MiB (batches of 8)",
        target="bounded by the batch size",
    )


def print_peak(side: str, profiles: str) -> None:
    """Print by how many MiB the memory of this process grows at most while one side makes a mask."""
    comparison = Comparison("midsize", Path(profiles))
    sides: dict[str, Callable[[], None]] = {
        "reference": comparison.mask_with_diffusers,
        "ours": comparison.mask_with_stages,
    }
    # Warm up: load everything that is loaded on first use.
    comparison.mask_with_stages(num_maps_per_mask=1)
    peak = PeakMemory()
    sides[side]()
    print(round(peak.growth()))


if __name__ == "__main__":
    print_peak(*sys.argv[1:])
