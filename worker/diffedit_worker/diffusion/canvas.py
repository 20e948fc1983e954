"""Between a picture of any size and the model's square: fitting, latent masks, and the seam of the result."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from PIL import Image, ImageFilter

from diffedit.pictures import Size


@dataclass(frozen=True)
class Canvas:
    """How a picture is fitted into a model's square without distortion; every size is (width, height) in pixels.

    `size` is the picture's, `scaled` what it is resized to, `padded` that with the right and bottom padding.
    """

    size: Size
    scaled: Size
    padded: Size

    @classmethod
    def fit(cls, size: Size, limit: int, factor: int) -> Self:
        """Scale the longer side, up or down, to `limit`, then pad both sides to the next multiple of `factor`.

        Raises:
            ValueError: `limit` is not a multiple of `factor`.
        """
        if limit < factor or limit % factor:
            raise ValueError(f"limit {limit} is not a multiple of factor {factor}")
        width, height = (max(1, round(side * limit / max(size))) for side in size)
        return cls(size, (width, height), (-(-width // factor) * factor, -(-height // factor) * factor))

    def place(self, image: Image.Image) -> Image.Image:
        """The picture (of `size`) on the canvas (of `padded`), RGB; the padding repeats the last column and row."""
        _expect("picture", image.size, self.size)
        (width, height), (right, bottom) = self.scaled, self.padded
        canvas = Image.new("RGB", self.padded)
        canvas.paste(image.convert("RGB").resize(self.scaled, Image.Resampling.LANCZOS))
        if right > width:
            column = canvas.crop((width - 1, 0, width, height))
            canvas.paste(column.resize((right - width, height), Image.Resampling.NEAREST), (width, 0))
        if bottom > height:
            row = canvas.crop((0, height - 1, right, height))
            canvas.paste(row.resize((right, bottom - height), Image.Resampling.NEAREST), (0, height))
        return canvas

    def bring_back(self, canvas_image: Image.Image) -> Image.Image:
        """The picture (of `size`) that lies on the canvas (of `padded`)."""
        _expect("canvas", canvas_image.size, self.padded)
        return canvas_image.crop((0, 0, *self.scaled)).resize(self.size, Image.Resampling.LANCZOS)


def _expect(what: str, size: Size, wanted: Size) -> None:
    if size != wanted:
        raise ValueError(f"the {what} is {size} pixels, not {wanted}")


def grow_mask(cells: Image.Image, canvas: Canvas) -> Image.Image:
    """A latent mask (mode "L", on above 127, of `canvas.padded` / factor) at the picture's size, as 0 and 255."""
    factor = canvas.padded[0] // cells.width
    _expect("latent mask", cells.size, (canvas.padded[0] // factor, canvas.padded[1] // factor))
    mask = Image.new("L", canvas.size)
    for place, box in _cells(canvas, factor):
        if cells.getpixel(place) > 127:  # type: ignore[operator]  # mode "L" has one number per pixel
            mask.paste(255, box)
    return mask


def shrink_mask(mask: Image.Image, canvas: Canvas, factor: int) -> Image.Image:
    """A picture-size mask (mode "L" of 0 and 255) as a latent mask of `canvas.padded` / `factor`, as 0 and 255.

    A cell is on where a quarter of its pixels is, or where any is if that left nothing. Being generous costs nothing:
    `compose` puts back the original wherever the picture-size mask is off. Undoes `grow_mask` exactly as long as the
    picture has at least one pixel per cell along both sides.
    """
    _expect("mask", mask.size, canvas.size)
    quarter, touched = (Image.new("L", (canvas.padded[0] // factor, canvas.padded[1] // factor)) for _ in range(2))
    for place, box in _cells(canvas, factor):
        covered = mask.crop(box).histogram()[255]
        if covered:
            touched.putpixel(place, 255)
        if 4 * covered >= (box[2] - box[0]) * (box[3] - box[1]):
            quarter.putpixel(place, 255)
    return quarter if quarter.getbbox() else touched


def _cells(canvas: Canvas, factor: int) -> Iterator[tuple[tuple[int, int], tuple[int, int, int, int]]]:
    """Each latent cell with its box of picture pixels."""
    columns, rows = (
        _spans(size, scaled, padded // factor, factor)
        for size, scaled, padded in zip(canvas.size, canvas.scaled, canvas.padded, strict=True)
    )
    for y, (top, bottom) in enumerate(rows):
        for x, (left, right) in enumerate(columns):
            yield (x, y), (left, top, right, bottom)


def _spans(size: int, scaled: int, cells: int, factor: int) -> list[tuple[int, int]]:
    """Along one axis, the picture pixels [first, last) whose centres lie in each cell; no cell is without.

    A cell begins every `size * factor / scaled` pixels; integers, because a rounding error here moves an edge.
    """
    if size < cells:
        # Several cells to a pixel: each takes the pixel in which its own centre lies.
        firsts = [min((2 * cell + 1) * size * factor // (2 * scaled), size - 1) for cell in range(cells)]
        return [(first, first + 1) for first in firsts]
    starts = [-((scaled - 2 * cell * size * factor) // (2 * scaled)) for cell in range(cells)]
    # The last cell may be nearly all padding and hold no pixel's centre; it then gets the last pixel.
    starts = [min(start, size - cells + cell) for cell, start in enumerate(starts)]
    return list(zip(starts, [*starts[1:], size], strict=True))


def compose(original: Image.Image, edited: Image.Image, mask: Image.Image, edge: float) -> Image.Image:
    """`edited` where `mask` is 255, `original` where it is 0 (RGB, RGB and "L" of one size).

    The seam is a straight ramp about `edge` pixels wide, half of it on either side of the mask's edge; beyond it both
    pictures' pixels are exact. 0 gives a hard edge.
    """
    return Image.composite(edited, original, mask.filter(ImageFilter.BoxBlur(edge / 2)))
