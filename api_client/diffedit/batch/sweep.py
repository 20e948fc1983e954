"""A sweep: one picture, many wishes or parameters, and a sheet that shows all results."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from diffedit.batch.scores import SHORT_NAMES
from diffedit.errors import InvalidRequest

AXES = (
    "target_prompt",
    "target_concept",
    "scheduler",
    "num_inference_steps",
    "strength",
    "mask_thresholding_ratio",
    "guidance_scale",
    "seed",
)
"""What a sweep can vary, from what changes slowest to what changes fastest."""
MAX_EDITS = 2000
CELL, GAP, MARGIN, TEXT = 256, 14, 24, 14
"""Pixels of the longer side of a picture on the sheet, between pictures, around them, and of its letters."""
INK, SOFT, PAPER, EMPTY = "#17201f", "#5d6b69", "#ffffff", "#e9eeed"


@dataclass(frozen=True)
class Cell:
    """One edit of a sweep.

    Attributes:
        options: the options in which it differs from the others.
        label: these options, for people.
    """

    options: Mapping[str, Any]
    label: str


@dataclass(frozen=True)
class Plan:
    """The edits of a sweep, and how many stand side by side."""

    cells: tuple[Cell, ...]
    columns: int


def planned(values: Mapping[str, Sequence[Any]], *, as_list: bool = False) -> Plan:
    """Return the edits of a sweep: all combinations of the values, or the first of each, the second of each, ...

    Raises:
        InvalidRequest: there are too many edits, or the lists have different lengths.
    """
    axes = {name: tuple(values[name]) for name in AXES if values.get(name)}
    varying = [name for name, each in axes.items() if len(each) > 1]
    if as_list:
        length = max([1, *map(len, axes.values())])
        if wrong := [name for name, each in axes.items() if len(each) not in (1, length)]:
            raise InvalidRequest(f"{wrong[0]}: a list needs {length} values here, or one for all")
        columns: list[tuple[Any, ...]] = [each * length if len(each) == 1 else each for each in axes.values()]
        combinations = list(zip(*columns, strict=True)) if axes else [()]
    else:
        number = math.prod(map(len, axes.values()))
        if number > MAX_EDITS:
            raise InvalidRequest(f"these are {number} edits; a sweep has {MAX_EDITS} at most")
        combinations = list(itertools.product(*axes.values()))
    cells = tuple(_cell(dict(zip(axes, combination, strict=True)), varying) for combination in combinations)
    is_grid = not as_list and len(varying) > 1 and len(axes[varying[-1]]) <= 12
    return Plan(cells, len(axes[varying[-1]]) if is_grid else math.ceil(math.sqrt(len(cells))))


def _cell(options: Mapping[str, Any], varying: Sequence[str]) -> Cell:
    parts = [
        str(value) if name.startswith("target") else f"{SHORT_NAMES.get(name, name)} {value}"
        for name, value in options.items()
        if name in varying
    ]
    return Cell(options, ", ".join(parts) or str(next(iter(options.values()), "")))


class Sheet:
    """A contact sheet that is filled picture by picture: small copies are kept, whatever the size of the results."""

    def __init__(self, plan: Plan, title: str, original: Image.Image) -> None:
        self._plan = plan
        self._title = title
        self._font = _font(TEXT)
        self._size = _fitted(original.size)
        self._original = _small(original, self._size)
        self._pictures: dict[int, Image.Image] = {}
        self._errors: dict[int, str] = {}

    def add(self, number: int, picture: Image.Image) -> None:
        """Add the result of the edit with this number, from 0."""
        self._pictures[number] = _small(picture, self._size)

    def fail(self, number: int, code: str) -> None:
        """Write an error code in the place of a result."""
        self._errors[number] = code

    def image(self) -> Image.Image:
        """Return the sheet: the original and the title above, then the results with their labels."""
        width, height = self._size
        columns, cells = self._plan.columns, self._plan.cells
        labels = [self._wrapped(cell.label, width) for cell in cells]
        line = TEXT + 5
        starts = range(0, len(cells), columns)
        heights = [height + 6 + line * max(map(len, labels[at : at + columns])) + GAP for at in starts]
        top = MARGIN + height + GAP + line
        sheet_width = 2 * MARGIN + max(columns * (width + GAP) - GAP, 2 * width)
        sheet = Image.new("RGB", (sheet_width, top + sum(heights) + MARGIN), PAPER)
        draw = ImageDraw.Draw(sheet)
        sheet.paste(self._original, (MARGIN, MARGIN))
        draw.text((MARGIN, MARGIN + height + 4), "original", SOFT, self._font)
        title_width = sheet_width - 2 * MARGIN - width - GAP
        self._write(draw, (MARGIN + width + GAP, MARGIN), self._wrapped(self._title, title_width), INK)
        for row, start in enumerate(starts):
            y = top + sum(heights[:row])
            for column, number in enumerate(range(start, min(start + columns, len(cells)))):
                x = MARGIN + column * (width + GAP)
                if number in self._pictures:
                    sheet.paste(self._pictures[number], (x, y))
                else:
                    draw.rectangle((x, y, x + width - 1, y + height - 1), EMPTY)
                    code = self._wrapped(self._errors.get(number, "no result"), width - 16)
                    self._write(draw, (x + 8, y + 8), code, SOFT)
                self._write(draw, (x, y + height + 4), labels[number], INK)
        return sheet

    def _write(self, draw: ImageDraw.ImageDraw, place: tuple[int, int], lines: Sequence[str], colour: str) -> None:
        for number, line in enumerate(lines):
            draw.text((place[0], place[1] + number * (TEXT + 5)), line, colour, self._font)

    def _wrapped(self, text: str, width: int) -> list[str]:
        """Return the text in lines of this many pixels. A longer word is cut."""
        lines = [""]
        for word in " ".join(text.split()).split(" "):
            while word and self._font.getlength(word) > width:
                word = word[:-1]
            longer = f"{lines[-1]} {word}".strip()
            if self._font.getlength(longer) <= width:
                lines[-1] = longer
            else:
                lines.append(word)
        return lines[:6]


def _font(size: int) -> Any:
    for name in ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "Arial.ttf"):
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return ImageFont.load_default(size)  # it has the letters of Latin only


def _fitted(size: tuple[int, int]) -> tuple[int, int]:
    scale = CELL / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _small(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    shown = Image.new("RGB", picture.size, PAPER)
    shown.paste(picture.convert("RGB"), mask=picture.getchannel("A") if picture.mode == "RGBA" else None)
    is_tiny = CELL // max(picture.size) > 2
    return shown.resize(size, Image.Resampling.NEAREST if is_tiny else Image.Resampling.LANCZOS)
