"""Decoding of masks: where a picture may change."""

from PIL import Image, ImageChops

from diffedit.errors import BadPicture
from diffedit.pictures import Size, by_size, decoded, encode_png, flatten, upright


def read_mask(data: bytes, size: Size | None = None) -> Image.Image:
    """Return the mask in `data` in mode "L": 255 where it is 128 or more and the picture may change, 0 elsewhere.

    Transparent pixels count as black. But if the opaque pixels have colours, it is a picture of which parts were
    erased, and those are the parts that may change: that is OpenAI's convention.

    `size` is the size of the upright picture. Without it the size is not checked; use that only for a mask that was
    checked before it was stored.

    Raises:
        BadPicture: as read_picture; the size of the mask is not `size`; the mask selects nothing; it is transparent in
            parts and grey in others, so that either convention could be meant.
    """
    with decoded(data, "mask") as (source, file):
        # On white, as pictures are flattened, transparent pixels would mean "change this".
        grey = upright(_erased(source) or flatten(source, "black").convert("L"), file)
    if size is not None and grey.size != size:
        raise BadPicture(f"the mask is {by_size(grey.size)} pixels and the picture {by_size(size)}; use the same size")
    mask = grey.point([0] * 128 + [255] * 128)
    if mask.getbbox() is None:
        raise BadPicture("the mask selects nothing; paint opaque white where the picture may change")
    return mask


def mask_of_alpha(data: bytes) -> bytes | None:
    """Return a mask (PNG, "L") that is white where the picture in `data` is transparent; None if it is so nowhere.

    That is how OpenAI's API takes masks, whatever the colours of the opaque pixels are. Raises BadPicture.
    """
    with decoded(data, "mask") as (source, file):
        if not source.has_transparency_data:
            return None
        alpha = source.convert("RGBA").getchannel("A")
        clear = alpha.point([255] * 128 + [0] * 128)
        return encode_png(upright(clear, file)) if clear.getbbox() else None


def is_black(data: bytes) -> bool:
    """Return whether the mask in `data` selects nothing where it is opaque. Raises BadPicture."""
    with decoded(data, "mask") as (source, _):
        return flatten(source, "black").convert("L").point([0] * 128 + [255] * 128).getbbox() is None


def _erased(source: Image.Image) -> Image.Image | None:
    """Return white where parts of a picture were erased; None if the file is no such picture."""
    if not source.has_transparency_data:
        return None
    image = source.convert("RGBA")
    erased = image.getchannel("A").point([255] * 128 + [0] * 128)
    red, green, blue, opaque = *image.convert("RGB").split(), ImageChops.invert(erased)
    coloured = ImageChops.lighter(ImageChops.difference(red, green), ImageChops.difference(green, blue))
    grey = image.convert("L").point([0] * 64 + [255] * 128 + [0] * 64)
    if not (erased.getbbox() and opaque.getbbox()):
        return None
    if _share(coloured.point([0] * 32 + [255] * 224), opaque) > 0.1:
        return erased
    if _share(grey, opaque) > 0.1:
        raise BadPicture(
            "the mask is transparent in parts and grey in others, so it is not clear which parts to change; paint "
            "opaque white where the picture may change, and black elsewhere"
        )
    return None


def _share(marked: Image.Image, within: Image.Image) -> float:
    """Return which share of the pixels that are white in `within` is white in `marked`."""
    return ImageChops.darker(marked, within).histogram()[255] / within.histogram()[255]
