"""Small copies of results, for lists of them."""

from io import BytesIO

from PIL import Image

from diffedit.pictures import Picture

MAX_SIDE = 320
"""Pixels of the longer side of a thumbnail, at most. A smaller picture keeps its size."""
QUALITY = 80


def encode_thumbnail(picture: Picture) -> bytes:
    """Return a small copy of a picture as a WebP file in sRGB, with its alpha."""
    image = (picture.layer or picture.image).copy()
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    if picture.icc_profile:
        image = _in_srgb(image, picture.icc_profile)
    buffer = BytesIO()
    image.save(buffer, "WEBP", quality=QUALITY)
    return buffer.getvalue()


def _in_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """Return the image in sRGB. It is converted, because a profile can be a hundred times as large as a thumbnail."""
    from PIL import ImageCms

    try:
        colours = ImageCms.profileToProfile(
            image.convert("RGB"), BytesIO(profile), ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except ImageCms.PyCMSError:
        return image
    if colours is None:
        return image
    colours.info.clear()
    if image.mode == "RGBA":
        colours.putalpha(image.getchannel("A"))
    return colours
