"""ICC profiles to test with."""

import random
import struct

from PIL import ImageCms

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def icc(space: bytes, kind: bytes, connection: bytes, tag: bytes, body: bytes) -> bytes:
    """Return a profile of one tag and a white point, which is the least that lcms accepts."""
    d50 = struct.pack(">III", 0xF6D6, 0x10000, 0xD32D)
    tags, table, offset = [(tag, body), (b"wtpt", b"XYZ \0\0\0\0" + d50)], b"", 128 + 4 + 24
    for name, content in tags:
        table += name + struct.pack(">II", offset, len(content))
        offset += len(content)
    header = struct.pack(">I", offset) + b"lcms" + struct.pack(">I", 0x02400000) + kind + space + connection
    header += bytes(12) + b"acsp" + bytes(28) + d50 + bytes(48)
    return header + struct.pack(">I", 2) + table + b"".join(content for _, content in tags)


LINEAR_GREY = icc(b"GRAY", b"mntr", b"XYZ ", b"kTRC", b"curv" + bytes(8))


def cmyk_that_prints_grey() -> bytes:
    """Return a CMYK profile whose inks are all grey, so that a conversion without it gives other colours."""
    matrix = b"".join(struct.pack(">i", 65536 * (row == column)) for row in range(3) for column in range(3))
    grid = b"".join(bytes((255 - 60 * bin(inks).count("1"), 128, 128)) for inks in range(16))
    lut = b"mft1" + bytes(4) + bytes((4, 3, 2, 0)) + matrix + bytes(range(256)) * 4 + grid + bytes(range(256)) * 3
    return icc(b"CMYK", b"prtr", b"Lab ", b"A2B0", lut)


def grown(profile: bytes, size: int) -> bytes:
    """Return the profile, still valid, with one private tag of `size` random bytes more."""
    (count,) = struct.unpack_from(">I", profile, 128)
    begin = 132 + 12 * count
    table = b""
    for tag in range(count):
        name, offset, length = struct.unpack_from(">4sII", profile, 132 + 12 * tag)
        table += struct.pack(">4sII", name, offset + 12, length)
    body, private = profile[begin:], b"data\0\0\0\0\0\0\0\1" + random.Random(0).randbytes(size)
    table += struct.pack(">4sII", b"prvt", begin + 12 + len(body), len(private))
    whole = profile[:128] + struct.pack(">I", count + 1) + table + body + private
    return struct.pack(">I", len(whole)) + whole[4:]


def many_elements(number: int) -> bytes:
    """Return an RGB profile with a pipeline of so many elements, which all share the same bytes."""
    matrix = struct.pack(">4s4xHH12f", b"matf", 3, 3, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0)
    place = struct.pack(">II", 16 + 8 * number, len(matrix))
    body = struct.pack(">4s4xHHI", b"mpet", 3, 3, number) + place * number + matrix
    profile = icc(b"RGB ", b"mntr", b"XYZ ", b"D2B0", body)
    return profile[:8] + struct.pack(">I", 0x04300000) + profile[12:]
