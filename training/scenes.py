"""The scenes that the bundled model knows: emoji on a table, drawn so that everything in a picture is known.

A `Scene` describes a picture completely, and `draw` makes its pixels. A `Swap` replaces one object: its true result and
the region that it changes are known exactly. `benchmarks/quality` judges edits by them.

The drawings are Noto Color Emoji (SIL Open Font License 1.1), from Debian's package fonts-noto-color-emoji.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.random import Generator, default_rng
from PIL import Image, ImageDraw, ImageFont

FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
SIZE = 64

EMOJI = {
    "apple": "🍎",
    "pear": "🍐",
    "orange": "🍊",
    "lemon": "🍋",
    "banana": "🍌",
    "strawberry": "🍓",
    "grapes": "🍇",
    "watermelon": "🍉",
    "cherries": "🍒",
    "pineapple": "🍍",
    "ball": "⚽",
    "cat": "🐱",
    "dog": "🐶",
    "flower": "🌻",
}
KINDS = tuple(EMOJI)
FRUITS = KINDS[:10]
TABLES = {
    "white": (236, 236, 232),
    "grey": (150, 152, 156),
    "blue": (88, 130, 200),
    "green": (96, 152, 104),
    "pink": (236, 164, 188),
    "purple": (126, 96, 166),
    "wooden": (178, 130, 86),
}

Layout = Literal["one", "two", "bowl"]
LAYOUTS: dict[Layout, float] = {"one": 0.35, "two": 0.5, "bowl": 0.15}

_BOWL = (172, 92, 58)
_BOWL_INSIDE = (112, 56, 36)


@dataclass(frozen=True)
class Thing:
    """One emoji: its centre and the side of its square in pixels, and its angle in degrees."""

    kind: str
    x: int
    y: int
    size: int
    angle: int


@dataclass(frozen=True)
class Bowl:
    """A bowl with the objects of its scene. `x` and `y` are the centre of its rim."""

    x: int
    y: int
    width: int


@dataclass(frozen=True)
class Scene:
    """Objects on a table, from left to right. `grain` is the seed of the table's texture."""

    table: str
    grain: int
    things: tuple[Thing, ...]
    bowl: Bowl | None = None

    @property
    def layout(self) -> Layout:
        return "bowl" if self.bowl else "one" if len(self.things) == 1 else "two"

    @property
    def content(self) -> str:
        """The content of the bowl: its one kind, or "fruits" for a mixture."""
        kinds = {thing.kind for thing in self.things}
        return kinds.pop() if len(kinds) == 1 else "fruits"


@dataclass(frozen=True)
class Swap:
    """An edit whose true result is known: `after` is `before` with another object at `index`, or in the whole bowl."""

    before: Scene
    after: Scene
    index: int

    @property
    def source(self) -> str:
        """The kind before the edit."""
        return self.before.content if self.before.bowl else self.before.things[self.index].kind

    @property
    def target(self) -> str:
        """The kind after the edit."""
        return self.after.content if self.after.bowl else self.after.things[self.index].kind


def require_font() -> None:
    """Raise FileNotFoundError if the emoji font is not installed. The message names the package."""
    if not FONT.exists():
        raise FileNotFoundError(f"the emoji font {FONT} is missing: apt-get install fonts-noto-color-emoji")


def compose(rng: Generator, layout: Layout | None = None) -> Scene:
    """Return a random scene."""
    layout = layout or rng.choice(list(LAYOUTS), p=list(LAYOUTS.values()))
    table, grain = str(rng.choice(list(TABLES))), int(rng.integers(2**31))
    if layout == "bowl":
        return _bowl(rng, table, grain)
    if layout == "one":
        return Scene(table, grain, (_thing(rng, KINDS, (28, 40), (22, 42), (24, 42)),))
    left = _thing(rng, KINDS, (24, 32), (15, 18), (24, 44))
    right = _thing(rng, [kind for kind in KINDS if kind != left.kind], (24, 32), (46, 49), (24, 44))
    return Scene(table, grain, (left, right))


def compose_swap(rng: Generator, layout: Layout) -> Swap:
    """Return a random scene and the same scene with one other object, or with another content of its bowl."""
    before = compose(rng, layout)
    index = int(rng.integers(len(before.things)))
    present = {thing.kind for thing in before.things} if layout != "bowl" else {before.content}
    target = str(rng.choice([kind for kind in (FRUITS if layout == "bowl" else KINDS) if kind not in present]))
    return Swap(before, with_kind(before, index, target), index)


def with_kind(scene: Scene, index: int, kind: str) -> Scene:
    """Return the scene with another kind at `index`, or in the whole bowl."""
    things = [
        replace(thing, kind=kind) if scene.bowl or number == index else thing
        for number, thing in enumerate(scene.things)
    ]
    return replace(scene, things=tuple(things))


def scenes(seed: int, count: int) -> Iterator[Scene]:
    """Return the first `count` scenes of a seed. Scene i does not depend on `count`."""
    return (compose(default_rng((seed, number))) for number in range(count))


def swaps(seed: int, count: int, layout: Layout) -> Iterator[Swap]:
    """Return the first `count` swaps of a seed."""
    return (compose_swap(default_rng((seed, number, 1)), layout) for number in range(count))


def draw(scene: Scene) -> Image.Image:
    """Return the picture of a scene, RGB, SIZE x SIZE pixels."""
    picture = Image.fromarray(_table(scene.table, scene.grain))
    if scene.bowl:
        ImageDraw.Draw(picture).ellipse(_rim(scene.bowl), fill=_BOWL_INSIDE)
    for thing in scene.things:
        picture = place(picture, thing)
    if scene.bowl:
        front = _bowl_front(scene.bowl.width)
        left, top, *_ = _rim(scene.bowl)
        picture.paste(front, (left, top), front)
    return picture


