"""What is in the file of a picture, seen before anything is decoded.

A file of 100 KB can hold thousands of scans, segments or tags, each of which costs a decoder a pass over all pixels or
over all data before it. Here they are counted, and the decoder gets a file without the metadata that nobody needs.
"""

import re
import struct
import zlib
from dataclasses import dataclass

from diffedit.errors import BadPicture

MAX_SCANS = 100
"""Scans of a JPEG file, at most. Programs write up to about 20."""
MAX_SCANNED_PIXELS = 1_000_000_000
"""Pixels times scans of a JPEG file, at most: each scan is a pass over all of them."""
MAX_PARTS = 20_000
"""Segments of a JPEG file or chunks of a PNG file, at most."""
MAX_PROFILE_BYTES = 2**23
"""Bytes of an ICC profile, at most. A larger one is ignored."""

_MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")
"""A marker of JPEG that is neither a stuffed byte nor a restart within a scan."""
_PADDING = re.compile(rb"\xff{2,}")
"""A byte of 255 may be repeated before a marker, without a limit."""
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_READABLE_FRAMES = frozenset({0xC0, 0xC1, 0xC2})
_START_OF_SCAN, _END_OF_IMAGE, _EXIF, _ICC, _COMMENT = 0xDA, 0xD9, 0xE1, 0xE2, 0xFE
_WITHOUT_LENGTH = frozenset({0x01, 0xD8, _END_OF_IMAGE})
_NUMBERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 11: "f", 12: "d"}
"""The types of EXIF that hold one number."""
_TEXTS = frozenset({b"tEXt", b"zTXt", b"iTXt"})


@dataclass(frozen=True)
class PictureFile:
    """The file of a picture for a decoder, and what it says of itself.

    Attributes:
        extension: "png", "jpg" or "webp".
        size: width and height in pixels, before the orientation is applied.
        orientation: EXIF's number, 1 to 8; 1 if there is none.
        profile: the ICC profile, if it is not in `data` any more.
    """

    extension: str
    data: bytes
    size: tuple[int, int]
    orientation: int = 1
    profile: bytes | None = None


def lean_file(data: bytes, what: str, *, keep_text: bool = False) -> PictureFile:
    """Return the file without its metadata, as far as a decoder would read them. Only PNG keeps texts, if asked to.

    Raises:
        BadPicture: it is not a PNG, JPEG or WebP file, its header is damaged, or it has more scans, segments or chunks
            than a decoder should have to read.
    """
    try:
        if data.startswith(b"\x89PNG\r\n\x1a\n"):
            return _lean_png(data, what, keep_text)
        if data.startswith(b"\xff\xd8\xff"):
            return _lean_jpeg(data, what)
        if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            return _webp(data)
    except struct.error as error:
        raise damaged(what, "its header is incomplete") from error
    raise BadPicture(f"the {what} is not a PNG, JPEG or WebP file; convert it to one of them")


def damaged(what: str, reason: str) -> BadPicture:
    """Return the error for a file that cannot be decoded."""
    return BadPicture(
        f"the {what} cannot be decoded, it seems damaged or incomplete ({reason}); save or download it again"
    )


def _lean_jpeg(data: bytes, what: str) -> PictureFile:
    """What follows the end of the image is left out: many phones append a second picture."""
    parts, position, scans, size, orientation = [data[:2]], 2, 0, (0, 0), 0
    for _ in range(MAX_PARTS):
        marker = _MARKER.search(data, position)
        if not marker or marker[1][0] == _END_OF_IMAGE:
            if size == (0, 0):
                raise damaged(what, "it has no frame")
            parts.append(b"\xff\xd9" if marker else b"")
            return PictureFile("jpg", b"".join(parts), size, orientation or 1)
        kind, begin = marker[1][0], marker.start()
        length = 0 if kind in _WITHOUT_LENGTH else int.from_bytes(data[begin + 2 : begin + 4], "big")
        position = begin + 2 + length
        if kind in _FRAMES:
            size = _frame_size(kind, data, begin, what, size)
        if not _is_metadata(kind) or _is_profile(kind, data, begin):
            parts.append(data[begin:position])
        if kind == _START_OF_SCAN:
            scans += 1
            _check_scans(scans, size[0] * size[1], what)
            # The data of the scan last until the next marker. Pillow would read long padding again and again.
            after = _MARKER.search(data, position)
            begin, position = position, after.start() if after else len(data)
            parts.append(_PADDING.sub(b"\xff", data[begin:position]))
        if kind == _EXIF and data.startswith(b"Exif\0\0", begin + 4):
            orientation = orientation or orientation_in(data[begin + 10 : position])
    raise BadPicture(f"the {what} has more than {MAX_PARTS} segments; open it in an image program and save it again")


