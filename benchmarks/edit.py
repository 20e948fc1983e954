"""Mask + invert + edit in process: ours against diffusers' pipeline, on the bundled model, at the defaults of both.

    make bench          (or: python -m benchmarks.edit --runs 5)

Ratios of one run on one machine; seconds are shown to make the ratios believable and mean nothing elsewhere. Both
sides get the same picture and prompts. UNet sample-forwards are counted by a hook on the UNet.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from api_client.contract import Slot
from api_client.pictures import read_picture
from benchmarks.sides import Reference, ours, request, samples_forwarded
from worker.demo import PICTURE, SOURCE, TARGETS
from worker.models import Models
from worker.profiles import load_profiles

SAMPLES = Path(__file__).parents[1] / "worker/tiny/samples"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs

    models = Models(load_profiles()["tiny"], device="cpu")
    reference = Reference(models)
    picture = read_picture((SAMPLES / PICTURE).read_bytes())
    asked = request("tiny", {"seed": 0}, source_prompt=SOURCE, target_prompt=TARGETS[0])
    sides: dict[str, Callable[[], object]] = {
        "diffusers": lambda: reference(picture.image, SOURCE, TARGETS[0]),
        "ours": lambda: ours(models, asked, {Slot.IMAGE: picture}),
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
