"""From a picture of any size to the model's square and back, for pictures and masks; and the seam of the result."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from diffedit.pictures import Size


@dataclass(frozen=True)
class Letterbox:
    """How a picture is fitted into the model's square without distortion. Each size is (width, height) in pixels.

    Attributes:
        size: the picture.
        scaled: the picture after scaling.
        padded: `scaled` with the padding at the right and at the bottom; this is what the model sees.
    """

    size: Size
    scaled: Size
    padded: Size

    @classmethod
    def fit(cls, size: Size, limit: int, factor: int) -> Self:
        """Scale the longer side, up or down, to `limit`; then pad both sides to the next multiple of `factor`.

        Raises:
            ValueError: `limit` is not a multiple of `factor`.
        """
        if limit < factor or limit % factor:
            raise ValueError(f"limit {limit} is not a multiple of factor {factor}")
        width, height = (max(1, round(side * limit / max(size))) for side in size)
        return cls(size, (width, height), (-(-width // factor) * factor, -(-height // factor) * factor))

    def apply(self, picture: Image.Image) -> Image.Image:
        """Return the picture (of `size`) scaled and padded, RGB. The padding repeats the last column and row."""
        _check_size("picture", picture.size, self.size)
        (width, height), (right, bottom) = self.scaled, self.padded
        fitted = Image.new("RGB", self.padded)
        fitted.paste(picture.convert("RGB").resize(self.scaled, Image.Resampling.LANCZOS))
        if right > width:
            column = fitted.crop((width - 1, 0, width, height))
            fitted.paste(column.resize((right - width, height), Image.Resampling.NEAREST), (width, 0))
        if bottom > height:
            row = fitted.crop((0, height - 1, right, height))
            fitted.paste(row.resize((right, bottom - height), Image.Resampling.NEAREST), (0, height))
        return fitted

    def undo(self, fitted: Image.Image) -> Image.Image:
        """Return the picture (of `size`) without the padding of `fitted` (of `padded`), scaled back."""
        _check_size("fitted picture", fitted.size, self.padded)
        return fitted.crop((0, 0, *self.scaled)).resize(self.size, Image.Resampling.LANCZOS)


def upsample_mask(cells: Image.Image, letterbox: Letterbox) -> Image.Image:
    """Return a latent mask (mode "L", on above 127) at the picture's size, as 0 and 255.

    Raises:
        ValueError: `cells` is not of the size `letterbox.padded` / factor, for any factor.
    """
    factor = letterbox.padded[0] // cells.width
    _check_size("latent mask", cells.size, (letterbox.padded[0] // factor, letterbox.padded[1] // factor))
    on = np.asarray(cells) > 127
    for axis, starts in enumerate(_cell_starts(letterbox, factor)):
        # Where several cells start at the same pixel, the pixel is on if one of them is.
        firsts, groups = np.unique(starts, return_index=True)
        widths = np.diff(firsts, append=letterbox.size[1 - axis])
        on = np.repeat(np.logical_or.reduceat(on, groups, axis=axis), widths, axis=axis)
    return _mask_image(on)


def downsample_mask(mask: Image.Image, letterbox: Letterbox, factor: int) -> Image.Image:
    """Return a mask of the picture's size (mode "L", 0 and 255) as a latent mask of `letterbox.padded` / `factor`.

    A cell is on if at least a quarter of its pixels are on. If no cell is on by this rule, a cell is on if any of its
    pixels is. A cell too many does no harm, because `compose` restores the original where the mask is off.
    `downsample_mask` undoes `upsample_mask` exactly if the picture has at least one pixel for each cell on both axes.

    Raises:
        ValueError: the mask is not of the picture's size.
    """
    _check_size("mask", mask.size, letterbox.size)
    rows, columns = _cell_starts(letterbox, factor)
    on = np.add.reduceat(np.asarray(mask) == 255, columns, axis=1, dtype=np.uint32)
    on = np.add.reduceat(on, rows, axis=0)
    heights, widths = (
        np.add.reduceat(np.ones(length, dtype=np.uint32), starts)
        for length, starts in ((mask.height, rows), (mask.width, columns))
    )
    quarter = 4 * on >= np.outer(heights, widths)
    return _mask_image(quarter if quarter.any() else on > 0)


def compose(original: Image.Image, edited: Image.Image, mask: Image.Image, edge: float) -> Image.Image:
    """Return `edited` where `mask` ("L") is 255 and `original` where it is 0. All have one size, the pictures one mode.

    The seam is a linear ramp, about `edge` pixels wide and centred on the mask's edge. Outside of the seam the pixels
    of both pictures are exact. 0 gives a hard edge.
    """
    return Image.composite(edited, original, mask.filter(ImageFilter.BoxBlur(edge / 2)))


def _cell_starts(letterbox: Letterbox, factor: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return, for each row and for each column of latent cells, its first pixel in the picture."""
    across, down = (
        _axis_starts(size, scaled, padded // factor, factor)
        for size, scaled, padded in zip(letterbox.size, letterbox.scaled, letterbox.padded, strict=True)
    )
    return down, across


def _axis_starts(size: int, scaled: int, cells: int, factor: int) -> NDArray[Any]:
    """Return the first pixel of each cell along one axis: the first whose centre lies in the cell.

    A cell is `size * factor / scaled` pixels wide. Only integers are used, because a rounding error would move an edge.
    """
    cell = np.arange(cells)
    if size < cells:
        # A pixel is wider than a cell. Each cell gets the pixel that contains the cell's centre.
        return np.minimum((2 * cell + 1) * size * factor // (2 * scaled), size - 1)
    starts = -((scaled - 2 * cell * size * factor) // (2 * scaled))
    # The last cell may be almost only padding and contain no pixel's centre. It gets the last pixel.
    return np.minimum(starts, size - cells + cell)


def _mask_image(on: NDArray[Any]) -> Image.Image:
    return Image.fromarray(on.astype(np.uint8) * 255)


def _check_size(name: str, size: Size, expected: Size) -> None:
    if size != expected:
        raise ValueError(f"the {name} is {size} pixels, not {expected}")
