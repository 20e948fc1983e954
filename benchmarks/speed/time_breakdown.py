"""Where the time of one edit goes, as a picture: docs/images/time-of-an-edit.png.

    python -m benchmarks.speed.time_breakdown

The upper half is one edit of six stages with the mid-size model on a warm worker. The lower half is an edit of the same
stages on a simulated device that takes no time, so that the overhead is visible. Services and workers are real.
"""

import argparse
import io
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from benchmarks.harness.environment import (
    CONCEPTS,
    SIMULATED_WORKER,
    TRACED_WORKER,
    Environment,
    midsize_environment,
    service_environment,
)
from benchmarks.harness.spans import (
    MODELS,
    RECORD,
    S3,
    STAGE,
    TEXT,
    UNET,
    VAE,
    Span,
    read_spans,
    shares,
    without_overlap,
)
from diffedit.pictures import read_picture
from diffedit_worker.local.commands import PICTURE
from diffedit_worker.models.profiles import SAMPLES

PLOT = Path(__file__).parents[2] / "docs/images/time-of-an-edit.png"
CLIENT, QUEUE, WORKER = "client", "queue", "worker's own code"
PRECEDENCE = (*MODELS, S3, RECORD, CLIENT, QUEUE)
"""A moment in which several of these are active counts for the first of them."""
COLOURS = {
    CLIENT: "#999999",
    QUEUE: "#d55e00",
    RECORD: "#cc79a7",
    S3: "#e69f00",
    WORKER: "#000000",
    TEXT: "#56b4e9",
    VAE: "#009e73",
    UNET: "#0072b2",
}


@dataclass(frozen=True)
class Timeline:
    """Everything that happened from `began` to `ended` for one job."""

    spans: list[Span]
    began: float
    ended: float

    @property
    def seconds(self) -> float:
        return self.ended - self.began

    @property
    def divided(self) -> list[Span]:
        """The time of the job, each moment counted once."""
        return without_overlap(self.spans, self.began, self.ended, PRECEDENCE, rest=WORKER)


def record_timeline(env: Environment, file: Path, image: bytes, *, fetch: bool, **arguments: Any) -> Timeline:
    """Run one edit and return its timeline.

    With `fetch` it ends when the client has the result picture; otherwise it ends with the last stage, and no client
    polls meanwhile.
    """
    began = time.monotonic()
    job = env.client.edit(image, **arguments)
    submitted = time.monotonic()
    if fetch:
        _ = job.result().image
    fetched = time.monotonic()
    # A worker writes a span after its end, and without a fetch the job is still running.
    time.sleep(0.5)
    job.wait()
    spans = [span for span in read_spans(file) if span.began >= began]
    stages = [span for span in spans if span.kind == STAGE]
    recorded = [span.ended for span in spans if span.kind == RECORD and span.name == "complete_stage"]
    assert len(stages) == len(recorded) == len(job.status().stages)
    ended = fetched if fetch else recorded[-1]
    waits = zip([submitted, *recorded], stages, strict=False)
    spans += [Span(QUEUE, stage.name, since, stage.began) for since, stage in waits if since < stage.began]
    spans += [Span(CLIENT, "submit", began, submitted), Span(CLIENT, "fetch", recorded[-1], ended)]
    return Timeline(spans, began, ended)


def midsize_timeline() -> Timeline:
    """Return the timeline of an edit with the mid-size model."""
    with (
        tempfile.NamedTemporaryFile() as file,
        midsize_environment(TRACED_WORKER, SPANS=file.name) as (env, models),
    ):
        buffer = io.BytesIO()
        read_picture((SAMPLES / PICTURE).read_bytes()).image.resize((models.size, models.size)).save(buffer, "PNG")
        arguments = {**CONCEPTS, "scheduler": "dpmsolver++", "num_inference_steps": 20}
        return record_timeline(env, Path(file.name), buffer.getvalue(), fetch=True, **arguments)


