"""Decoding and encoding of pictures. The client checks them before it queues a job, the worker again."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from io import BytesIO

from PIL import Image, ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import MAX_TEXT_CHUNK, PngImageFile, PngInfo
from PIL.WebPImagePlugin import WebPImageFile

from diffedit.decoding import LimitedFile, limits, pixel_budget
from diffedit.errors import BadPicture, DiffEditError
from diffedit.picture_files import PictureFile, damaged, is_costly_profile, lean_file

MAX_PICTURE_BYTES = 32 * 2**20
"""Bytes of the file of a picture or a mask that a user sends, at most (32 MiB)."""
MAX_RESULT_BYTES = 512 * 2**20
"""Bytes of a result, at most. It is a PNG file, several times as large as the JPEG file that it was made from."""
MIN_SIDE = 8
"""Pixels of the shorter side of a picture, at least."""
MAX_ASPECT = 8
"""The longer side of a picture is at most this many times the shorter side."""

PROVENANCE = "diffedit"
"""The text chunk of a result that holds its manifest."""

Size = tuple[int, int]
"""Width and height in pixels, as in PIL."""

_GREY_MODES = {"1", "L", "LA", "I", "I;16"}
_OPENERS: dict[str, type[ImageFile.ImageFile]] = {"png": PngImageFile, "jpg": JpegImageFile, "webp": WebPImageFile}
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Picture:
    """A checked picture: RGB, 8 bits, upright, opaque.

    Attributes:
        icc_profile: the colour space of the RGB values; None means sRGB. Pass it on to `encode_png`.
        extension: the format of the file: "png", "jpg" or "webp".
        layer: the picture before it was flattened on white, in RGBA; None if no pixel is transparent.
        text: the text chunks of the PNG file, of a result that was read or that is written.
    """

    image: Image.Image
    icc_profile: bytes | None
    extension: str
    layer: Image.Image | None = None
    text: Mapping[str, str] = field(default_factory=dict)


def read_picture(data: bytes, *, what: str = "picture", max_bytes: int = MAX_PICTURE_BYTES) -> Picture:
    """Return the picture in `data` (PNG, JPEG or WebP). Its EXIF orientation is applied, its alpha flattened on white.

    RGB values and their ICC profile stay; `Picture.layer` keeps the alpha. CMYK and greyscale with a profile become
    sRGB, and so does a picture whose profile takes over 1 MiB, because readers of PNG refuse that. EXIF and ICC data
    that cannot be read are ignored.

    Raises:
        BadPicture: not a complete still picture in one of the three formats; larger than `max_bytes` or MAX_PIXELS; a
            side under MIN_SIDE pixels; one side over MAX_ASPECT times the other; too costly to decode. The message
            calls the picture `what`.
        DecodingBusy: this process decodes other pictures, and it was not this one's turn in time.
    """
    with decoded(data, what, max_bytes) as (source, file):
        return _picture(source, file)


def read_result(data: bytes) -> Picture:
    """Return a result, with its text chunks. It may take more bytes than a user's picture. Raises BadPicture."""
    with decoded(data, "result", MAX_RESULT_BYTES, keep_text=True) as (source, file):
        text = {key: str(value) for key, value in getattr(source, "text", {}).items()}
        return replace(_picture(source, file), text=text)


def _picture(source: ImageFile.ImageFile, file: PictureFile) -> Picture:
    flat, profile = _colour_managed(source, flatten(source, "white"))
    layer = _layer(source, flat, managed=profile is None)
    return Picture(upright(flat, file), profile, file.extension, layer and upright(layer, file))


def encode_png(image: Image.Image, *, icc_profile: bytes | None = None, text: Mapping[str, str] | None = None) -> bytes:
    """Return `image` as a PNG file with `text` in iTXt chunks (UTF-8). Keys have 1 to 79 Latin-1 characters."""
    chunks = PngInfo()
    for key, value in (text or {}).items():
        chunks.add_itxt(key, value)
    buffer = BytesIO()
    # Measured on photographs: level 1 takes a third less time than the default, and the file is a tenth larger.
    image.save(buffer, "PNG", compress_level=1, icc_profile=icc_profile, pnginfo=chunks)
    return buffer.getvalue()


def check_bytes(size: int, what: str, max_bytes: int = MAX_PICTURE_BYTES) -> None:
    """Raise BadPicture if a file of `size` bytes is empty or larger than `max_bytes`."""
    if not size:
        raise BadPicture(f"the {what} is empty; check the file")
    if size > max_bytes:
        raise BadPicture(
            f"the {what} takes more than {max_bytes // 2**20} MiB, the limit; scale it down or compress it"
        )


def by_size(size: Size) -> str:
    """Return a size as text."""
    return f"{size[0]} x {size[1]}"


@contextmanager
def decoded(
    data: bytes, what: str, max_bytes: int = MAX_PICTURE_BYTES, *, keep_text: bool = False
) -> Iterator[tuple[ImageFile.ImageFile, PictureFile]]:
    """Decode a file, and hold its share of the pixels that a process may decode at once until the context ends.

    Raises:
        BadPicture: as `read_picture`. DecodingBusy: other pictures are decoded.
    """
    check_bytes(len(data), what, max_bytes)
    file = lean_file(data, what, keep_text=keep_text)
    check_size(file.size, what)
    limited = LimitedFile(file.data, what)
    with pixel_budget().taken(file.size[0] * file.size[1]):
        try:
            yield _loaded(file, limited, what), file
        except (DiffEditError, MemoryError):
            raise  # A lack of memory says nothing about the picture: another machine may read it.
        except Exception as error:
            if limited.stopped_by:
                raise limited.stopped_by from None
            # On damaged files Pillow raises many kinds of errors, some only when the pixels are converted.
            raise damaged(what, str(error) or type(error).__name__) from error


