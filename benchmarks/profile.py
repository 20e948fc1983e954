"""Where the time of one edit goes, as a picture: docs/images/time-of-an-edit.png.

    python -m benchmarks.profile

One edit of six stages on a warm worker with the mid-size model, and one through the same six stages on a simulated
device that takes no time, where what surrounds the model can be seen. Services and workers are real.
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

from benchmarks.site import CONCEPTS, SIMULATED, TIMED, Site, midsize_site, site
from benchmarks.spans import MODELS, RECORD, S3, STAGE, TEXT, UNET, VAE, Span, read, segments, shares
from diffedit.pictures import read_picture
from diffedit_worker.local.commands import PICTURE
from diffedit_worker.models.profiles import SAMPLES

PROFILE = Path(__file__).parents[1] / "docs/images/time-of-an-edit.png"
CLIENT, QUEUE, OWN = "client", "queue", "worker's own code"
KINDS = (*MODELS, S3, RECORD, CLIENT, QUEUE)
"""Where several are at work at once, the time counts as the first one's."""
LANES = {
    CLIENT: "#999999",
    QUEUE: "#d55e00",
    RECORD: "#cc79a7",
    S3: "#e69f00",
    OWN: "#000000",
    TEXT: "#56b4e9",
    VAE: "#009e73",
    UNET: "#0072b2",
}


@dataclass(frozen=True)
class Course:
    """What happened from `began` to `ended`, in the life of one job."""

    spans: list[Span]
    began: float
    ended: float

    @property
    def seconds(self) -> float:
        return self.ended - self.began

    @property
    def pieces(self) -> list[Span]:
        """Its time, each moment given to one lane."""
        return segments(self.spans, self.began, self.ended, KINDS, rest=OWN)


def course(here: Site, written: Path, image: bytes, *, fetch: bool, **asked: Any) -> Course:
    """From the submission until the picture is fetched, or else until the record ends, with nobody who polls."""
    began = time.monotonic()
    job = here.client.edit(image, **asked)
    submitted = time.monotonic()
    if fetch:
        _ = job.result().image
    fetched = time.monotonic()
    time.sleep(0.5)  # the end of a span is written after it, and without a fetch the job is not done yet
    job.wait()
    spans = [span for span in read(written) if span.began >= began]
    stages = [span for span in spans if span.kind == STAGE]
    recorded = [span.ended for span in spans if span.kind == RECORD and span.name == "complete_stage"]
    assert len(stages) == len(recorded) == len(job.status().stages)
    ended = fetched if fetch else recorded[-1]
    waits = zip([submitted, *recorded], stages, strict=False)
    spans += [Span(QUEUE, stage.name, since, stage.began) for since, stage in waits if since < stage.began]
    spans += [Span(CLIENT, "submit", began, submitted), Span(CLIENT, "fetch", recorded[-1], ended)]
    return Course(spans, began, ended)


def edit() -> Course:
    """On the mid-size model, until the client has the picture."""
    with tempfile.NamedTemporaryFile() as written, midsize_site(TIMED, SPANS=written.name) as (here, models):
        buffer = io.BytesIO()
        read_picture((SAMPLES / PICTURE).read_bytes()).image.resize((models.size, models.size)).save(buffer, "PNG")
        asked = {**CONCEPTS, "scheduler": "dpmsolver++", "num_inference_steps": 20}
        return course(here, Path(written.name), buffer.getvalue(), fetch=True, **asked)


def empty_chain(runs: int = 15) -> Course:
    """Of some runs, the one of median length."""
    with tempfile.NamedTemporaryFile() as written, site(SIMULATED_SECONDS="0", SPANS=written.name) as here:
        here.hire(1, SIMULATED)
        for _ in range(3):
            here.edited(here.picture(), **CONCEPTS)
        found = [course(here, Path(written.name), here.picture(), fetch=False, **CONCEPTS) for _ in range(runs)]
        return sorted(found, key=lambda each: each.seconds)[runs // 2]


def draw(axes: Axes, course: Course, title: str, unit: str, scale: float) -> None:
    """A lane for each kind, its share beside it, and the stages behind all of them."""
    part = shares(course.pieces)
    lanes = [lane for lane in LANES if lane in part]
    for row, lane in enumerate(lanes):
        # Our own code is what is left when nothing else goes on; all else is drawn as it was, side by side.
        shown = [span for span in (course.pieces if lane == OWN else course.spans) if span.kind == lane]
        bars = [((span.began - course.began) * scale, span.seconds * scale) for span in shown]
        # The line gives a width to what would be too short to see.
        axes.broken_barh(bars, (row - 0.38, 0.76), facecolor=LANES[lane], edgecolor=LANES[lane], linewidth=0.6)
        axes.text(1.015, row, f"{100 * part[lane]:.1f} %", transform=axes.get_yaxis_transform(), va="center")
    stages = [span for span in course.spans if span.kind == STAGE]
    for number, stage in enumerate(stages):
        start, end = ((at - course.began) * scale for at in (stage.began, stage.ended))
        axes.axvspan(start, end, color="#f0f0f0" if number % 2 else "#e2e2e2", zorder=0, linewidth=0)
        if stage not in (short := [each for each in stages if each.seconds < 0.06 * course.seconds]):
            axes.text((start + end) / 2, -0.75, stage.name, ha="center", fontsize=8)
        elif stage == short[0]:  # for all that are too short for their names; the first stages are
            axes.text(start, -1.3, ", ".join(each.name for each in short), fontsize=8)
    axes.set_title(title, loc="left", fontweight="bold", pad=30)
    axes.set_yticks(range(len(lanes)), lanes)
    axes.set_ylim(len(lanes) - 0.4, -0.6)
    axes.set_xlim(0, course.seconds * scale)
    axes.set_xlabel(f"{unit} since the submission")
    axes.tick_params(axis="y", length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def picture(edited: Course, empty: Course) -> Figure:
    figure = Figure(figsize=(11, 7.4), layout=ConstrainedLayoutEngine(hspace=0.08))
    above, below = figure.subplots(2, 1)
    draw(above, edited, f"One edit, mid-size model, DPM-Solver++ at 20 steps: {edited.seconds:.1f} s", "seconds", 1)
    around = f"The same six stages on a device that takes no time: {1000 * empty.seconds:.0f} ms"
    draw(below, empty, around, "milliseconds", 1000)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=PROFILE, help="the picture; its extension says of which kind")
    out = parser.parse_args().out
    courses = edit(), empty_chain()
    for each in courses:
        told = ", ".join(f"{lane} {100 * share:.1f} %" for lane, share in shares(each.pieces).items())
        print(f"{each.seconds:.3f} s: {told}")
    picture(*courses).savefig(out, dpi=120)


if __name__ == "__main__":
    main()