def _lean_png(data: bytes, what: str, keep_text: bool) -> PictureFile:
    parts, position, profile, orientation = [data[:8]], 8, None, 1
    size = struct.unpack_from(">II", data, 16)
    for _ in range(MAX_PARTS):
        head = data[position : position + 8]
        kind, begin, position = head[4:], position, position + 12 + int.from_bytes(head[:4], "big")
        if kind == b"iCCP":
            # Only the first one counts: each can inflate to the limit from a thousandth of it.
            profile = _inflated_profile(data[begin + 8 : position - 4]) if profile is None else profile
        elif kind == b"eXIf":
            orientation = orientation_in(data[begin + 8 : position - 4])
        elif keep_text or kind not in _TEXTS:
            parts.append(data[begin:position])
        if kind == b"IEND" or position >= len(data):
            return PictureFile("png", b"".join(parts), size, orientation, profile or None)
    raise BadPicture(f"the {what} has more than {MAX_PARTS} chunks; open it in an image program and save it again")


def _webp(data: bytes) -> PictureFile:
    """libwebp reads the first chunk of each kind and passes over the others, so nothing is left out."""
    kind, orientation = data[12:16], 1
    if kind == b"VP8X":
        size = 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    elif kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        size = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    else:
        width, height = struct.unpack_from("<HH", data, 26)
        size = width & 0x3FFF, height & 0x3FFF
    position = 12
    for _ in range(MAX_PARTS):
        if kind != b"VP8X" or position + 8 > len(data):
            break
        name, length = struct.unpack_from("<4sI", data, position)
        if name == b"EXIF":
            orientation = orientation_in(data[position + 8 : position + 8 + length])
            break
        position += 8 + length + length % 2
    return PictureFile("webp", data, size, orientation)


def orientation_in(exif: bytes) -> int:
    """Return the orientation in EXIF data, and 1 if there is none. Nothing else in them is read.

    Pillow reads the values of all tags, of which many may share the same bytes, and warns of each one that is damaged.
    """
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    try:
        (offset,) = struct.unpack_from(f"{order or '='}I", exif, 4)
        (tags,) = struct.unpack_from(f"{order or '='}H", exif, offset)
        for number in range(tags if order else 0):
            tag, kind, count = struct.unpack_from(f"{order}HHI", exif, offset + 2 + 12 * number)
            if tag == 0x0112 and count == 1 and kind in _NUMBERS:
                place = offset + 10 + 12 * number
                if _NUMBERS[kind] == "d":
                    (place,) = struct.unpack_from(f"{order}I", exif, place)
                return int(struct.unpack_from(f"{order}{_NUMBERS[kind]}", exif, place)[0])
    except (struct.error, ValueError, OverflowError):
        pass
    return 1


def is_costly_profile(profile: bytes) -> bool:
    """Return whether an ICC profile is too large, or has elements of which millions can share the same bytes.

    Building a transform from them takes minutes. Only version 4.3 has them (multiProcessElements), beside tables that
    all programs read.
    """
    (tags,) = struct.unpack_from(">I", profile, 128)
    places = (struct.unpack_from(">4sII", profile, 132 + 12 * number)[1] for number in range(min(tags, 1000)))
    return len(profile) > MAX_PROFILE_BYTES or any(profile[place : place + 4] == b"mpet" for place in places)


def _frame_size(kind: int, data: bytes, begin: int, what: str, known: tuple[int, int]) -> tuple[int, int]:
    if known != (0, 0):
        raise damaged(what, "it has more than one frame")
    if kind not in _READABLE_FRAMES:
        raise BadPicture(f"the {what} is a JPEG file of a rare kind; save it again as a baseline JPEG or a PNG")
    height, width = struct.unpack_from(">HH", data, begin + 5)
    return width, height


def _check_scans(scans: int, pixels: int, what: str) -> None:
    if scans > MAX_SCANS or scans * pixels > MAX_SCANNED_PIXELS:
        raise BadPicture(
            f"the {what} is a JPEG file of more than {scans - 1} scans, too many for its {pixels / 1e6:.1f} million "
            "pixels; save it again as a baseline JPEG or a PNG"
        )


def _is_metadata(kind: int) -> bool:
    """Return whether a decoder does without such a segment. It needs those of JFIF and of Adobe."""
    return kind == _COMMENT or kind in range(_EXIF, 0xEE) or kind == 0xEF


def _is_profile(kind: int, data: bytes, begin: int) -> bool:
    return kind == _ICC and data.startswith(b"ICC_PROFILE\0", begin + 4)


def _inflated_profile(chunk: bytes) -> bytes:
    """Return the profile in a chunk; nothing if it is damaged or too large."""
    _, _, body = chunk.partition(b"\0")
    try:
        inflater = zlib.decompressobj()
        profile = inflater.decompress(body[1:], MAX_PROFILE_BYTES)
    except zlib.error:
        return b""
    return profile if inflater.eof else b""
