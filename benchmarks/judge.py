"""Says what an edited place shows, by comparing it with drawings of everything that could be there."""

from dataclasses import replace
from itertools import product

import numpy as np
from PIL import Image

from training.scenes import FRUITS, KINDS, SIZE, Scene, Swap, draw, glyph, with_kind

_SHIFTS = (-6, -3, 0, 3, 6)
_SCALES = (0.7, 0.85, 1.0, 1.15)
_ANGLES = (-12, 0, 12)
_MARGIN = 6

Box = tuple[int, int, int, int]


def seen(swap: Swap, picture: Image.Image) -> str | None:
    """The kind that the edited place is most like, or None if it is most like the bare table.

    Each kind is tried in several places, sizes and angles, since an edit may put its object a little elsewhere and has
    no reason to make it as large as the one that was there. The distance is the sum of absolute differences.
    """
    distances = _in_bowl(swap, picture) if swap.before.bowl else _on_table(swap, picture)
    return min(distances, key=lambda kind: distances[kind])


def _on_table(swap: Swap, picture: Image.Image) -> dict[str | None, float]:
    scene, thing = swap.before, swap.before.things[swap.index]
    half = thing.size // 2 + _MARGIN
    box = _inside(thing.x - half, thing.y - half, thing.x + half, thing.y + half)
    rest = tuple(other for number, other in enumerate(scene.things) if number != swap.index)
    bare, pixels = _pixels(draw(replace(scene, things=rest)), box), _pixels(picture, box)
    apart = np.abs(bare - pixels).sum(axis=2)
    distances: dict[str | None, float] = {None: float(apart.sum())}
    for kind, scale, angle in product(KINDS, _SCALES, _ANGLES):
        size = 2 * round(scale * thing.size / 2)
        drawing = np.asarray(glyph(kind, size, angle), dtype=np.float32)
        colour, alpha = drawing[..., :3], drawing[..., 3:] / 255
        for dx, dy in product(_SHIFTS, _SHIFTS):
            left, top = thing.x + dx - size // 2 - box[0], thing.y + dy - size // 2 - box[1]
            height, width = apart.shape
            here = np.s_[max(0, top) : min(height, top + size), max(0, left) : min(width, left + size)]
            there = np.s_[max(0, -top) : height - top, max(0, -left) : width - left]
            drawn = bare[here] + alpha[there] * (colour[there] - bare[here])
            distance = distances[None] - apart[here].sum() + np.abs(drawn - pixels[here]).sum()
            distances[kind] = min(distances.get(kind, np.inf), float(distance))
    return distances


def _in_bowl(swap: Swap, picture: Image.Image) -> dict[str | None, float]:
    scene = swap.before
    assert scene.bowl
    box = _inside(scene.bowl.x - 27, scene.bowl.y - 21, scene.bowl.x + 27, scene.bowl.y + 6)
    pixels = _pixels(picture, box)

    def distance(candidate: Scene) -> float:
        return float(np.abs(_pixels(draw(candidate), box) - pixels).sum())

    near = tuple(product((-3, 0, 3), (-3, 0, 3)))
    distances: dict[str | None, float] = {
        kind: min(distance(_moved(with_kind(scene, 0, kind), *shift)) for shift in near) for kind in FRUITS
    }
    # What is there before may be a mixture, which is none of these.
    distances[swap.source] = min(distance(scene), distances.get(swap.source, np.inf))
    return distances


def _inside(left: int, top: int, right: int, bottom: int) -> Box:
    return max(0, left), max(0, top), min(SIZE, right), min(SIZE, bottom)


def _pixels(picture: Image.Image, box: Box) -> np.ndarray:
    pixels: np.ndarray = np.asarray(picture.convert("RGB").crop(box), dtype=np.float32)
    return pixels


def _moved(scene: Scene, dx: int, dy: int) -> Scene:
    return replace(scene, things=tuple(replace(thing, x=thing.x + dx, y=thing.y + dy) for thing in scene.things))
