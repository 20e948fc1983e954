"""The judge: recognizes what an edited place shows, by comparing it with drawings of everything that could be there."""

from dataclasses import replace
from itertools import product

import numpy as np
from PIL import Image

from training.scenes import FRUITS, KINDS, SIZE, Scene, Swap, Thing, draw, glyph, with_kind

_SHIFTS = (-6, -3, 0, 3, 6)
_SCALES = (0.7, 0.85, 1.0, 1.15)
_ANGLES = (-12, 0, 12)
_MARGIN = 6

Box = tuple[int, int, int, int]


def recognize(swap: Swap, picture: Image.Image) -> str | None:
    """Return the kind that the edited place is most like, or None if it is most like the bare table.

    Each kind is tried at several places, sizes and angles, because an edit may move or scale its object a little. The
    distance is the sum of absolute differences.
    """
    distances = _distances_in_bowl(swap, picture) if swap.before.bowl else _distances_on_table(swap, picture)
    return min(distances, key=lambda kind: distances[kind])


def _distances_on_table(swap: Swap, picture: Image.Image) -> dict[str | None, float]:
    scene, thing = swap.before, swap.before.things[swap.index]
    half = thing.size // 2 + _MARGIN
    box = _clipped(thing.x - half, thing.y - half, thing.x + half, thing.y + half)
    others = tuple(other for number, other in enumerate(scene.things) if number != swap.index)
    bare, pixels = _pixels(draw(replace(scene, things=others)), box), _pixels(picture, box)
    bare_differences = np.abs(bare - pixels).sum(axis=2)
    distances: dict[str | None, float] = {None: float(bare_differences.sum())}
    for kind, scale, angle in product(KINDS, _SCALES, _ANGLES):
        candidate = replace(thing, kind=kind, size=2 * round(scale * thing.size / 2), angle=angle)
        distance = _distance_of_thing(candidate, box, bare, pixels, bare_differences)
        distances[kind] = min(distances.get(kind, np.inf), distance)
    return distances


def _distance_of_thing(
    thing: Thing, box: Box, bare: np.ndarray, pixels: np.ndarray, bare_differences: np.ndarray
) -> float:
    """Return the smallest distance between `pixels` and the bare table with the thing at one of several places.

    `bare` and `pixels` are (height, width, 3) and show `box`. `bare_differences` holds their absolute differences,
    summed over the colours. Only the pixels under the thing are computed again.
    """
    drawing = np.asarray(glyph(thing.kind, thing.size, thing.angle), dtype=np.float32)
    colour, alpha = drawing[..., :3], drawing[..., 3:] / 255
    height, width = bare_differences.shape
    total = float(bare_differences.sum())
    smallest = np.inf
    for dx, dy in product(_SHIFTS, _SHIFTS):
        left, top = thing.x + dx - thing.size // 2 - box[0], thing.y + dy - thing.size // 2 - box[1]
        covered = np.s_[max(0, top) : min(height, top + thing.size), max(0, left) : min(width, left + thing.size)]
        visible = np.s_[max(0, -top) : height - top, max(0, -left) : width - left]
        drawn = bare[covered] + alpha[visible] * (colour[visible] - bare[covered])
        distance = total - bare_differences[covered].sum() + np.abs(drawn - pixels[covered]).sum()
        smallest = min(smallest, float(distance))
    return smallest


def _distances_in_bowl(swap: Swap, picture: Image.Image) -> dict[str | None, float]:
    scene = swap.before
    assert scene.bowl
    box = _clipped(scene.bowl.x - 27, scene.bowl.y - 21, scene.bowl.x + 27, scene.bowl.y + 6)
    pixels = _pixels(picture, box)

    def distance(candidate: Scene) -> float:
        return float(np.abs(_pixels(draw(candidate), box) - pixels).sum())

    shifts = tuple(product((-3, 0, 3), (-3, 0, 3)))
    distances: dict[str | None, float] = {
        kind: min(distance(_moved(with_kind(scene, 0, kind), *shift)) for shift in shifts) for kind in FRUITS
    }
    # The bowl may have held a mixture, which is none of the kinds.
    distances[swap.source] = min(distance(scene), distances.get(swap.source, np.inf))
    return distances


def _clipped(left: int, top: int, right: int, bottom: int) -> Box:
    return max(0, left), max(0, top), min(SIZE, right), min(SIZE, bottom)


def _pixels(picture: Image.Image, box: Box) -> np.ndarray:
    pixels: np.ndarray = np.asarray(picture.convert("RGB").crop(box), dtype=np.float32)
    return pixels


def _moved(scene: Scene, dx: int, dy: int) -> Scene:
    return replace(scene, things=tuple(replace(thing, x=thing.x + dx, y=thing.y + dy) for thing in scene.things))
