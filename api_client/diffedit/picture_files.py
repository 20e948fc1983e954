"""What is in the file of a picture, seen before anything is decoded.

A file of 100 KB can hold thousands of scans or segments, each of which costs a decoder a pass over all pixels or over
all data before it. Here they are counted, and the decoder gets a file without the metadata that nobody needs.
"""

import re
import zlib

from diffedit.errors import BadPicture

MAX_SCANS = 100
"""Scans of a JPEG file, at most. Programs write up to about 20."""
MAX_SCANNED_PIXELS = 1_000_000_000
"""Pixels times scans of a JPEG file, at most: each scan is a pass over all of them."""
MAX_PARTS = 20_000
"""Segments of a JPEG file or chunks of a PNG file, at most."""
MAX_PROFILE_BYTES = 2**23
"""Bytes of an ICC profile, at most. A larger one is ignored."""

_MARKER = re.compile(rb"\xff+([\x01-\xcf\xd8-\xfe])")
"""A marker of JPEG that is neither a stuffed byte nor a restart within a scan."""
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_START_OF_SCAN, _END_OF_IMAGE, _EXIF, _ICC, _COMMENT = 0xDA, 0xD9, 0xE1, 0xE2, 0xFE
_WITHOUT_LENGTH = frozenset({0x01, 0xD8, _END_OF_IMAGE})
_TEXTS = frozenset({b"tEXt", b"zTXt", b"iTXt"})


def lean_jpeg(data: bytes, what: str) -> bytes:
    """Return a JPEG file without its metadata, except for its first EXIF segment and its ICC profile.

    What follows the end of the image is left out: many phones append a second picture.

    Raises:
        BadPicture: it has more scans or segments than a decoder should have to read.
    """
    parts, position, scans, pixels, has_exif = [data[:2]], 2, 0, 0, False
    for _ in range(MAX_PARTS):
        marker = _MARKER.search(data, position)
        if not marker:
            return b"".join(parts)
        kind, begin = marker[1][0], marker.end() - 2
        length = 0 if kind in _WITHOUT_LENGTH else int.from_bytes(data[begin + 2 : begin + 4], "big")
        position = begin + 2 + length
        if kind == _END_OF_IMAGE:
            return b"".join([*parts, b"\xff\xd9"])
        if kind in _FRAMES:
            height, width = (int.from_bytes(data[begin + at : begin + at + 2], "big") for at in (5, 7))
            pixels = max(pixels, width * height)
        if kind == _START_OF_SCAN:
            scans += 1
            _check_scans(scans, pixels, what)
            # The data of the scan last until the next marker.
            after = _MARKER.search(data, position)
            position = after.start() if after else len(data)
        is_exif = kind == _EXIF and data.startswith(b"Exif\0\0", begin + 4)
        if (is_exif and not has_exif) or not _is_metadata(kind) or _is_profile(kind, data, begin):
            parts.append(data[begin:position])
        has_exif = has_exif or is_exif
    raise BadPicture(f"the {what} has more than {MAX_PARTS} segments; open it in an image program and save it again")


def lean_png(data: bytes, what: str) -> tuple[bytes, bytes | None]:
    """Return a PNG file without its texts, its ICC profile and what follows its end, and the profile.

    Raises:
        BadPicture: it has more chunks than a decoder should have to read.
    """
    parts, position, profile = [data[:8]], 8, None
    for _ in range(MAX_PARTS):
        head = data[position : position + 8]
        if len(head) < 8:
            return b"".join(parts), profile
        begin, position = position, position + 12 + int.from_bytes(head[:4], "big")
        if head[4:] == b"iCCP":
            profile = profile or _inflated_profile(data[begin + 8 : position - 4])
        elif head[4:] not in _TEXTS:
            parts.append(data[begin:position])
        if head[4:] == b"IEND":
            return b"".join(parts), profile
    raise BadPicture(f"the {what} has more than {MAX_PARTS} chunks; open it in an image program and save it again")


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


def _inflated_profile(chunk: bytes) -> bytes | None:
    _, _, body = chunk.partition(b"\0")
    try:
        inflater = zlib.decompressobj()
        profile = inflater.decompress(body[1:], MAX_PROFILE_BYTES)
    except zlib.error:
        return None
    return profile if inflater.eof else None
