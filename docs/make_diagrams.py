"""Draw the diagrams of the documentation as SVG.

    python docs/make_diagrams.py      # overwrites docs/images/{services,stages,job-states}.svg

The lines and labels are of a grey that can be read on light and on dark pages. The stages, their groups and their
artifacts come from `diffedit.contract.stages`.
"""

from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from diffedit import Stage
from diffedit.contract.stages import ModelGroup

IMAGES = Path(__file__).parent / "images"
GREY, INK = "#808890", "#15202b"
TEAL, YELLOW, BLUE, RED, GREEN, SILVER = "#80cbc4", "#ffe082", "#90caf9", "#ef9a9a", "#a5d6a7", "#cfd8dc"
HEAD = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
    'font-family="system-ui, sans-serif" font-size="14">\n'
    '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
    'orient="auto-start-reverse">'
    f'<path d="M0 0L8 4L0 8z" fill="{GREY}"/></marker></defs>\n'
)


class Box:
    """A rectangle with lines of text; the first line is bold."""

    def __init__(self, x: float, y: float, width: float, height: float, fill: str, *lines: str) -> None:
        self.x, self.y, self.width, self.height, self.fill, self.lines = x, y, width, height, fill, lines

    @property
    def left(self) -> tuple[float, float]:
        return self.x, self.y + self.height / 2

    @property
    def right(self) -> tuple[float, float]:
        return self.x + self.width, self.y + self.height / 2

    @property
    def top(self) -> tuple[float, float]:
        return self.x + self.width / 2, self.y

    @property
    def bottom(self) -> tuple[float, float]:
        return self.x + self.width / 2, self.y + self.height

    def svg(self) -> str:
        rect = (
            f'<rect x="{self.x}" y="{self.y}" width="{self.width}" height="{self.height}" rx="8" fill="{self.fill}"/>'
        )
        middle, first = self.x + self.width / 2, self.y + self.height / 2 - 9 * (len(self.lines) - 1) + 5
        texts = [
            f'<text x="{middle}" y="{first + 18 * number}" fill="{INK}" text-anchor="middle" {style}>'
            f"{escape(line)}</text>"
            for number, (line, style) in enumerate(zip(self.lines, self._styles(), strict=True))
        ]
        return rect + "".join(texts)

    def _styles(self) -> list[str]:
        return ['font-weight="600"'] + ['font-size="12"'] * (len(self.lines) - 1)


Point = tuple[float, float]


def arrow(points: Sequence[Point], text: str = "", at: Point | None = None, *, both: bool = False) -> str:
    path = "M" + "L".join(f"{x} {y}" for x, y in points)
    start = ' marker-start="url(#head)"' if both else ""
    line = f'<path d="{path}" fill="none" stroke="{GREY}" stroke-width="1.6" marker-end="url(#head)"{start}/>'
    if not text:
        return line
    x, y = at or ((points[0][0] + points[-1][0]) / 2, (points[0][1] + points[-1][1]) / 2 - 7)
    return line + label(text, x, y)


def label(text: str, x: float, y: float, anchor: str = "middle") -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" fill="{GREY}" font-size="12.5">{escape(text)}</text>'


def save(name: str, width: int, height: int, parts: Sequence[str]) -> None:
    IMAGES.mkdir(exist_ok=True)
    body = "\n".join(parts)
    (IMAGES / f"{name}.svg").write_text(HEAD.format(width=width, height=height) + body + "\n</svg>\n")