def _loaded(file: PictureFile, limited: LimitedFile, what: str) -> ImageFile.ImageFile:
    # Image.open would apply Pillow's process-wide pixel limit before ours, with a warning or an error without the size.
    # And it takes the JPEG files of many phones, which contain a second picture, for animations.
    source = _OPENERS[file.extension](limited)
    if source.size != file.size:
        raise damaged(what, "it contains two sizes")
    if (frames := getattr(source, "n_frames", 1)) > 1:
        raise BadPicture(f"the {what} is an animation of {frames} frames; save one frame as a still picture")
    source.load()
    if file.profile:
        source.info["icc_profile"] = file.profile
    return source


def check_size(size: Size, what: str) -> None:
    """Raise BadPicture if a picture of this size is too large, too small or too narrow."""
    (width, height), most = size, limits().max_pixels
    if width * height > most:
        raise BadPicture(
            f"the {what} has {by_size(size)} = {width * height / 1e6:.1f} million pixels, over the limit of "
            f"{most / 1e6:g} million; scale it down"
        )
    if min(width, height) < MIN_SIDE:
        raise BadPicture(f"the {what} is {by_size(size)} pixels; both sides need at least {MIN_SIDE}")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise BadPicture(f"the {what} is {by_size(size)} pixels, one side over {MAX_ASPECT} times the other; crop it")


def _layer(source: Image.Image, flat: Image.Image, *, managed: bool) -> Image.Image | None:
    """Return the picture with its own alpha. Where its colours became sRGB (`managed`), they are those of `flat`."""
    if not source.has_transparency_data:
        return None
    layer = _eight_bits(source).convert("RGBA")
    alpha = layer.getchannel("A")
    if alpha.getextrema() == (255, 255):
        return None
    if managed and source.info.get("icc_profile"):
        layer = Image.merge("RGBA", (*flat.split(), alpha))
    layer.info.clear()
    return layer


def _eight_bits(source: Image.Image) -> Image.Image:
    image = source
    if source.mode.startswith("I"):
        # Pillow's own conversion clips 16-bit values at 255 instead of scaling them.
        wide, clear = source.convert("I"), source.info.get("transparency")
        image = wide.point([(value * 255 + 32767) // 65535 for value in range(65536)], "L")
        if clear is not None:
            image.putalpha(wide.point([255 * (value != clear) for value in range(65536)], "L"))
    return image


def flatten(source: Image.Image, background: str) -> Image.Image:
    """Return the picture in RGB and 8 bits, on a background of this colour."""
    image = _eight_bits(source)
    if not image.has_transparency_data:
        flat = image.convert("RGB")
    else:
        image = image.convert("RGBA")
        flat = Image.new("RGB", image.size, background)
        flat.paste(image, mask=image.getchannel("A"))
    # Otherwise the source's EXIF data, with the orientation, would be written when this picture is saved.
    flat.info.clear()
    return flat


def _colour_managed(source: Image.Image, flat: Image.Image) -> tuple[Image.Image, bytes | None]:
    profile = source.info.get("icc_profile")
    if not profile:
        return flat, None
    try:
        if is_costly_profile(profile):
            return flat, None
        from PIL import ImageCms

        space = ImageCms.ImageCmsProfile(BytesIO(profile)).profile.xcolor_space.strip()
        image = flat
        if source.mode == "CMYK":
            image = source
        elif space == "GRAY" and source.mode in _GREY_MODES:
            image = flat.convert("L")
        # Building the transform proves that the profile is complete and fits these pixels, even if it is not applied.
        keep = image is flat and len(profile) <= MAX_TEXT_CHUNK
        srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
        flags = ImageCms.Flags.NOOPTIMIZE if keep else ImageCms.Flags.NONE
        to_srgb = ImageCms.buildTransform(BytesIO(profile), srgb, image.mode, "RGB", flags=flags)
        if keep:
            return flat, profile
        managed = to_srgb.apply(image)
    except Exception:
        return flat, None
    managed.info.clear()
    return managed, None


def upright(image: Image.Image, file: PictureFile) -> Image.Image:
    """Return the image turned as the EXIF data of its file say."""
    turn = _UPRIGHT.get(file.orientation)
    return image if turn is None else image.transpose(turn)


def side_by_side(images: Sequence[Image.Image]) -> Image.Image:
    """Return the images in one row on white, in RGB, aligned at the top.

    An image whose longer side is under 256 pixels is enlarged by the whole factor that brings it to 256 or more.
    """
    gap, shown = 8, [_enlarged(flatten(image, "white")) for image in images]
    width = sum(image.width for image in shown) + gap * (len(shown) - 1)
    row = Image.new("RGB", (width, max(image.height for image in shown)), "white")
    left = 0
    for image in shown:
        row.paste(image, (left, 0))
        left += image.width + gap
    return row


def _enlarged(image: Image.Image) -> Image.Image:
    factor = max(1, math.ceil(256 / max(image.size)))
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
