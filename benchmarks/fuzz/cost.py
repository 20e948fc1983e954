"""What the costliest pictures that are accepted cost: the table in SECURITY.md. `python -m benchmarks.fuzz.cost`.

Each picture has 40 million pixels, the most that is accepted, or as many as its kind allows. "Client" is the upload of
a picture, "mask" the upload as a mask, "worker" the reading of the stored picture. Seconds are those of the processor;
MiB are the peak of the process over what it took before. Each is measured in a process of its own.
"""

import logging
import os
import random
import struct
import time
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from io import BytesIO

from PIL import Image, ImageCms

from benchmarks.fuzz import hostile
from benchmarks.fuzz.hostile import (
    SIZE,
    chunk,
    jpeg_of_many_scans,
    png,
    png_of_empty_blocks,
    webp_of_many_tables,
)
from benchmarks.harness.process_memory import PeakMemory
from diffedit.errors import BadPicture
from diffedit.masks import read_mask
from diffedit.uploads import image_upload
from diffedit_worker.codecs import PICTURE

ROW = bytes((place * 37 + place // 7) & 255 for place in range(1021))
"""Some bytes of which no two neighbours are equal."""
HONEST = "JPEG, a photograph"


def pictures() -> dict[str, Callable[[], bytes]]:
    """Return functions that make the pictures, by name. The first one is honest."""
    return {
        HONEST: lambda: _saved(_photograph(), "JPEG", quality=85),
        "JPEG, progressive": lambda: _saved(_photograph(), "JPEG", quality=85, progressive=True),
        "JPEG, 4:4:4, of 32 MiB": _heavy_jpeg,
        "JPEG, 25 scans of 4 components": partial(jpeg_of_many_scans, 25),
        "JPEG, 25 scans, all coefficients set": hostile.jpeg_of_many_coefficients,
        "JPEG, CMYK with a profile": lambda: _saved(
            _photograph("CMYK"), "JPEG", quality=85, icc_profile=hostile.cmyk_profile()
        ),
        "JPEG, 19,000 comments of 500 bytes": partial(_with_comments, 19_000),
        "PNG, RGB": partial(png, SIZE, 8, 2, row=ROW),
        "PNG, RGBA": partial(png, SIZE, 8, 6, row=ROW),
        "PNG, RGBA, 16 bits": partial(png, SIZE, 16, 6, row=ROW),
        "PNG, RGBA, 16 bits, interlaced": partial(png, SIZE, 16, 6, row=ROW, interlaced=True),
        "PNG, grey, 16 bits": partial(png, SIZE, 16, 0, row=ROW),
        "PNG, palette with alphas": partial(png, SIZE, 8, 3, row=ROW),
        "PNG, RGBA, a profile over 1 MiB": partial(png, SIZE, 8, 6, row=ROW, before=_large_profile()),
        "PNG, texts, EXIF and profile of 10 MiB each": partial(png, SIZE, 8, 6, row=ROW, before=_metadata()),
        "PNG, 2.8 million empty Deflate blocks": partial(png_of_empty_blocks, 2_800_000),
        "WebP, lossy": lambda: _saved(_photograph(), "WEBP", quality=80, method=0),
        "WebP, lossy, with alpha": lambda: _saved(_photograph("RGBA"), "WEBP", quality=60, method=0),
        "WebP, lossless": lambda: _saved(_photograph("RGB", 1), "WEBP", lossless=True, method=0, quality=0),
        "WebP, lossless, 65,536 groups of tables": partial(webp_of_many_tables, 65_536),
    }


USES: dict[str, Callable[[bytes], object]] = {"client": image_upload, "mask": read_mask, "worker": PICTURE.decode}


def measured(use: Callable[[bytes], object], data: bytes) -> tuple[float, float, bool]:
    """Return seconds, MiB, and whether the picture was accepted. The mask may refuse it after decoding."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        peak, started, accepted = PeakMemory(), time.process_time(), 0
        with suppress(BadPicture):
            use(data)
            accepted = 1
        answer = struct.pack("dd?", time.process_time() - started, peak.growth(), accepted)
        os.write(writer, answer)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answers:
        seconds, mib, accepted = struct.unpack("dd?", answers.read())
    os.waitpid(pid, 0)
    return seconds, mib, accepted


def rows() -> Iterator[str]:
    """Yield the lines of a Markdown table."""
    yield "| picture of 40 megapixels | file | client | mask | worker | client, times a photograph |"
    yield "|---|---|---|---|---|---|"
    honest = (0.0, 0.0)
    for name, make in pictures().items():
        data = make()
        costs = {use: measured(read, data) for use, read in USES.items()}
        assert costs["client"][2] and costs["worker"][2], f"{name} is not accepted"
        honest = honest if honest[0] else costs["client"][:2]
        cells = [f"{seconds:.1f} s, {mib:.0f} MiB" for seconds, mib, _ in costs.values()]
        seconds, mib, _ = costs["client"]
        ratio = f"{seconds / honest[0]:.1f}, {mib / honest[1]:.1f}"
        yield f"| {name} | {len(data) / 2**20:.1f} MiB | {' | '.join(cells)} | {ratio} |"


def _photograph(mode: str = "RGB", noise: int = 6) -> Image.Image:
    """Return a smooth picture with some noise. Its alpha goes from 0 to 255."""
    ramp = Image.radial_gradient("L").resize(SIZE)
    channels = [ramp, ramp.transpose(Image.Transpose.ROTATE_180), ramp.transpose(Image.Transpose.FLIP_LEFT_RIGHT), ramp]
    grain = Image.effect_noise(SIZE, noise)
    return Image.merge(mode, [Image.blend(each, grain, 0.3) for each in channels[: len(mode)]])


def _heavy_jpeg() -> bytes:
    data = b""
    for quality in (90, 92, 94, 95, 96, 97, 98):
        heavier = _saved(_photograph("RGB", 20), "JPEG", quality=quality, subsampling=0)
        if len(heavier) > 32 * 2**20:
            break
        data = heavier
    return data


def _with_comments(number: int) -> bytes:
    data = _saved(_photograph(), "JPEG", quality=85)
    comment = b"\xff\xfe" + struct.pack(">H", 502) + bytes(500)
    return data[:2] + comment * number + data[2:]


def _large_profile() -> bytes:
    """Return a chunk with the profile of sRGB, made larger by a tag that nobody reads."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    private = random.Random(0).randbytes(2**20 + 2**18)
    (count,) = struct.unpack_from(">I", profile, 128)
    table = b"".join(
        struct.pack(">4sII", name, offset + 12, length)
        for name, offset, length in struct.iter_unpack(">4sII", profile[132 : 132 + 12 * count])
    )
    table += struct.pack(">4sII", b"prvt", len(profile) + 12, len(private))
    whole = profile[:128] + struct.pack(">I", count + 1) + table + profile[132 + 12 * count :] + private
    return chunk(b"iCCP", b"sRGB\0\0" + zlib.compress(struct.pack(">I", len(whole)) + whole[4:]))


def _metadata() -> bytes:
    noise = random.Random(0).randbytes(10 * 2**20)
    texts = chunk(b"zTXt", b"key\0\0" + zlib.compress(bytes(10**8), 9)) + chunk(b"tEXt", b"key\0" + noise)
    return texts + chunk(b"eXIf", hostile.exif_of_shared_values(10 * 2**20)) + chunk(b"iCCP", b"x\0\0" + noise)


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    for row in rows():
        print(row, flush=True)
