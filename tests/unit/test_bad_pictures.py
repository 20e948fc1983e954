"""Files that are refused as pictures and masks, and the reasons. No file raises any other error."""

import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from diffedit import pictures
from diffedit.errors import BadPicture
from diffedit.masks import read_mask
from diffedit.pictures import read_picture
from tests.support.icc_profiles import SRGB, cmyk_that_prints_grey
from tests.support.images import (
    animation,
    gradient,
    half,
    png16,
    png_chunk,
    png_claiming,
    png_header,
    saved,
    speckled,
    webp_claiming,
)
from tests.support.png_text import read_text

quick = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
RED = (255, 0, 0)


REFUSED = [
    pytest.param(b"", "is empty", id="empty"),
    pytest.param(b"GIF", "not a PNG, JPEG or WebP", id="three bytes"),
    pytest.param(saved(Image.new("RGB", (16, 16)), "GIF"), "not a PNG, JPEG or WebP", id="gif"),
    pytest.param(saved(Image.new("RGB", (16, 16)), "BMP"), "not a PNG, JPEG or WebP", id="bmp"),
    pytest.param(saved(Image.new("RGB", (16, 16)), "TIFF"), "not a PNG, JPEG or WebP", id="tiff"),
    pytest.param(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a PNG, JPEG or WebP", id="svg"),
    pytest.param(b"<!doctype html><h1>404</h1>", "not a PNG, JPEG or WebP", id="html"),
    pytest.param(b"\x89PNG\r\n\x1a\n", "cannot be decoded", id="png signature alone"),
    pytest.param(b"\xff\xd8\xff", "cannot be decoded", id="jpeg signature alone"),
    pytest.param(b"RIFF\0\0\0\0WEBP", "cannot be decoded", id="webp signature alone"),
    pytest.param(animation("PNG"), "animation of 2 frames", id="apng"),
    pytest.param(animation("WEBP"), "animation of 2 frames", id="animated webp"),
    pytest.param(saved(Image.new("RGB", (1, 1))), "1 x 1 pixels; both sides need at least 8", id="one pixel"),
    pytest.param(saved(Image.new("RGB", (7, 20))), "7 x 20 pixels; both sides need at least 8", id="narrow"),
    pytest.param(saved(Image.new("RGB", (65, 8))), "65 x 8 pixels, one side over 8 times the other", id="long"),
    pytest.param(png_claiming(50_000, 50_000), "50000 x 50000 = 2500.0 million pixels, over the limit of 40",
                 id="png bomb"),
    pytest.param(png_claiming(8_000, 5_001), "8000 x 5001 = 40.0 million", id="one row too many"),
    pytest.param(webp_claiming(16_000, 16_000), "16000 x 16000 = 256.0 million", id="webp bomb"),
    pytest.param(b"\x89PNG\r\n\x1a\n" + bytes(pictures.MAX_PICTURE_BYTES), "more than 32 MiB", id="heavy"),
]  # fmt: skip


@pytest.mark.parametrize("what", ["picture", "mask"])
@pytest.mark.parametrize(("data", "words"), REFUSED)
def test_a_bad_file_is_refused_with_the_reason(data, words, what):
    with pytest.raises(BadPicture, match=f"^the {what} ") as refusal:
        read_picture(data, what=what)
    assert words in str(refusal.value)


def test_the_smallest_size_and_the_longest_shape_are_accepted():
    assert read_picture(saved(Image.new("RGB", (64, 8)))).image.size == (64, 8)
    assert read_picture(saved(Image.new("RGB", (8, 8)))).image.size == (8, 8)


@pytest.mark.parametrize("theirs", [None, 100])
@pytest.mark.filterwarnings("error")
def test_pillows_own_pixel_limit_has_no_effect(monkeypatch, theirs):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", theirs)
    assert read_picture(saved(gradient((64, 64)))).image.size == (64, 64)
    assert read_picture(saved(gradient((64, 64)), "JPEG")).image.size == (64, 64)
    with pytest.raises(BadPicture, match="7000 x 7000 = 49.0 million"):
        read_picture(png_claiming(7_000, 7_000))


@pytest.mark.parametrize("kept", [0.1, 0.3, 0.5, 0.7, 0.9, 0.97])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_cut_file_is_refused(kind, kept):
    whole = saved(speckled((64, 64)), kind)
    with pytest.raises(BadPicture, match="cannot be decoded"):
        read_picture(whole[: int(len(whole) * kept)])


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (half("L", 0, 255).resize((33, 16)), "the mask is 33 x 16 pixels and the picture 32 x 16"),
        (half("L", 0, 255).resize((16, 32)), "the mask is 16 x 32 pixels and the picture 32 x 16"),
        (Image.new("L", (32, 16), 127), "selects nothing"),
        (Image.new("RGBA", (32, 16), (255, 255, 255, 0)), "selects nothing"),
    ],
)
def test_a_bad_mask_is_refused_with_the_reason(image, words):
    with pytest.raises(BadPicture, match=words):
        read_mask(saved(image), (32, 16))


