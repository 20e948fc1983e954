"""Says what an edited place shows, by comparing it with drawings of everything that could be there."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import numpy as np
from PIL import Image

from training.scenes import FRUITS, KINDS, SIZE, Scene, Swap, Thing, draw, place, with_kind

_SHIFTS = (-3, 0, 3)
_SIZES = (-4, 0, 4)
_ANGLES = (-12, 0, 12)
_MARGIN = 4

Box = tuple[int, int, int, int]


def seen(swap: Swap, picture: Image.Image) -> str | None:
    """The kind that the edited place is most like, or None if it is most like the bare table.

    Kinds are drawn there in a few places, sizes and angles, since an edit may put its object a little elsewhere. The
    distance is the mean absolute difference over the place.
    """
    box = _place(swap)
    pixels = np.asarray(picture.convert("RGB").crop(box), dtype=np.int16)

    def distance(candidate: tuple[str | None, Image.Image]) -> float:
        return float(np.abs(np.asarray(candidate[1], dtype=np.int16) - pixels).mean())

    return min(_candidates(swap, box), key=distance)[0]


def _place(swap: Swap) -> Box:
    """The box of both things with a margin: left, top, right, bottom."""
    if bowl := swap.before.bowl:
        box = bowl.x - 27, bowl.y - 21, bowl.x + 27, bowl.y + 6
    else:
        thing = swap.before.things[swap.index]
        half = thing.size // 2 + _MARGIN
        box = thing.x - half, thing.y - half, thing.x + half, thing.y + half
    return max(0, box[0]), max(0, box[1]), min(SIZE, box[2]), min(SIZE, box[3])


def _candidates(swap: Swap, box: Box) -> Iterator[tuple[str | None, Image.Image]]:
    """Everything that could be in the box, with its kind."""
    scene, (left, top, *_) = swap.before, box
    if scene.bowl:
        yield swap.source, draw(scene).crop(box)
        for kind, dx, dy in product(FRUITS, _SHIFTS, _SHIFTS):
            yield kind, draw(_moved(with_kind(scene, 0, kind), dx, dy)).crop(box)
        return
    thing = scene.things[swap.index]
    rest = tuple(other for other in scene.things if other is not thing)
    bare = draw(replace(scene, things=rest)).crop(box)
    yield None, bare
    for kind, size, angle, dx, dy in product(KINDS, _SIZES, _ANGLES, _SHIFTS, _SHIFTS):
        yield kind, place(bare, Thing(kind, thing.x - left + dx, thing.y - top + dy, thing.size + size, angle))


def _moved(scene: Scene, dx: int, dy: int) -> Scene:
    return replace(scene, things=tuple(replace(thing, x=thing.x + dx, y=thing.y + dy) for thing in scene.things))