def empty_timeline(runs: int = 15) -> Timeline:
    """Return the timeline of an edit whose stages take no time: of several runs, the one of median length."""
    with tempfile.NamedTemporaryFile() as file, service_environment(SIMULATED_SECONDS="0", SPANS=file.name) as env:
        env.start_workers(1, SIMULATED_WORKER)
        for _ in range(3):
            env.time_edit(env.new_picture(), **CONCEPTS)
        timelines = [
            record_timeline(env, Path(file.name), env.new_picture(), fetch=False, **CONCEPTS) for _ in range(runs)
        ]
        return sorted(timelines, key=lambda timeline: timeline.seconds)[runs // 2]


def draw(axes: Axes, timeline: Timeline, title: str, unit: str, scale: float) -> None:
    """Draw one row of bars for each kind, with its share beside it, and the stages as the background."""
    share = shares(timeline.divided)
    kinds = [kind for kind in COLOURS if kind in share]
    for row, kind in enumerate(kinds):
        # The worker's own code is what remains when nothing else is active. All other kinds may overlap.
        spans = [span for span in (timeline.divided if kind == WORKER else timeline.spans) if span.kind == kind]
        bars = [((span.began - timeline.began) * scale, span.seconds * scale) for span in spans]
        # The edge gives a visible width to very short spans.
        axes.broken_barh(bars, (row - 0.38, 0.76), facecolor=COLOURS[kind], edgecolor=COLOURS[kind], linewidth=0.6)
        axes.text(1.015, row, f"{100 * share[kind]:.1f} %", transform=axes.get_yaxis_transform(), va="center")
    _draw_stages(axes, timeline, scale)
    axes.set_title(title, loc="left", fontweight="bold", pad=30)
    axes.set_yticks(range(len(kinds)), kinds)
    axes.set_ylim(len(kinds) - 0.4, -0.6)
    axes.set_xlim(0, timeline.seconds * scale)
    axes.set_xlabel(f"{unit} since the submission")
    axes.tick_params(axis="y", length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def _draw_stages(axes: Axes, timeline: Timeline, scale: float) -> None:
    stages = [span for span in timeline.spans if span.kind == STAGE]
    # The first stages are too short for their names; these share one label.
    short = [stage for stage in stages if stage.seconds < 0.06 * timeline.seconds]
    for number, stage in enumerate(stages):
        start, end = ((time - timeline.began) * scale for time in (stage.began, stage.ended))
        axes.axvspan(start, end, color="#f0f0f0" if number % 2 else "#e2e2e2", zorder=0, linewidth=0)
        if stage not in short:
            axes.text((start + end) / 2, -0.75, stage.name, ha="center", fontsize=8)
        elif stage == short[0]:
            axes.text(start, -1.3, ", ".join(stage.name for stage in short), fontsize=8)


def plot(midsize: Timeline, empty: Timeline) -> Figure:
    figure = Figure(figsize=(11, 7.4), layout=ConstrainedLayoutEngine(hspace=0.08))
    above, below = figure.subplots(2, 1)
    draw(above, midsize, f"One edit, mid-size model, DPM-Solver++ at 20 steps: {midsize.seconds:.1f} s", "seconds", 1)
    title = f"The same six stages on a device that takes no time: {1000 * empty.seconds:.0f} ms"
    draw(below, empty, title, "milliseconds", 1000)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        prog="python -m benchmarks.speed.time_breakdown",
    )
    parser.add_argument("--out", type=Path, default=PLOT, help="file of the picture; its extension is the format")
    out = parser.parse_args().out
    timelines = midsize_timeline(), empty_timeline()
    for timeline in timelines:
        text = ", ".join(f"{kind} {100 * share:.1f} %" for kind, share in shares(timeline.divided).items())
        print(f"{timeline.seconds:.3f} s: {text}")
    plot(*timelines).savefig(out, dpi=120)


if __name__ == "__main__":
    main()
