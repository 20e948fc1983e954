"""Changes of valid inputs, drawn at random: of bytes, of pictures, of JSON, of safetensors."""

import json
import random
import re
import struct
import zlib
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import Any

NUMBERS = [0, 1, 2, 7, 8, 127, 128, 255, 256, 1000, 32767, 32768, 65535, 65536, 2**24 - 1, 2**31 - 1, 2**31, 2**32 - 1]
"""Numbers at which programs go wrong."""
VALUES: list[Any] = [
    None, True, [], {}, "", "0", -1, 0, 1, 1e300, -1e300, 1e-300, 2**63, 2**64, 10**400, 0.5, "nan", "Infinity",
    "1e999", "-0", "\0", "\ud800", "a" * 100_000, [[]] * 1000, {"a": {"b": {"c": []}}}, "../../etc/passwd",
    "inputs/x", "é" * 300, [1, "2", None],
]  # fmt: skip
"""Values for the fields of JSON."""

Mutation = Callable[[random.Random, bytes], bytes]


def any_bytes(draw: random.Random, data: bytes) -> bytes:
    """Flip, insert, delete, repeat or overwrite bytes anywhere."""
    changed = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 4, 16))):
        place = draw.randrange(len(changed) + 1)
        length = draw.choice((1, 2, 4, 16, 256, 4096))
        match draw.randrange(7):
            case 0 if place < len(changed):
                changed[place] ^= 1 << draw.randrange(8)
            case 1:
                changed[place:place] = draw.randbytes(length)
            case 2:
                del changed[place : place + length]
            case 3:
                changed[place:place] = changed[place : place + length] * draw.choice((1, 2, 50))
            case 4:
                changed[place : place + length] = bytes([draw.choice((0, 255, draw.randrange(256)))]) * length
            case 5:
                form, number = draw.choice(("<H", ">H", "<I", ">I")), draw.choice(NUMBERS)
                value = struct.pack(form, number % 2 ** (8 * struct.calcsize(form)))
                changed[place : place + len(value)] = value
            case _:
                del changed[place:]
    return bytes(changed)


def png_chunks(draw: random.Random, data: bytes) -> bytes:
    """Change the chunks of a PNG file, with correct checksums: their order, number, lengths, header, and data."""
    chunks, position = [], 8
    while position + 12 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        chunks.append((data[position + 4 : position + 8], data[position + 8 : position + 8 + length]))
        position += 12 + length
    for _ in range(draw.choice((1, 1, 2, 3))):
        index = draw.randrange(len(chunks))
        kind, body = chunks[index]
        match draw.randrange(9):
            case 0:
                chunks[index:index] = [chunks[index]] * draw.choice((1, 10, 1000, 30_000))
            case 1:
                draw.shuffle(chunks)
            case 2:
                chunks[index] = (kind, any_bytes(draw, body))
            case 3 if kind == b"IDAT":
                chunks[index] = (kind, _inflated(draw, body))
            case 4:
                chunks[index:index] = [_costly_chunk(draw)] * draw.choice((1, 1, 1, 300))
            case 5 if len(chunks) > 1:
                del chunks[index]
            case 6:
                half = len(body) // 2
                chunks[index : index + 1] = [(kind, body[:half]), (kind, body[half:])]
            case 7:
                chunks = [(name, _header(draw, text) if name == b"IHDR" else text) for name, text in chunks]
            case _:
                chunks[index] = (draw.choice((b"IHDR", b"PLTE", b"tRNS", b"acTL", b"fcTL", b"fdAT", b"IEND")), body)
    return data[:8] + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def _header(draw: random.Random, body: bytes) -> bytes:
    """Change the dimensions of a PNG file, its depth, its colour type, or its interlacing."""
    if len(body) != 13:
        return body
    width, height, depth, colour, *rest, interlace = struct.unpack(">IIBBBBB", body)
    match draw.randrange(4):
        case 0:
            width, height = draw.choice(((8000, 5000), (5000, 8000), (width * 2, height * 2), (width, height * 7)))
        case 1:
            depth = draw.choice((1, 2, 4, 8, 16, 3))
        case 2:
            colour = draw.choice((0, 2, 3, 4, 6, 1))
        case _:
            interlace = 1 - min(interlace, 1)
    return struct.pack(">IIBBBBB", width % 2**32, height % 2**32, depth, colour, *rest, interlace)


