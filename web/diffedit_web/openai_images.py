"""What OpenAI's convention asks of pictures beyond our own: masks by alpha, sizes, file formats."""

import re
from io import BytesIO
from typing import BinaryIO, Literal, get_args

from PIL import Image

from diffedit import BadPicture, InvalidRequest
from diffedit.masks import is_black, mask_of_alpha
from diffedit.pictures import read_picture, read_result
from diffedit.uploads import picture_bytes

Format = Literal["png", "jpeg", "webp"]
FORMATS: tuple[str, ...] = get_args(Format)
_SIZE = re.compile(r"(\d{1,5})x(\d{1,5})")
LARGEST_SIDE = 4096
"""Pixels to which a result is scaled, at most. With `size="auto"` it has the size of the picture."""


def size_of(text: str) -> tuple[int, int] | None:
    """Return the size that `size` asks for; None for "auto", the picture's own. Raises InvalidRequest."""
    if text in ("", "auto"):
        return None
    found = _SIZE.fullmatch(text)
    if not found or not all(1 <= int(side) <= LARGEST_SIDE for side in found.groups()):
        raise InvalidRequest(f'size: give "auto" or WIDTHxHEIGHT, up to {LARGEST_SIDE} pixels each')
    return int(found[1]), int(found[2])


def check_proportions(picture: BinaryIO, size: tuple[int, int]) -> None:
    """Raise InvalidRequest if a picture would be distorted in this size. A pixel of rounding is allowed."""
    width, height = read_picture(picture_bytes(picture, "picture")).image.size
    picture.seek(0)
    if abs(size[1] - size[0] * height / width) > 1 and abs(size[0] - size[1] * width / height) > 1:
        raise InvalidRequest(f"size: the picture has {width}x{height} pixels; use auto, or the same proportions")


def drawn_mask(mask: BinaryIO) -> bytes:
    """Return a mask in OpenAI's convention, transparent where the picture may change, as one of ours.

    A mask without transparency is one of ours already.

    Raises:
        BadPicture: it cannot be decoded, or selects nothing in either convention.
    """
    data = picture_bytes(mask, "mask")
    if drawn := mask_of_alpha(data):
        return drawn
    if is_black(data):
        raise BadPicture("mask: it is opaque everywhere, so nothing may change; make transparent what may change")
    return data


def encoded(png: bytes, size: tuple[int, int] | None, kind: Format, quality: int) -> bytes:
    """Return a result in another size and format. Its colour profile is kept. A PNG of its own size stays as it is."""
    if size is None and kind == "png":
        return png
    picture = read_result(png)
    image = picture.layer or picture.image
    if size is not None and size != image.size:
        image = image.resize(size, Image.Resampling.LANCZOS)
    if kind == "jpeg" and image.mode != "RGB":
        flat = Image.new("RGB", image.size, "white")
        flat.paste(image, mask=image.getchannel("A"))
        image = flat
    buffer = BytesIO()
    if kind == "png":
        image.save(buffer, "PNG", icc_profile=picture.icc_profile)
    else:
        image.save(buffer, kind.upper(), quality=quality, icc_profile=picture.icc_profile)
    return buffer.getvalue()