def place(picture: Image.Image, thing: Thing) -> Image.Image:
    """Return a copy of the picture with the object on it."""
    picture = picture.copy()
    drawing = glyph(thing.kind, thing.size, thing.angle)
    picture.paste(drawing, _corner(thing), drawing)
    return picture


@lru_cache(maxsize=8192)
def glyph(kind: str, size: int, angle: int) -> Image.Image:
    """Return one emoji, RGBA, `size` x `size` pixels, rotated by `angle` degrees."""
    canvas = Image.new("RGBA", (136, 136))
    # The font consists of bitmaps of this one size.
    font = ImageFont.truetype(FONT, 109)
    ImageDraw.Draw(canvas).text((0, 4), EMOJI[kind], font=font, embedded_color=True)
    return canvas.rotate(angle, Image.Resampling.BICUBIC).resize((size, size), Image.Resampling.LANCZOS)


def coverage(scene: Scene, index: int) -> np.ndarray:
    """Return where the object at `index`, or the whole content of the bowl, is visible: bool, (SIZE, SIZE)."""
    alpha = Image.new("L", (SIZE, SIZE))
    for number, thing in enumerate(scene.things):
        if scene.bowl or number == index:
            alpha.paste(255, _corner(thing), glyph(thing.kind, thing.size, thing.angle).getchannel("A"))
    if scene.bowl:
        front = _bowl_front(scene.bowl.width).getchannel("A")
        left, top, *_ = _rim(scene.bowl)
        alpha.paste(0, (left, top), front)
    covered: np.ndarray = np.asarray(alpha) > 127
    return covered


def changed_region(swap: Swap) -> np.ndarray:
    """Return where the old or the new object of a swap is visible: bool, (SIZE, SIZE)."""
    changed: np.ndarray = coverage(swap.before, swap.index) | coverage(swap.after, swap.index)
    return changed


def _thing(
    rng: Generator,
    kinds: "list[str] | tuple[str, ...]",
    sizes: tuple[int, int],
    xs: tuple[int, int],
    ys: tuple[int, int],
) -> Thing:
    return Thing(
        kind=str(rng.choice(kinds)),
        x=int(rng.integers(*xs, endpoint=True)),
        y=int(rng.integers(*ys, endpoint=True)),
        size=2 * int(rng.integers(sizes[0] // 2, sizes[1] // 2, endpoint=True)),
        angle=4 * int(rng.integers(-4, 4, endpoint=True)),
    )


def _bowl(rng: Generator, table: str, grain: int) -> Scene:
    bowl = Bowl(x=int(rng.integers(29, 35, endpoint=True)), y=int(rng.integers(32, 38, endpoint=True)), width=52)
    kinds = list(rng.choice(FRUITS, 3, replace=False)) if rng.random() < 0.4 else [rng.choice(FRUITS)] * 3
    # The middle one is in front, so it is drawn last.
    places = ((-13, -7), (13, -7), (0, -5))
    things = tuple(
        Thing(str(kind), bowl.x + dx, bowl.y + dy, 24, 4 * int(rng.integers(-3, 3, endpoint=True)))
        for kind, (dx, dy) in zip(kinds, places, strict=True)
    )
    return Scene(table, grain, things, bowl)


def _corner(thing: Thing) -> tuple[int, int]:
    return thing.x - thing.size // 2, thing.y - thing.size // 2


def _rim(bowl: Bowl) -> tuple[int, int, int, int]:
    return bowl.x - bowl.width // 2, bowl.y - 5, bowl.x + bowl.width // 2, bowl.y + 5


@lru_cache(maxsize=64)
def _bowl_front(width: int) -> Image.Image:
    """Return the front of a bowl, RGBA, in a box that starts at its rim. It is drawn enlarged, then reduced."""
    scale, rim = 4, 10
    height = width // 2 + rim // 2
    front = Image.new("RGBA", (width * scale, height * scale))
    pen = ImageDraw.Draw(front)
    pen.pieslice(
        (0, -(height - rim) * scale + rim * scale // 2, width * scale, (height - 1) * scale), 0, 180, fill=_BOWL
    )
    pen.rectangle((0, 0, width * scale, rim * scale // 2), fill=(0, 0, 0, 0))
    pen.ellipse((0, 0, width * scale, rim * scale), fill=(0, 0, 0, 0))
    return front.resize((width, height), Image.Resampling.LANCZOS)


def _table(table: str, grain: int) -> np.ndarray:
    rng = default_rng(grain)
    y, x = np.mgrid[0:SIZE, 0:SIZE] / SIZE
    light = 1 + rng.uniform(-0.12, 0.12) * (y - 0.5) + rng.uniform(-0.08, 0.08) * (x - 0.5) + rng.uniform(-0.04, 0.04)
    if table == "wooden":
        row = np.arange(SIZE)
        plank = (row + rng.integers(16)) // 16
        light = light * (1 + rng.uniform(-0.08, 0.08, 8)[plank])[:, None]
        light[np.diff(plank, prepend=plank[0]) > 0] *= 0.72
    pixels: np.ndarray = light[..., None] * np.array(TABLES[table]) + rng.normal(0, 1.0, (SIZE, SIZE, 1))
    levels: np.ndarray = pixels.round().clip(0, 255).astype(np.uint8)
    return levels