EXIF = Image.Exif()
EXIF[0x0112] = 6
SEEDS = [
    saved(speckled((24, 16)), exif=EXIF, icc_profile=SRGB),
    saved(speckled((24, 16)).convert("P"), transparency=3),
    saved(speckled((24, 16)), "JPEG", exif=EXIF, icc_profile=SRGB),
    saved(speckled((24, 16)).convert("CMYK"), "JPEG", icc_profile=cmyk_that_prints_grey()),
    saved(speckled((24, 16)), "JPEG", progressive=True),
    saved(speckled((24, 16)).convert("RGBA"), "WEBP", exif=EXIF, icc_profile=SRGB),
    saved(speckled((24, 16)), "WEBP", lossless=True),
    png16(300, 301, transparency=300),
    animation("PNG"),
    animation("WEBP"),
]


def with_right_checksums(data: bytes) -> bytes:
    """Return the PNG file with corrected checksums, so that the decoder reads the damaged chunks."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return data
    whole, at = data[:8], 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        body = data[at + 8 : at + 8 + length]
        whole += png_chunk(data[at + 4 : at + 8], body)
        at += 12 + length
    return whole


@st.composite
def damaged(draw) -> bytes:
    data = bytearray(draw(st.sampled_from(SEEDS)))
    # Half of the changes are in the first 200 bytes, where the headers are.
    for _ in range(draw(st.integers(0, 6))):
        end = len(data) if draw(st.booleans()) else min(200, len(data))
        data[draw(st.integers(0, end - 1))] = draw(st.integers(0, 255))
    cut = bytes(data[: draw(st.integers(0, len(data)))]) if draw(st.booleans()) else bytes(data)
    return with_right_checksums(cut) if draw(st.booleans()) else cut


def only_a_picture_or_a_refusal(data: bytes) -> None:
    for read in (read_picture, lambda data: read_mask(data, (24, 16)), read_text):
        try:
            found = read(data)
        except BadPicture:
            continue
        if isinstance(found, pictures.Picture):
            assert found.image.mode == "RGB"
            assert found.icc_profile is None or isinstance(found.icc_profile, bytes)


@settings(quick, max_examples=250)
@given(damaged())
@pytest.mark.filterwarnings("ignore")
def test_damaged_files_give_a_picture_or_a_refusal(data):
    only_a_picture_or_a_refusal(data)


@settings(quick, max_examples=100)
@given(st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", png_header(16, 16), b"\xff\xd8\xff", webp_claiming(16, 16)]),
       st.binary(max_size=300))  # fmt: skip
@pytest.mark.filterwarnings("ignore")
def test_random_bytes_give_a_picture_or_a_refusal(start, rest):
    only_a_picture_or_a_refusal(start + rest)


@settings(quick, max_examples=150)
@given(
    st.sampled_from(["PNG", "JPEG", "WEBP"]),
    st.sampled_from([b"", b"Exif\0\0", b"Exif\0\0II*\0\x08\0\0\0", b"Exif\0\0MM\0*\0\0\0\x08"]),
    st.binary(max_size=60),
    st.binary(min_size=1, max_size=300),
)
@pytest.mark.filterwarnings("ignore")
def test_no_exif_and_no_profile_makes_a_picture_unreadable(kind, start, exif, profile):
    picture = read_picture(saved(Image.new("RGB", (24, 24), RED), kind, exif=start + exif, icc_profile=profile))
    assert picture.image.size == (24, 24)


@settings(quick, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, len(SRGB) - 1), st.integers(0, 255)), max_size=8))
def test_a_damaged_profile_is_handed_on_or_dropped(changes):
    profile = bytearray(SRGB)
    for at, value in changes:
        profile[at] = value
    assert read_picture(saved(Image.new("RGB", (8, 8)), icc_profile=bytes(profile))).icc_profile in (profile, None)
