"""All figures, as a table in the terminal and in benchmarks/RESULTS.md.

    make bench      (about 25 minutes on two cores)

Some of them alone: python -m benchmarks.edit tiny, python -m benchmarks.service chain scaling
"""

import os
import platform
from importlib.metadata import version
from pathlib import Path

from rich.console import Console

from benchmarks import edit, service
from benchmarks.figures import Figure, table

RESULTS = Path(__file__).with_name("RESULTS.md")
SOFTWARE = ("torch", "diffusers", "celery", "redis", "boto3")


def markdown(figures: list[Figure]) -> str:
    software = ", ".join(f"{name} {version(name)}" for name in SOFTWARE)
    rows = [f"| {each.name.strip()} | {each.reference} | {each.ours} | {each.bar} |" for each in figures]
    return "\n".join(
        [
            "# Results",
            "",
            f"Written by `make bench` on {os.cpu_count()} cores ({platform.machine()}, no GPU); Python"
            f" {platform.python_version()}, {software}.",
            "Medians, with the least and the largest of the runs. The reference is diffusers' deprecated",
            "`StableDiffusionDiffEditPipeline` on the same weights, unless it says otherwise. Seconds mean nothing",
            "elsewhere; ratios are of sides that took turns in one run. What they cost in quality: docs/quality.md.",
            "",
            "| figure | reference | ours | bar |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


def main() -> None:
    figures = []
    for make in (*edit.FIGURES, *service.FIGURES):
        for figure in make():
            print(f"{figure.name}: {figure.ours}", flush=True)
            figures.append(figure)
        RESULTS.write_text(markdown(figures))  # each time, for the last ones take long
    Console().print(table(figures))


if __name__ == "__main__":
    main()
