"""Pictures that are small to send and costly to decode: the worst that each format allows, as far as we know it."""

import random
import struct
import zlib
from collections.abc import Iterator

SIZE = (8000, 5000)
"""40 million pixels, the most that is accepted."""

_SCAN_OF_ALL = -1


class Bits:
    """A writer of bits, the lowest first, as Deflate and WebP read them."""

    def __init__(self) -> None:
        self._bits: list[str] = []

    def put(self, value: int, count: int) -> None:
        """Write `count` bits of `value`."""
        self._bits.append(format(value, f"0{count}b")[::-1] if count else "")

    def repeat(self, times: int) -> None:
        """Write what was written so far so many times in all."""
        self._bits = ["".join(self._bits) * times]

    def append(self, other: "Bits") -> None:
        """Write the bits of another writer."""
        self._bits += other._bits

    def to_bytes(self) -> bytes:
        text = "".join(self._bits)
        return int(text[::-1] or "0", 2).to_bytes((len(text) + 7) // 8, "little")


def jpeg(size: tuple[int, int], components: int, scans: list[tuple[int, int, int, int, int, int]]) -> bytes:
    """Return a progressive JPEG file, all of whose entropy-coded bits are 0.

    `scans` has the component (-1 for all), the first and the last coefficient, the bits Ah and Al, and what the code
    "0" stands for. All blocks of a scan are present.
    """
    width, height = size
    blocks = -(-width // 8) * -(-height // 8)
    parts = [b"\xff\xd8", _segment(0xDB, b"\0" + b"\1" * 64)]
    frame = b"".join(bytes((number, 0x11, 0)) for number in range(components))
    parts.append(_segment(0xC2, struct.pack(">BHHB", 8, height, width, components) + frame))
    for component, first, last, high, low, symbol in scans:
        which = range(components) if component == _SCAN_OF_ALL else [component]
        table = 0x10 if first else 0
        parts.append(_segment(0xC4, bytes((table, 1, *bytes(15), symbol))))
        header = bytes((len(which),)) + b"".join(bytes((number, 0)) for number in which)
        parts.append(_segment(0xDA, header + bytes((first, last, high << 4 | low))))
        bits = 1 if not first or not symbol else 2 * (last - first + 1)
        parts.append(bytes(blocks * len(which) * bits // 8 + 1))
    return b"".join([*parts, b"\xff\xd9"])


def jpeg_of_many_scans(scans: int, components: int = 4, size: tuple[int, int] = SIZE) -> bytes:
    """Return a JPEG file whose scans all pass over all components."""
    return jpeg(size, components, [(-1, 0, 0, 0, 1, 0), *[(-1, 0, 0, 1, 0, 0)] * (scans - 1)])


def jpeg_of_many_coefficients(size: tuple[int, int] = SIZE) -> bytes:
    """Return a grey JPEG file in which every coefficient of every block is set, and then corrected in many scans."""
    blocks = size[0] * size[1] // 64
    corrections = [(0, 1, 63, 1, 0, 0)] * ((30 * 2**20 - 16 * blocks) // (blocks // 8))
    return jpeg(size, 1, [(0, 0, 0, 0, 1, 0), (0, 1, 63, 0, 1, 1), *corrections[:23]])


def png(
    size: tuple[int, int], depth: int, colour: int, *, interlaced: bool = False, row: bytes = b"", before: bytes = b""
) -> bytes:
    """Return a PNG file. Each row has the filter Paeth, the costliest, and repeats `row`."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    head = struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, int(interlaced))
    compressor = zlib.compressobj(1)
    data = []
    for columns, rows in _passes(size) if interlaced else [size]:
        length = (columns * channels * depth + 7) // 8
        line = b"\4" + (row * (length // max(1, len(row)) + 1))[:length] if row else bytes((4, *bytes(length)))
        data += [compressor.compress(line) for _ in range(rows)]
    body = b"".join([*data, compressor.flush()])
    palette = chunk(b"PLTE", bytes(range(256)) * 3) + chunk(b"tRNS", bytes(range(256))) if colour == 3 else b""
    head = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + before + palette
    return head + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def png_of_empty_blocks(blocks: int, size: tuple[int, int] = SIZE) -> bytes:
    """Return a PNG file whose data begin with so many Deflate blocks that hold a table and nothing else."""
    block = Bits()
    # A dynamic block of one literal code (the end of the block) and one distance code. Lengths are in the order
    # 16 17 18 0 8 7 9 6 10 5 11 4 12 3 13 2 14 1: only 18 (a run of zeros) and 1 are used.
    for value, count in ((0, 1), (2, 2), (0, 5), (0, 5), (14, 4)):
        block.put(value, count)
    for length in [0, 0, 1, *[0] * 14, 1]:
        block.put(length, 3)
    for value, count in ((1, 1), (127, 7), (1, 1), (107, 7), (0, 1), (0, 1), (0, 1)):
        block.put(value, count)
    block.repeat(8)  # now it ends with a whole byte
    width, height = size
    line = bytes(1 + 3 * width)
    compressor = zlib.compressobj(1, zlib.DEFLATED, -15)
    rows = b"".join([compressor.compress(line) for _ in range(height)]) + compressor.flush()
    checksum = 1
    for _ in range(height):
        checksum = zlib.adler32(line, checksum)
    body = b"\x78\x01" + block.to_bytes() * (blocks // 8) + rows + struct.pack(">I", checksum)
    head = struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def webp_of_many_tables(groups: int, size: tuple[int, int] = SIZE) -> bytes:
    """Return a lossless WebP file with so many groups of Huffman tables, at most 65,536."""
    bits = Bits()
    width, height = size
    for value, count in ((0x2F, 8), (width - 1, 14), (height - 1, 14), (1, 1), (0, 3), (0, 1), (0, 1), (1, 1), (0, 3)):
        bits.put(value, count)  # ..., no transform, no colour cache, a table of groups for squares of 4 x 4 pixels
    bits.put(0, 1)
    for alphabet in (280, 256):
        _flat_code(bits, alphabet)
    for _ in range(3):
        bits.put(0b0001, 4)  # a code of one symbol, 0
    squares = -(-width // 4) * -(-height // 4)
    for square in range(squares):
        group = square % groups
        bits.put(int(format(group & 255, "08b")[::-1], 2), 8)  # green
        bits.put(int(format(group >> 8, "08b")[::-1], 2), 8)  # red
    tables = Bits()
    for _ in range(5):
        tables.put(0b0001, 4)
    tables.repeat(groups)
    bits.append(tables)
    body = bits.to_bytes()
    body += bytes(len(body) % 2)
    return b"RIFF" + struct.pack("<I", len(body) + 12) + b"WEBPVP8L" + struct.pack("<I", len(body)) + body


def exif_of_shared_values(size: int) -> bytes:
    """Return EXIF data of so many bytes, all of whose tags have the same long value."""
    tags = min(65_000, size // 24)
    table = b"".join(struct.pack("<HHII", tag, 7, size - 12 * tags - 32, 10 + 12 * tags) for tag in range(1, tags + 1))
    return (b"II*\0\x08\0\0\0" + struct.pack("<H", tags) + table).ljust(size, b"\0")


def cmyk_profile() -> bytes:
    """Return a CMYK profile with a table of 9 ^ 4 colours."""
    matrix = b"".join(struct.pack(">i", 65536 * (row == column)) for row in range(3) for column in range(3))
    grid = random.Random(0).randbytes(3 * 9**4)
    lut = b"mft1" + bytes(4) + bytes((4, 3, 9, 0)) + matrix + bytes(range(256)) * 4 + grid + bytes(range(256)) * 3
    d50 = struct.pack(">III", 0xF6D6, 0x10000, 0xD32D)
    tags = [(b"A2B0", lut), (b"wtpt", b"XYZ \0\0\0\0" + d50)]
    table, offset = b"", 128 + 4 + 24
    for name, body in tags:
        table += name + struct.pack(">II", offset, len(body))
        offset += len(body)
    head = struct.pack(">I", offset) + b"lcms" + struct.pack(">I", 0x02400000) + b"prtrCMYKLab "
    head += bytes(12) + b"acsp" + bytes(28) + d50 + bytes(48)
    return head + struct.pack(">I", 2) + table + b"".join(body for _, body in tags)


def chunk(kind: bytes, body: bytes) -> bytes:
    """Return a chunk of a PNG file."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _segment(kind: int, body: bytes) -> bytes:
    return bytes((0xFF, kind)) + struct.pack(">H", len(body) + 2) + body


def _passes(size: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Yield the columns and rows of the seven passes of an interlaced PNG."""
    for x, y, dx, dy in (
        (0, 0, 8, 8),
        (4, 0, 8, 8),
        (0, 4, 4, 8),
        (2, 0, 4, 4),
        (0, 2, 2, 4),
        (1, 0, 2, 2),
        (0, 1, 1, 2),
    ):
        columns, rows = -(-(size[0] - x) // dx), -(-(size[1] - y) // dy)
        if columns and rows:
            yield columns, rows


def _flat_code(bits: Bits, alphabet: int) -> None:
    """Write a code in which each of the first 256 symbols has 8 bits."""
    bits.put(0, 1)
    order = (17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8)
    bits.put(len(order) - 4, 4)
    for symbol in order:
        bits.put(symbol in (8, 0), 3)  # 0 and 8 have codes of one bit
    bits.put(0, 1)
    for symbol in range(alphabet):
        bits.put(int(symbol < 256), 1)