def _inflated(draw: random.Random, body: bytes) -> bytes:
    """Compress other pixels: too many, too few, or with other filters."""
    try:
        pixels = zlib.decompress(body)
    except zlib.error:
        return body
    more = bytes([draw.randrange(6)]) * draw.choice((1, 10**5, 10**6, 10**7))
    return zlib.compress(draw.choice((pixels + more, pixels[: len(pixels) // 2], more, any_bytes(draw, pixels))), 1)


@cache
def _bomb(size: int) -> bytes:
    return zlib.compress(bytes(size), 9)


@cache
def _exif(tags: int, kind: int) -> bytes:
    """Return EXIF data whose tags all have the same long value."""
    table = b"".join(struct.pack("<HHII", tag, kind, 10**5, 10 + 12 * tags) for tag in range(tags))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", tags) + table + bytes(10**5)


def _costly_chunk(draw: random.Random) -> tuple[bytes, bytes]:
    bomb = _bomb(draw.choice((10**4, 10**6, 10**8)))
    return draw.choice(
        (
            (b"zTXt", b"key\0\0" + bomb),
            (b"iTXt", b"key\0\1\0\0\0" + bomb),
            (b"iCCP", b"icc\0\0" + bomb),
            (b"tEXt", b"key\0" + b"v" * draw.choice((10, 10**6))),
            (b"eXIf", _exif(draw.choice((10, 5000, 65_000)), draw.choice((2, 7, 12)))),
            (b"acTL", struct.pack(">II", draw.choice(NUMBERS) % 2**32, 0)),
            (b"tRNS", draw.randbytes(draw.choice((1, 2, 6, 256, 1000)))),
        )
    )


_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")


def jpeg_segments(draw: random.Random, data: bytes) -> bytes:
    """Change the segments of a JPEG file: their order, number and content, frame, scans, padding, restarts."""
    starts = [2, *(marker.start() for marker in _MARKER.finditer(data, 3)), len(data)]
    parts = [data[begin:end] for begin, end in pairwise(starts)]
    for _ in range(draw.choice((1, 1, 2, 3))):
        index = draw.randrange(len(parts))
        match draw.randrange(8):
            case 0:
                parts[index:index] = [parts[index]] * draw.choice((1, 10, 100, 3000))
            case 1 if len(parts) > 1:
                del parts[index]
            case 2:
                parts[index] = any_bytes(draw, parts[index])
            case 3:
                parts.insert(index, b"\xff" * draw.choice((1, 100, 10**6)) + draw.choice((b"", b"\0", b"\xd0")))
            case 4:
                other = draw.randrange(len(parts))
                parts[index], parts[other] = parts[other], parts[index]
            case 5:
                parts = [_frame(draw, part) for part in parts]
            case 6:
                kind, size = (
                    draw.choice((0xE0, 0xE1, 0xE2, 0xED, 0xEE, 0xFE, 0xDD, 0xDB, 0xC4)),
                    draw.choice((2, 4, 100, 65_535)),
                )
                body = draw.choice((b"Exif\0\0", b"ICC_PROFILE\0\1\1", b"JFIF\0", b"Adobe", b"MPF\0", b"")).ljust(
                    size - 2, b"\0"
                )
                parts[index:index] = [struct.pack(">BBH", 255, kind, size) + body[: size - 2]] * draw.choice(
                    (1, 1, 300)
                )
            case _:
                parts[index] += draw.randbytes(draw.choice((1, 100, 10_000)))
    return data[:2] + b"".join(parts)


def _frame(draw: random.Random, part: bytes) -> bytes:
    """Change the dimensions, the kind or the sampling of a JPEG frame."""
    if part[:2] not in (b"\xff\xc0", b"\xff\xc1", b"\xff\xc2") or len(part) < 12:
        return part
    changed = bytearray(part)
    match draw.randrange(3):
        case 0:
            changed[5:9] = struct.pack(
                ">HH", *draw.choice(((5000, 8000), (8000, 5000), (2000, 2000), (0, 100), (65535, 600)))
            )
        case 1:
            changed[1] = draw.choice((0xC0, 0xC1, 0xC2, 0xC3, 0xC9, 0xCA, 0xCB))
        case _:
            changed[11] = draw.choice((0x11, 0x22, 0x44, 0x14, 0x41, 0x33))
    return bytes(changed)


def webp_chunks(draw: random.Random, data: bytes) -> bytes:
    """Change the chunks of a WebP file: their order, number, content, and its canvas."""
    chunks, position = [], 12
    while position + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, position)
        chunks.append((kind, data[position + 8 : position + 8 + length]))
        position += 8 + length + length % 2
    for _ in range(draw.choice((1, 1, 2, 3))):
        index = draw.randrange(len(chunks))
        kind, body = chunks[index]
        match draw.randrange(6):
            case 0:
                chunks[index:index] = [chunks[index]] * draw.choice((1, 10, 1000))
            case 1 if len(chunks) > 1:
                del chunks[index]
            case 2:
                chunks[index] = (kind, any_bytes(draw, body))
            case 3:
                flags, sides = draw.randrange(64), [draw.choice((63, 7999, 4999, 16383, 2**24 - 1)) for _ in range(2)]
                canvas = bytes((flags, 0, 0, 0)) + b"".join(side.to_bytes(3, "little") for side in sides)
                chunks.insert(0, (b"VP8X", canvas))
            case 4:
                extra = draw.choice((b"EXIF", b"ICCP", b"XMP ", b"ANIM", b"ANMF", b"ALPH", b"junk"))
                chunks.insert(index, (extra, draw.randbytes(draw.choice((0, 6, 16, 1000, 10**5)))))
            case _:
                side = draw.choice((0, 1, 4999, 7999, 16383))
                place = draw.choice((1, 3, 6, 8))
                chunks[index] = (kind, body[:place] + struct.pack("<H", side) + body[place + 2 :])
    content = b"WEBP" + b"".join(
        kind + struct.pack("<I", len(body)) + body + bytes(len(body) % 2) for kind, body in chunks
    )
    return b"RIFF" + struct.pack("<I", len(content)) + content


def picture(draw: random.Random, data: bytes) -> bytes:
    """Change a picture by its structure, or its bytes."""
    if draw.random() < 0.25:
        return any_bytes(draw, data)
    if data.startswith(b"\x89PNG"):
        return png_chunks(draw, data)
    return jpeg_segments(draw, data) if data.startswith(b"\xff\xd8") else webp_chunks(draw, data)


def json_value(draw: random.Random, value: Any) -> Any:
    """Change one value somewhere in `value`: its type, its size, its name, or its presence."""
    if isinstance(value, dict) and value and draw.random() < 0.9:
        key = draw.choice(list(value))
        match draw.randrange(6):
            case 0:
                return {name: each for name, each in value.items() if name != key}
            case 1:
                return {**value, str(draw.choice(VALUES))[:100]: value[key]}
            case 2:
                return {**value, key: draw.choice(VALUES)}
            case _:
                return {**value, key: json_value(draw, value[key])}
    if isinstance(value, list) and value and draw.random() < 0.9:
        place = draw.randrange(len(value))
        if draw.random() < 0.3:
            return value * draw.choice((0, 2, 1000 if len(json.dumps(value)) < 1000 else 3))
        return [*value[:place], json_value(draw, value[place]), *value[place + 1 :]]
    if isinstance(value, str) and value[:1] in ("{", "[") and draw.random() < 0.8:
        return json_text(draw, value.encode(errors="replace")).decode(errors="replace")
    if isinstance(value, str) and draw.random() < 0.3:
        return any_bytes(draw, value.encode(errors="replace")).decode("utf-8", "replace")
    return draw.choice(VALUES)


def json_text(draw: random.Random, data: bytes) -> bytes:
    """Change a JSON text by a value, or by its bytes."""
    try:
        value = json.loads(data)
    except ValueError:
        return any_bytes(draw, data)
    if draw.random() < 0.15:
        return any_bytes(draw, data)
    for _ in range(draw.choice((1, 1, 2, 5))):
        value = json_value(draw, value)
    return json.dumps(value).encode()


def safetensors(draw: random.Random, data: bytes) -> bytes:
    """Change a safetensors file: its header as JSON, the length of the header, or the values."""
    length = int.from_bytes(data[:8], "little")
    header, values = data[8 : 8 + length], data[8 + length :]
    match draw.randrange(5):
        case 0:
            return any_bytes(draw, data)
        case 1:
            values = any_bytes(draw, values)
        case 2:
            fields = json.loads(header) if header[:1] == b"{" else {}
            for field in fields.values() if draw.random() < 0.8 else ():
                field["dtype"] = draw.choice(
                    ("F32", "F16", "BF16", "F64", "I64", "U8", "BOOL", "F8_E4M3", "F8_E5M2", "C64")
                )
                field["shape"] = draw.choice(([0], [], [1] * 100, [2**40, 0], [2**32, 2**32], field["shape"][::-1]))
            header = json.dumps(fields).encode()
        case _:
            header = json_text(draw, header)
    claimed = len(header) if draw.random() < 0.9 else draw.choice(NUMBERS)
    return struct.pack("<Q", claimed) + header + values