def services() -> None:
    client = Box(20, 120, 150, 70, TEAL, "Client", "your program, CLI")
    redis = Box(
        320, 20, 200, 92, RED, "Redis or Valkey", "one record per job", "one queue per profile,", "model group and lane"
    )
    bucket = Box(
        320,
        198,
        200,
        92,
        BLUE,
        "S3 bucket",
        "inputs/ pictures, masks",
        "artifacts/ everything made,",
        "one key per content",
    )
    workers = [
        Box(670, 30, 190, 60, YELLOW, "Worker", "language models"),
        Box(670, 125, 190, 60, YELLOW, "Worker", "diffusion model"),
        Box(670, 220, 190, 60, YELLOW, "Worker", "diffusion model"),
    ]
    parts = [box.svg() for box in (client, redis, bucket, *workers)]
    parts += [
        arrow([(170, 145), redis.left], "records, messages, polls", (215, 72), both=True),
        arrow([(170, 165), bucket.left], "pictures in, results out", (215, 246), both=True),
        label("messages, records", 595, 22),
        label("artifacts", 595, 300),
    ]
    for worker in workers:
        parts.append(arrow([redis.right, (worker.x, worker.left[1] - 6)], both=True))
        parts.append(arrow([bucket.right, (worker.x, worker.left[1] + 6)], both=True))
    save("services", 880, 315, parts)


def stages() -> None:
    places = {
        Stage.CAPTION: (150, 20),
        Stage.PROMPTS: (330, 20),
        Stage.EMBED: (510, 20),
        Stage.MASK: (510, 190),
        Stage.INVERT: (690, 190),
        Stage.EDIT: (870, 190),
    }
    colours = {ModelGroup.LANGUAGE: YELLOW, ModelGroup.DIFFUSION: TEAL}
    boxes = {
        stage: Box(x, y, 130, 62, colours[stage.group], stage.value, f"→ {outputs(stage)}")
        for stage, (x, y) in places.items()
    }
    image = Box(10, 105, 100, 62, SILVER, "image", "uploaded")
    parts = [image.svg(), *(box.svg() for box in boxes.values())]
    caption, prompts, embed, mask, invert, edit = (boxes[stage] for stage in Stage)
    parts += [
        arrow([image.top, (60, 51), caption.left]),
        arrow([caption.right, prompts.left]),
        arrow([prompts.right, embed.left]),
        arrow([caption.bottom, (215, 105), (545, 105), (545, 82)]),
        arrow([image.bottom, (60, 221), mask.left]),
        arrow([(575, 82), mask.top]),
        arrow([(605, 82), (605, 125), (755, 125), invert.top]),
        arrow([(625, 82), (625, 110), (935, 110), edit.top]),
        arrow([(60, 221), (60, 290), (755, 290), invert.bottom]),
        arrow([(60, 290), (60, 310), (950, 310), (950, 252)]),
        arrow([mask.bottom, (575, 272), (920, 272), (920, 252)]),
        arrow([invert.right, edit.left]),
        f'<rect x="700" y="24" width="14" height="14" rx="3" fill="{YELLOW}"/>',
        label("language queue", 722, 36, "start"),
        f'<rect x="700" y="48" width="14" height="14" rx="3" fill="{TEAL}"/>',
        label("diffusion queue", 722, 60, "start"),
    ]
    save("stages", 1020, 325, parts)


def outputs(stage: Stage) -> str:
    return stage.gives[0].value if len(stage.gives) == 1 else f"{len(stage.gives)} artifacts"


def job_states() -> None:
    queued = Box(20, 90, 130, 54, SILVER, "queued")
    running = Box(270, 90, 130, 54, YELLOW, "running")
    ends = [
        Box(560, 10, 130, 44, GREEN, "succeeded"),
        Box(560, 64, 130, 44, RED, "failed"),
        Box(560, 128, 130, 44, SILVER, "cancelled"),
        Box(560, 182, 130, 44, SILVER, "expired"),
    ]
    parts = [box.svg() for box in (queued, running, *ends)]
    parts.append(arrow([queued.right, running.left], "a stage starts"))
    parts += [arrow([running.right, end.left]) for end in ends]
    parts += [
        arrow([(300, 90), (300, 55), (370, 55), (370, 90)], "next stage, or again", (335, 47)),
        arrow([queued.bottom, (85, 204), (560, 204)], "deadline or start_timeout", (300, 196)),
        arrow([(110, 144), (110, 160), (560, 160)], "cancel()", (190, 156)),
    ]
    save("job-states", 710, 235, parts)


if __name__ == "__main__":
    services()
    stages()
    job_states()
