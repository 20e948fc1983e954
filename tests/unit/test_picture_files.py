"""Files of pictures whose metadata or scans are out of the ordinary: what is read of them, and what is refused."""

import os
import struct
from collections.abc import Callable
from io import BytesIO

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from diffedit import picture_files
from diffedit.errors import BadPicture
from diffedit.pictures import encode_png, read_picture, read_result
from tests.support.icc_profiles import SRGB, grown
from tests.support.images import gradient, png_chunk, same, saved

MIB = 2**20
BIG_PROFILE = grown(SRGB, MIB + 200_000)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_a_picture_with_a_profile_over_one_mib_becomes_srgb_so_that_its_result_can_be_read(format: str) -> None:
    picture = read_picture(saved(gradient((64, 64)), format, icc_profile=BIG_PROFILE))
    assert picture.icc_profile is None
    assert same(read_result(encode_png(picture.image, icc_profile=picture.icc_profile)).image, picture.image)


def test_a_profile_under_one_mib_stays_with_the_picture() -> None:
    profile = grown(SRGB, MIB - 20_000)
    for format in ("JPEG", "PNG", "WEBP"):
        picture = read_picture(saved(gradient((64, 64)), format, icc_profile=profile))
        assert picture.icc_profile == profile
        assert read_result(encode_png(picture.image, icc_profile=profile)).icc_profile == profile


def test_a_png_with_texts_over_the_limit_of_pillow_is_a_picture() -> None:
    texts = PngInfo()
    texts.add_text("compressed", "a" * 3 * MIB, zip=True)
    texts.add_itxt("international", "b" * 3 * MIB, zip=True)
    assert same(read_picture(saved(gradient((16, 16)), "PNG", pnginfo=texts)).image, gradient((16, 16)))


@pytest.mark.parametrize("orientation", [1, 6, 8])
def test_the_orientation_of_a_jpeg_counts_and_other_metadata_does_not(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x112] = orientation
    data = saved(gradient((40, 20)), "JPEG", exif=exif, comment=b"a comment", icc_profile=SRGB)
    picture = read_picture(data)
    assert picture.image.size == ((40, 20) if orientation == 1 else (20, 40))
    assert picture.icc_profile == SRGB
    assert b"a comment" not in picture_files.lean_file(data, "picture").data


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}, {"subsampling": 0}])
def test_a_lean_jpeg_has_the_same_pixels(options: dict[str, object]) -> None:
    for mode in ("RGB", "L", "CMYK"):
        data = saved(gradient((90, 70)).convert(mode), "JPEG", quality=90, **options)
        lean = picture_files.lean_file(data + b"\xff\xd8 the second picture of a phone", "picture").data
        assert len(lean) <= len(data)
        assert Image.open(BytesIO(lean)).tobytes() == Image.open(BytesIO(data)).tobytes()


def many_scans(scans: int) -> bytes:
    """Return a progressive JPEG whose first scan occurs so many times more."""
    data = saved(gradient((64, 64)), "JPEG", progressive=True)
    begin = data.index(b"\xff\xda")
    end = min(data.index(marker, begin + 2) for marker in (b"\xff\xc4", b"\xff\xda") if marker in data[begin + 2 :])
    return data[:end] + data[begin:end] * scans + data[end:]


def many_segments(kind: int, content: bytes) -> Callable[[int], bytes]:
    def make(number: int) -> bytes:
        data = saved(gradient((64, 64)), "JPEG")
        segment = bytes((0xFF, kind)) + struct.pack(">H", len(content) + 2) + content
        return data[:2] + segment * number + data[2:]

    return make


def many_chunks(number: int) -> bytes:
    data = saved(gradient((64, 64)))
    return data[:33] + png_chunk(b"prVt", b"") * number + data[33:]


@pytest.mark.parametrize(
    ("make", "taken", "refused", "words"),
    [
        pytest.param(many_scans, 50, 200, "scans, too many for its 0.0 million pixels", id="scans"),
        pytest.param(many_segments(0xFE, b"c"), 5_000, 30_000, "more than 20000 segments", id="comments"),
        pytest.param(many_segments(0xE1, b"Exif\0\0II*\0\x08\0\0\0\0\0"), 5_000, 30_000, "more than 20000", id="EXIF"),
        pytest.param(many_chunks, 5_000, 30_000, "more than 20000 chunks", id="PNG chunks"),
    ],
)
def test_a_file_of_too_many_parts_is_refused_before_it_is_decoded(
    make: Callable[[int], bytes], taken: int, refused: int, words: str
) -> None:
    assert read_picture(make(taken)).image.size == (64, 64)
    with pytest.raises(BadPicture, match=words):
        read_picture(make(refused))


def test_few_scans_are_too_many_for_a_large_picture() -> None:
    data = bytearray(many_scans(20))
    frame = data.index(b"\xff\xc2")
    data[frame + 5 : frame + 9] = struct.pack(">HH", 6000, 6600)
    with pytest.raises(BadPicture, match=r"too many for its 39\.6 million pixels"):
        read_picture(bytes(data))


def test_a_profile_that_inflates_without_end_is_ignored() -> None:
    import zlib

    data = saved(gradient((16, 16)))
    chunk = png_chunk(b"iCCP", b"name\0\0" + zlib.compress(bytes(100 * MIB)))
    assert read_picture(data[:33] + chunk + data[33:]).icc_profile is None


def test_random_bytes_between_segments_do_no_harm() -> None:
    data = saved(gradient((16, 16)), "JPEG")
    for position in range(2, len(data), 7):
        damaged = data[:position] + os.urandom(5) + data[position:]
        try:
            read_picture(damaged)
        except BadPicture:
            continue


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_what_follows_the_end_of_the_picture_does_not_matter(format: str) -> None:
    """Cameras and file systems pad files with zeros, which are chunks of no length to a reader of PNG."""
    data = saved(gradient((16, 16)), format)
    assert same(read_picture(data + bytes(MIB)).image, read_picture(data).image)
