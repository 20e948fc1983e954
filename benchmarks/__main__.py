"""The rows of benchmarks/RESULTS.md.

    make bench                                  (all rows, three rounds, about an hour on two cores)
    python -m benchmarks chain_overhead         (some rows, one round, only in the terminal)

Only a run of all rows writes RESULTS.md, after each row, so that an interrupted run leaves what it had.
"""

import argparse
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path

from rich.console import Console

from benchmarks.harness.results import Benchmark, ResultTable
from benchmarks.quality.speed_vs_quality import speed_vs_quality
from benchmarks.service.backlog import backlog
from benchmarks.service.cache_reuse import cache_reuse
from benchmarks.service.chain_overhead import chain_overhead
from benchmarks.service.client_cost import client_cost
from benchmarks.service.job_listing import job_listing
from benchmarks.service.open_streams import open_streams
from benchmarks.service.overhead import overhead
from benchmarks.service.s3_latency import s3_latency
from benchmarks.service.shared_device import shared_device
from benchmarks.service.shared_worker import shared_worker_bundled, shared_worker_device, shared_worker_midsize
from benchmarks.service.traffic_per_job import traffic_per_job
from benchmarks.service.valkey_cost import submission_rate, valkey_cost
from benchmarks.service.valkey_load import valkey_load
from benchmarks.service.worker_scaling import worker_scaling
from benchmarks.service.worker_start import worker_start
from benchmarks.speed.edit_time import edit_time_bundled, edit_time_midsize
from benchmarks.speed.mask_memory import mask_memory
from benchmarks.speed.shared_passes import shared_passes_bundled, shared_passes_midsize
from training.scenes import require_font

RESULTS = Path(__file__).with_name("RESULTS.md")
SOFTWARE = ("torch", "diffusers", "celery", "redis", "boto3")
BENCHMARKS: dict[str, Benchmark] = {
    benchmark.__name__: benchmark
    for benchmark in (
        edit_time_bundled,
        edit_time_midsize,
        mask_memory,
        shared_passes_bundled,
        shared_passes_midsize,
        speed_vs_quality,
        client_cost,
        chain_overhead,
        traffic_per_job,
        valkey_cost,
        valkey_load,
        submission_rate,
        worker_scaling,
        worker_start,
        s3_latency,
        shared_device,
        shared_worker_device,
        shared_worker_bundled,
        shared_worker_midsize,
        overhead,
        cache_reuse,
        backlog,
        open_streams,
        job_listing,
    )
}


def markdown(table: ResultTable, progress: str) -> str:
    """Return the content of RESULTS.md. `progress` says how far the run was."""
    software = ", ".join(f"{name} {version(name)}" for name in SOFTWARE)
    rows = [f"| {row.name.strip()} | {row.reference} | {row.ours} | {row.target} |" for row in table.rows.values()]
    return "\n".join(
        [
            "# Results",
            "",
            f"Written by `make bench` on {os.cpu_count()} cores ({platform.machine()}, no GPU), {progress};",
            f"Python {platform.python_version()}, {software}.",
            "",
            "Each value is the median over the rounds, with the smallest and the largest in parentheses. Counts, and",
            "the quality of edits with its 95 % intervals, are from the first round. Unless a row says otherwise, the",
            "reference is diffusers' deprecated `StableDiffusionDiffEditPipeline` on the same weights. Seconds are",
            "valid for this machine only. Ratios compare two sides that took turns in one run.",
            "",
            "| measurement | reference | ours | target |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, prog="python -m benchmarks"
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(BENCHMARKS)}; all without a name")
    parser.add_argument("--rounds", type=int, help="by default 1 with a name, 3 without")
    args = parser.parse_args()
    if unknown := set(args.names) - BENCHMARKS.keys():
        parser.error(f"{', '.join(sorted(unknown))}: not one of {', '.join(BENCHMARKS)}")
    args.rounds = args.rounds or (1 if args.names else 3)
    return args


def main() -> None:
    args = parse_arguments()
    if not args.names or speed_vs_quality.__name__ in args.names:
        # Before everything else, because the font is needed only after half an hour.
        require_font()
    table = ResultTable(BENCHMARKS[name] for name in args.names or BENCHMARKS)
    began = time.monotonic()
    for number in range(1, args.rounds + 1):
        for row in table.run_round():
            print(f"{row.name}: {row.ours}", flush=True)
            if not args.names:
                minutes = (time.monotonic() - began) / 60
                RESULTS.write_text(markdown(table, f"after {minutes:.0f} minutes, in round {number} of {args.rounds}"))
    Console().print(table.formatted())


if __name__ == "__main__":
    main()
