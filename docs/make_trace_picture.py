"""Draw docs/images/trace.svg: one trace, as a collector has received it from a web server, a worker and a sender.

    python docs/make_trace_picture.py      # half a minute

It starts the services, the processes and a collector, edits a bundled picture, and stops everything.
"""

import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

import httpx

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from diffedit.webhooks.signing import new_secret  # noqa: E402
from diffedit_worker.local.stack import LocalServices  # noqa: E402
from diffedit_worker.models.profiles import SAMPLES  # noqa: E402
from tests.support.collector import CollectedSpan, collecting  # noqa: E402
from tests.support.services import client_of  # noqa: E402
from tests.support.waiting import until  # noqa: E402
from tests.support.web_server import served_process  # noqa: E402
from tests.support.webhook_receiver import receiving  # noqa: E402

PICTURE = ROOT / "docs" / "images" / "trace.svg"
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
CONCEPTS = {"source_concept": "dog", "target_concept": "grapes", "concept_prompts": "sentences", "preset": "draft"}

WIDTH, LABELS, RIGHT = 1060, 236, 84
ROW, BAR, TOP = 21, 13, 84
INK, GREY, RULE, STRIPE = "#15202b", "#66727d", "#e3e8ec", "#f6f8fa"
COLOURS = {
    "diffedit-web": "#90caf9",
    "wait": "#cfd8dc",
    "stage": "#80cbc4",
    "load": "#ffe082",
    "compute": "#4db6ac",
    "save": "#ffcc80",
    "diffedit-webhooks": "#ef9a9a",
}
LEGEND = (
    ("diffedit-web", "web server and client"),
    ("wait", "waits in a queue"),
    ("stage", "stage on a worker"),
    ("load", "load"),
    ("compute", "compute"),
    ("save", "save"),
    ("diffedit-webhooks", "webhook"),
)


def main() -> None:
    spans = traced_edit()
    PICTURE.write_text(drawing(spans))
    print(f"{PICTURE.relative_to(ROOT)}: {len(spans)} spans, {1e3 * length_of(spans):.0f} ms")


def traced_edit() -> list[CollectedSpan]:
    """Make an edit with loaded models, and return the spans that the processes have exported."""
    folder = Path(tempfile.mkdtemp())
    with LocalServices(folder / "stack") as stack, collecting() as collector, receiving() as receiver:
        traced = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint, "DIFFEDIT_PRELOAD": "true"}
        hooks = {"DIFFEDIT_WEBHOOK_SECRETS": new_secret(), "DIFFEDIT_WEBHOOK_ALLOW": "127.0.0.0/8"}
        sender = stack.start_program("webhooks", "webhooks", environment={**traced, **hooks})
        worker = stack.start_worker(environment=traced)
        client = client_of(stack)
        until(lambda: client.health().ok, "a ready worker", timeout=240)
        with served_process({**stack.environment, **traced}, folder, "--open") as server:
            # The first edit of a process opens connections.
            for sample, headers in (("02.png", {}), ("00.png", {"traceparent": CALLER})):
                answer = httpx.post(
                    f"{server.url}/v1/edits",
                    headers=headers,
                    files={"image": (sample, (SAMPLES / sample).read_bytes(), "image/png")},
                    data={**CONCEPTS, "webhook": receiver.url},
                    timeout=60,
                )
                client.job(answer.json()["id"]).wait()
            until(lambda: len(receiver.requests) == 4, "the events")
        stack.stop(worker, sender)
        return collector.spans_of(CALLER.split("-")[1])


def length_of(spans: Sequence[CollectedSpan]) -> float:
    return max(span.ended_at for span in spans) - spans[0].began_at


def in_rows(spans: Sequence[CollectedSpan], parent: str, depth: int = 0) -> Iterator[tuple[int, CollectedSpan]]:
    """Yield the spans below a parent in the order of a tree, each with its depth."""
    for span in spans:
        if span.parent == parent:
            yield depth, span
            yield from in_rows(spans, span.id, depth + 1)


def colour_of(span: CollectedSpan) -> str:
    return COLOURS.get(span.name.partition(" ")[0]) or COLOURS[span.service]


def drawing(spans: Sequence[CollectedSpan]) -> str:
    rows = list(in_rows(spans, CALLER.split("-")[2]))
    height, begin, whole = TOP + ROW * len(rows) + 16, spans[0].began_at, length_of(spans)
    scale = (WIDTH - LABELS - RIGHT) / whole
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'font-family="system-ui, sans-serif" font-size="12.5">',
        f'<rect width="{WIDTH}" height="{height}" rx="10" fill="#ffffff" stroke="{RULE}"/>',
        *legend(),
    ]
    for number in range(1, len(rows), 2):
        parts.append(f'<rect x="1" y="{TOP + ROW * number}" width="{WIDTH - 2}" height="{ROW}" fill="{STRIPE}"/>')
    parts += axis(whole, scale, height)
    for number, (depth, span) in enumerate(rows):
        parts += row(depth, span, TOP + ROW * number, LABELS + (span.began_at - begin) * scale, scale)
    return "\n".join([*parts, "</svg>", ""])


def legend() -> Iterator[str]:
    x = 18.0
    for kind, text in LEGEND:
        yield f'<rect x="{x}" y="18" width="13" height="13" rx="3" fill="{COLOURS[kind]}"/>'
        yield f'<text x="{x + 19}" y="29" fill="{INK}">{text}</text>'
        x += 19 + 6.3 * len(text) + 30


def axis(whole: float, scale: float, height: int) -> Iterator[str]:
    """Yield a line and a label for each round number of milliseconds."""
    step = next(step for step in (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10) if whole / step <= 9)
    for number in range(int(whole / step) + 1):
        x = LABELS + number * step * scale
        yield f'<path d="M{x:.1f} {TOP - 8}V{height - 12}" stroke="{RULE}"/>'
        yield f'<text x="{x:.1f}" y="{TOP - 16}" fill="{GREY}" text-anchor="middle">{duration(number * step)}</text>'


def duration(seconds: float) -> str:
    if 0 < seconds < 0.01:
        return f"{1e3 * seconds:.1f} ms"
    return f"{1e3 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"


def row(depth: int, span: CollectedSpan, y: float, x: float, scale: float) -> Iterator[str]:
    seconds = span.ended_at - span.began_at
    width = max(seconds * scale, 2)
    middle, bold = y + ROW / 2 + 4.5, ' font-weight="600"' if not depth or span.name.startswith("stage") else ""
    yield f'<text x="{18 + 16 * depth}" y="{middle}" fill="{INK}"{bold}>{escape(span.name)}</text>'
    yield (
        f'<rect x="{x:.1f}" y="{y + (ROW - BAR) / 2}" width="{width:.1f}" height="{BAR}" rx="3" '
        f'fill="{colour_of(span)}"/>'
    )
    yield f'<text x="{x + width + 6:.1f}" y="{middle}" fill="{GREY}" font-size="11.5">{duration(seconds)}</text>'


if __name__ == "__main__":
    main()
