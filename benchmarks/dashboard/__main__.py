"""The dashboard of a chaos run: Debian's Prometheus scrapes it, and deploy/grafana/render.py draws what it has seen.

    python -m benchmarks.dashboard --jobs 120 --out docs/images/dashboard.webp

Needs Debian's package `prometheus`. Prints the alerts that fired, and which queries of the dashboard had no answer. The
picture is drawn by our own program, and not by Grafana.
"""

import argparse
import json
import shutil
import time
import warnings
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import httpx
from PIL import Image
from rich.console import Console

from benchmarks.chaos.run import WORKERS, run
from benchmarks.dashboard.prometheus import SCRAPE_INTERVAL, Prometheus
from deploy.grafana.render import DASHBOARD, Source, render
from diffedit.errors import NoWorkerWarning

WIDTH = 1440


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, prog="python -m benchmarks.dashboard"
    )
    parser.add_argument("--jobs", type=int, default=120)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--directory", type=Path, default=Path("out/dashboard"), help="for logs and data; emptied first"
    )
    parser.add_argument("--out", type=Path, default=Path("out/dashboard.webp"))
    return parser.parse_args()


def save(source: Source, title: str, out: Path) -> None:
    """Draw the dashboard into a file."""
    drawn = BytesIO()
    render(source, title).savefig(drawn, dpi=100, format="png")
    with Image.open(drawn) as picture:
        smaller = picture.convert("RGB").resize((WIDTH, round(picture.height * WIDTH / picture.width)))
    out.parent.mkdir(parents=True, exist_ok=True)
    smaller.save(out, quality=80, method=6)


def busy_time(prometheus: Prometheus, began: float, ended: float) -> tuple[float, float]:
    """Return when the first job waited and when the last one ended, with half a minute before and after.

    The run goes on after that: it computes what the pictures should be.
    """
    query = "sum(diffedit_jobs_waiting) + sum(diffedit_jobs_running) > 0"
    asked: dict[str, str | float] = {
        "query": query,
        "start": began,
        "end": ended,
        "step": max(2.0, (ended - began) / 5000),
    }
    (series,) = httpx.get(f"{prometheus.url}/api/v1/query_range", params=asked).json()["data"]["result"]
    times = [float(at) for at, _ in series["values"]]
    return times[0] - 30, times[-1] + 30


def fired(prometheus: Prometheus, seconds: float) -> dict[str, int]:
    """Return the alerts that fired in these last seconds, and for how many scrapes."""
    query = f'sum by (alertname) (count_over_time(ALERTS{{alertstate="firing"}}[{seconds:.0f}s]))'
    answer = httpx.get(f"{prometheus.url}/api/v1/query", params={"query": query}).json()["data"]["result"]
    return {each["metric"]["alertname"]: int(each["value"][1]) for each in answer}


def main() -> None:
    args = parse_arguments()
    warnings.simplefilter("ignore", NoWorkerWarning)
    shutil.rmtree(args.directory, ignore_errors=True)
    console, jobs = Console(width=120), args.jobs
    with Prometheus(args.directory.resolve() / "prometheus") as prometheus:
        began = time.time()
        with console.status("chaos"):
            outcome = run(
                args.directory / "chaos",
                seed=args.seed,
                jobs=jobs,
                faults=jobs // 4,
                sick=jobs // 20,
                seconds=jobs * 1.75,
                beside=prometheus.watch,
            )
        ended = time.time()
        first, last = busy_time(prometheus, began, ended)
        source = Source(prometheus.url, last - first, last, f"{15 * SCRAPE_INTERVAL}s")
        day = datetime.fromtimestamp(last, UTC).strftime("%Y-%m-%d")
        title = f"DiffEdit fleet: a chaos run of {jobs} jobs with {WORKERS} workers, {day} (UTC). Not drawn by Grafana"
        save(source, title, args.out)
        panels = [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]
        silent = [panel["title"] for panel in panels if not source.lines(panel)]
        console.print("no data:", ", ".join(silent) or "-")
        console.print("fired:", fired(prometheus, ended - began) or "-")
    console.print(f"{'every job ended as it should' if outcome.ok else outcome}; {args.out}")


if __name__ == "__main__":
    main()
