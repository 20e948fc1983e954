"""Images and image files to test with, and how far two images are apart."""

import struct
import zlib
from io import BytesIO
from typing import Any

from PIL import Image, ImageChops


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """Return the bytes of the image as a file of this format."""
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def plain(width: int = 32, height: int = 32, colour: str = "green") -> Image.Image:
    """Return an RGB image of one colour."""
    return Image.new("RGB", (width, height), colour)


def gradient(size: tuple[int, int]) -> Image.Image:
    """Return an RGB image whose channels are three different gradients."""
    ramp = Image.radial_gradient("L").resize(size)
    return Image.merge("RGB", (ramp, ramp.transpose(Image.Transpose.ROTATE_180), ImageChops.invert(ramp)))


def speckled(size: tuple[int, int]) -> Image.Image:
    """Return an RGB image of grey noise."""
    return Image.effect_noise(size, 80).convert("RGB")


def half(mode: str, off, on) -> Image.Image:
    """Return a 32 x 16 image whose left half is `off` and whose right half is `on`."""
    image = Image.new(mode, (32, 16), off)
    image.paste(on, (16, 0, 32, 16))
    return image


def animation(kind: str) -> bytes:
    """Return an image file of two frames."""
    return saved(plain(16, 16, "black"), kind, save_all=True, append_images=[plain(16, 16, "red")])


def png_chunk(kind: bytes, body: bytes) -> bytes:
    """Return a PNG chunk with a correct checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_header(width: int, height: int) -> bytes:
    """Return the start of a PNG file that claims this size."""
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))


def png_claiming(width: int, height: int) -> bytes:
    """Return a PNG file that claims this size and holds no pixels."""
    return png_header(width, height) + png_chunk(b"IDAT", zlib.compress(b"")) + png_chunk(b"IEND", b"")


def webp_claiming(width: int, height: int) -> bytes:
    """Return a WebP file that claims this size and holds no pixels."""
    sides = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + sides
    return b"RIFF" + struct.pack("<I", len(body)) + body


def png16(*values: int, **options: Any) -> bytes:
    """Return a PNG file of 16 bits whose first row begins with these values."""
    image = Image.new("I;16", (16, 16))
    for x, value in enumerate(values):
        image.putpixel((x, 0), value)
    return saved(image, **options)


def same(one: Image.Image, other: Image.Image) -> bool:
    """Return whether mode, size and all pixels are equal."""
    return (one.mode, one.size, one.tobytes()) == (other.mode, other.size, other.tobytes())


def farthest(one: Image.Image, other: Image.Image) -> int:
    """Return the largest difference between two values of the same pixel and channel."""
    return max(high for _, high in ImageChops.difference(one, other).getextrema())
