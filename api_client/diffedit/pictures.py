"""Picture bytes in, pictures out: what the client checks before anything is queued and the worker checks again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO

from PIL import ExifTags, Image, ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile, PngInfo
from PIL.WebPImagePlugin import WebPImageFile

from diffedit.errors import BadPicture

MAX_BYTES = 32 * 2**20
"""Of a picture that a user sends."""
MAX_RESULT_BYTES = 512 * 2**20
"""Of a picture that we made: as PNG, what came as a JPEG of 32 MiB takes several times as much."""
MAX_PIXELS = 40_000_000
MIN_SIDE = 8
MAX_ASPECT = 8

Size = tuple[int, int]
"""Width and height in pixels, as in PIL."""

_GREY_MODES = {"1", "L", "LA", "I", "I;16"}
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
    """A picture that passed: RGB, 8 bit, upright, opaque.

    `icc_profile` says what the RGB values mean, None for sRGB; hand it to `encode_png`. `extension` names the format
    that the bytes were in: "png", "jpg" or "webp". `text` is written into the PNG as text chunks.
    """

    image: Image.Image
    icc_profile: bytes | None
    extension: str
    text: Mapping[str, str] = field(default_factory=dict)


def read_picture(data: bytes, *, what: str = "picture", max_bytes: int = MAX_BYTES) -> Picture:
    """The picture in `data` (PNG, JPEG or WebP), with EXIF orientation applied and alpha flattened on white.

    RGB values stay as they are and their ICC profile is handed on; CMYK and greyscale with a profile become sRGB. EXIF
    and ICC data that cannot be read are ignored.

    Raises:
        BadPicture: not a whole still picture in one of the three formats; over `max_bytes` or MAX_PIXELS; a side under
            MIN_SIDE pixels; one side over MAX_ASPECT times the other. The message calls the picture `what`.
    """
    source, extension = _decode(data, what, max_bytes)
    flat, profile = _colour_managed(source, _flatten(source, "white"))
    return Picture(_upright(flat, source), profile, extension)


def read_result(data: bytes) -> Picture:
    """A picture that we made, which may take more bytes than one that a user sends. Raises BadPicture."""
    return read_picture(data, what="result", max_bytes=MAX_RESULT_BYTES)


def read_mask(data: bytes, size: Size | None = None) -> Image.Image:
    """The mask in `data` as mode "L" of 0 and 255; 255 where the picture may change, that is where it is 128 or more.

    Transparent counts as black: on white, as pictures are flattened, it would come to mean "change this". Leave `size`,
    that of the upright picture, out only for a mask that was checked before it was stored.

    Raises:
        BadPicture: as read_picture, or the mask is not of `size`, or it selects nothing.
    """
    source, _ = _decode(data, "mask")
    grey = _upright(_flatten(source, "black"), source).convert("L")
    if size is not None and grey.size != size:
        raise BadPicture(f"the mask is {_by(grey.size)} pixels and the picture {_by(size)}; make the mask as large")
    mask = grey.point([0] * 128 + [255] * 128)
    if mask.getbbox() is None:
        raise BadPicture("the mask selects nothing; paint white, and not transparent, where the picture may change")
    return mask


def encode_png(image: Image.Image, *, icc_profile: bytes | None = None, text: Mapping[str, str] | None = None) -> bytes:
    """`image` as PNG with `text` in iTXt chunks (UTF-8). Keys have 1 to 79 Latin-1 characters."""
    chunks = PngInfo()
    for key, value in (text or {}).items():
        chunks.add_itxt(key, value)
    buffer = BytesIO()
    # On photographs level 1 is quicker than the default by a third and larger by a tenth.
    image.save(buffer, "PNG", compress_level=1, icc_profile=icc_profile, pnginfo=chunks)
    return buffer.getvalue()


def read_text(data: bytes) -> dict[str, str]:
    """The text chunks of a PNG; none for JPEG and WebP. Raises BadPicture as read_picture."""
    source, _ = _decode(data, "picture", MAX_RESULT_BYTES)
    return {key: str(value) for key, value in source.text.items()} if isinstance(source, PngImageFile) else {}


def _by(size: Size) -> str:
    return f"{size[0]} x {size[1]}"


def _decode(data: bytes, what: str, max_bytes: int = MAX_BYTES) -> tuple[ImageFile.ImageFile, str]:
    if not data:
        raise BadPicture(f"the {what} is empty; check the file")
    if len(data) > max_bytes:
        raise BadPicture(
            f"the {what} takes more than {max_bytes // 2**20} MiB, the limit; scale it down or compress it"
        )
    opener, extension = _opener(data, what)
    try:
        source = opener(BytesIO(data))
        _check_header(source, what)
        source.load()
    except (BadPicture, MemoryError):
        raise  # A machine out of memory is not the picture's fault: the same bytes may do well elsewhere.
    except Image.DecompressionBombError as error:
        # From WebP alone, which compares the size with Pillow's own limit before it lets us see it.
        raise BadPicture(f"the {what} is too large ({error}); scale it down") from error
    except Exception as error:
        # PIL's decoders let nearly anything escape on foreign bytes: OSError, SyntaxError, ValueError, struct.error...
        raise BadPicture(
            f"the {what} cannot be decoded, it seems damaged or cut short ({error}); save or fetch it again"
        ) from error
    return source, extension


def _opener(data: bytes, what: str) -> tuple[type[ImageFile.ImageFile], str]:
    # Not Image.open: it puts Pillow's process-wide pixel limit before ours, as a warning or an error without the size,
    # and takes the JPEGs of many phones, which carry a second picture, for animations.
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return PngImageFile, "png"
    if data.startswith(b"\xff\xd8\xff"):
        return JpegImageFile, "jpg"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return WebPImageFile, "webp"
    raise BadPicture(f"the {what} is not a PNG, JPEG or WebP file; convert it to one of them")


def _check_header(source: ImageFile.ImageFile, what: str) -> None:
    (width, height), frames = source.size, getattr(source, "n_frames", 1)
    if width * height > MAX_PIXELS:
        raise BadPicture(
            f"the {what} has {_by(source.size)} = {width * height / 1e6:.1f} million pixels, over the limit of "
            f"{MAX_PIXELS / 1e6:g} million; scale it down"
        )
    if min(width, height) < MIN_SIDE:
        raise BadPicture(f"the {what} is {_by(source.size)} pixels; both sides need at least {MIN_SIDE}")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise BadPicture(
            f"the {what} is {_by(source.size)} pixels, one side over {MAX_ASPECT} times the other; crop it"
        )
    if frames > 1:
        raise BadPicture(f"the {what} is an animation of {frames} frames; save one frame as a still picture")


def _flatten(source: Image.Image, background: str) -> Image.Image:
    image = source
    if source.mode.startswith("I"):
        # PIL's own conversion clips 16-bit values at 255 instead of scaling them.
        wide, clear = source.convert("I"), source.info.get("transparency")
        image = wide.point([(value * 255 + 32767) // 65535 for value in range(65536)], "L")
        if clear is not None:
            image.putalpha(wide.point([255 * (value != clear) for value in range(65536)], "L"))
    if not image.has_transparency_data:
        flat = image.convert("RGB")
    else:
        image = image.convert("RGBA")
        flat = Image.new("RGB", image.size, background)
        flat.paste(image, mask=image.getchannel("A"))
    # Whoever saves this picture would otherwise write the source's EXIF, orientation included, along with it.
    flat.info.clear()
    return flat


def _colour_managed(source: Image.Image, flat: Image.Image) -> tuple[Image.Image, bytes | None]:
    profile = source.info.get("icc_profile")
    if not profile:
        return flat, None
    try:
        from PIL import ImageCms

        space = ImageCms.ImageCmsProfile(BytesIO(profile)).profile.xcolor_space.strip()
        image = flat
        if source.mode == "CMYK":
            image = source
        elif space == "GRAY" and source.mode in _GREY_MODES:
            image = flat.convert("L")
        # Building the transform proves the profile whole and fit for these pixels, even where it is only handed on.
        srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
        to_srgb = ImageCms.buildTransform(BytesIO(profile), srgb, image.mode, "RGB")
        if image is flat:
            return flat, profile
        managed = to_srgb.apply(image)
    except Exception:
        return flat, None
    managed.info.clear()
    return managed, None


def _upright(flat: Image.Image, source: Image.Image) -> Image.Image:
    # Not ImageOps.exif_transpose: it writes the EXIF data anew, and so fails on tags that have nothing to do with this.
    try:
        turn = _UPRIGHT.get(source.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:
        turn = None
    return flat if turn is None else flat.transpose(turn)


def side_by_side(
    images: Sequence[Image.Image], gap: int = 8, background: str = "white", *, show: int = 256
) -> Image.Image:
    """The images in one row, RGB, aligned at the top and `gap` pixels apart.

    Images under `show` pixels on their longer side are enlarged by the whole factor that brings them there.
    """
    shown = []
    for image in images:
        times = max(1, -(-show // max(image.size)))
        larger = (image.width * times, image.height * times)
        shown.append(image.convert("RGB").resize(larger, Image.Resampling.NEAREST))
    width = sum(image.width for image in shown) + gap * (len(shown) - 1)
    row = Image.new("RGB", (width, max(image.height for image in shown)), background)
    left = 0
    for image in shown:
        row.paste(image, (left, 0))
        left += image.width + gap
    return row
