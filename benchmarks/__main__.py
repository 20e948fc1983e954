"""All figures, in several rounds: as a table in the terminal and in benchmarks/RESULTS.md.

    make bench      (three rounds, about 40 minutes on two cores)

Some of them alone, in one round: python -m benchmarks.edit tiny, python -m benchmarks.service chain scaling
"""

import argparse
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path

from rich.console import Console

from benchmarks import edit, price, service
from benchmarks.figures import Figures
from training.scenes import require_font

RESULTS = Path(__file__).with_name("RESULTS.md")
SOFTWARE = ("torch", "diffusers", "celery", "redis", "boto3")


def markdown(figures: Figures, took: str) -> str:
    software = ", ".join(f"{name} {version(name)}" for name in SOFTWARE)
    rows = [f"| {row.name.strip()} | {row.reference} | {row.ours} | {row.bar} |" for row in figures.rows.values()]
    return "\n".join(
        [
            "# Results",
            "",
            f"Written by `make bench` on {os.cpu_count()} cores ({platform.machine()}, no GPU), {took};",
            f"Python {platform.python_version()}, {software}.",
            "",
            "Medians over the rounds, with the least and the largest. What was counted, and the quality of edits with",
            "its 95 % intervals, is of the first round. The reference is diffusers' deprecated",
            "`StableDiffusionDiffEditPipeline` on the same weights, unless it says otherwise. Seconds mean nothing",
            "elsewhere; ratios are of sides that took turns in one run.",
            "",
            "| figure | reference | ours | bar |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    require_font()  # which is wanted half an hour later
    figures, began = Figures([*edit.FIGURES, *price.FIGURES, *service.FIGURES]), time.monotonic()
    for number in range(1, rounds + 1):
        for row in figures.another_round():
            print(f"{row.name}: {row.ours}", flush=True)
            minutes = (time.monotonic() - began) / 60
            RESULTS.write_text(markdown(figures, f"after {minutes:.0f} minutes, in round {number} of {rounds}"))
    Console().print(figures.table())


if __name__ == "__main__":
    main()
