"""What comes in as a picture or a mask, what is refused and in which words, and that nothing else ever escapes."""

import random
import struct
import zlib
from io import BytesIO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from diffedit import pictures
from diffedit.errors import BadPicture
from diffedit.pictures import encode_png, read_mask, read_picture, side_by_side
from tests.support.images import gradient, half, same, speckled
from tests.support.png_text import read_text

WHITE, BLACK, RED, BLUE = (255, 255, 255), (0, 0, 0), (255, 0, 0), (0, 0, 255)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
quick = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)


def saved(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_header(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))


def png_claiming(width: int, height: int) -> bytes:
    return png_header(width, height) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def webp_claiming(width: int, height: int) -> bytes:
    sides = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + sides
    return b"RIFF" + struct.pack("<I", len(body)) + body


def icc(space: bytes, kind: bytes, connection: bytes, tag: bytes, body: bytes) -> bytes:
    """A profile of one tag and a white point: as little as lcms takes."""
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
    """Every ink darkens and none colours, which no naive conversion would do."""
    matrix = b"".join(struct.pack(">i", 65536 * (row == column)) for row in range(3) for column in range(3))
    grid = b"".join(bytes((255 - 60 * bin(inks).count("1"), 128, 128)) for inks in range(16))
    lut = b"mft1" + bytes(4) + bytes((4, 3, 2, 0)) + matrix + bytes(range(256)) * 4 + grid + bytes(range(256)) * 3
    return icc(b"CMYK", b"prtr", b"Lab ", b"A2B0", lut)


def palette(**options) -> bytes:
    image = Image.new("P", (16, 16), 1)
    image.putpalette([*RED, *BLUE])
    image.putpixel((0, 0), 0)
    return saved(image, **options)


def png16(*values: int, **options) -> bytes:
    image = Image.new("I;16", (16, 16))
    for x, value in enumerate(values):
        image.putpixel((x, 0), value)
    return saved(image, **options)


def two_pixels(mode: str, first, second) -> Image.Image:
    image = Image.new(mode, (16, 16), second)
    image.putpixel((0, 0), first)
    return image


# -- what is taken ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "extension", "first", "second"),
    [
        pytest.param(saved(two_pixels("RGB", RED, BLUE)), "png", RED, BLUE, id="rgb"),
        pytest.param(saved(two_pixels("RGB", RED, BLUE), "WEBP", lossless=True), "webp", RED, BLUE, id="webp"),
        pytest.param(saved(two_pixels("L", 7, 200)), "png", (7,) * 3, (200,) * 3, id="grey"),
        pytest.param(saved(Image.new("L", (16, 16), 99), "JPEG"), "jpg", (99,) * 3, (99,) * 3, id="grey jpeg"),
        pytest.param(saved(two_pixels("1", 0, 1)), "png", BLACK, WHITE, id="one bit"),
        pytest.param(palette(), "png", RED, BLUE, id="palette"),
        pytest.param(palette(transparency=0), "png", WHITE, BLUE, id="palette, one transparent"),
        pytest.param(palette(transparency=b"\x00\x80"), "png", WHITE, (127, 127, 255), id="palette with alphas"),
        pytest.param(saved(two_pixels("RGBA", (*RED, 0), (*BLUE, 255))), "png", WHITE, BLUE, id="rgba"),
        pytest.param(saved(two_pixels("RGBA", (*RED, 128), (0, 0, 0, 51))), "png", (255, 127, 127), (204,) * 3,
                     id="see-through"),
        pytest.param(saved(two_pixels("RGBA", (*RED, 0), (*BLUE, 255)), "WEBP", lossless=True), "webp", WHITE, BLUE,
                     id="webp with alpha"),
        pytest.param(saved(two_pixels("LA", (9, 0), (9, 255))), "png", WHITE, (9,) * 3, id="grey with alpha"),
        pytest.param(saved(two_pixels("RGB", RED, BLUE), transparency=RED), "png", WHITE, BLUE, id="rgb, tRNS"),
        pytest.param(saved(two_pixels("L", 7, 200), transparency=7), "png", WHITE, (200,) * 3, id="grey, tRNS"),
        pytest.param(saved(two_pixels("1", 0, 1), transparency=0), "png", WHITE, WHITE, id="one bit, tRNS"),
        pytest.param(png16(65535, 0), "png", WHITE, BLACK, id="16 bit, ends"),
        pytest.param(png16(257 * 100, 32768), "png", (100,) * 3, (128,) * 3, id="16 bit, between"),
        pytest.param(png16(300, 65535 - 300), "png", (1,) * 3, (254,) * 3, id="16 bit, near the ends"),
        pytest.param(png16(200, 100), "png", (1,) * 3, BLACK, id="16 bit, rounded"),
        pytest.param(png16(300, 301, transparency=300), "png", WHITE, (1,) * 3, id="16 bit, tRNS"),
        pytest.param(saved(Image.new("CMYK", (16, 16), (255, 0, 0, 0)), "JPEG"), "jpg", (0, 255, 255), (0, 255, 255),
                     id="cmyk"),
        pytest.param(saved(Image.new("CMYK", (16, 16), (0, 0, 0, 0)), "JPEG"), "jpg", WHITE, WHITE, id="cmyk, no ink"),
    ],
)  # fmt: skip
def test_every_kind_of_picture_becomes_rgb(data, extension, first, second):
    picture = read_picture(data)

    assert (picture.image.mode, picture.image.size, picture.extension) == ("RGB", (16, 16), extension)
    assert (picture.image.getpixel((0, 0)), picture.image.getpixel((1, 0))) == (first, second)
    assert picture.image.info == {}
    assert picture.icc_profile is None


CORNERS = {"top left": (0, 0), "top right": (-1, 0), "bottom left": (0, -1), "bottom right": (-1, -1)}


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize(
    ("orientation", "row_begins", "row_ends"),
    [
        (1, "top left", "top right"),
        (2, "top right", "top left"),
        (3, "bottom right", "bottom left"),
        (4, "bottom left", "bottom right"),
        (5, "top left", "bottom left"),
        (6, "top right", "bottom right"),
        (7, "bottom right", "top right"),
        (8, "bottom left", "top left"),
    ],
)
def test_exif_orientation_is_applied(orientation, row_begins, row_ends, kind):
    # Given a stored picture whose first row begins red and ends blue
    stored = Image.new("RGB", (64, 32), "white")
    stored.paste(RED, (0, 0, 16, 16))
    stored.paste(BLUE, (48, 0, 64, 16))
    exif = Image.Exif()
    exif[0x0112] = orientation

    upright = read_picture(saved(stored, kind, exif=exif)).image

    assert upright.size == ((64, 32) if orientation < 5 else (32, 64))
    for colour, corner in ((RED, row_begins), (BLUE, row_ends)):
        x, y = CORNERS[corner]
        pixel = upright.getpixel((4 if x == 0 else upright.width - 5, 4 if y == 0 else upright.height - 5))
        assert max(abs(a - b) for a, b in zip(pixel, colour, strict=True)) < 40


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_an_orientation_that_means_nothing_is_ignored(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert read_picture(saved(gradient((32, 16)), exif=exif)).image.size == (32, 16)


def test_a_phone_jpeg_with_a_second_picture_inside_is_no_animation():
    data = saved(Image.new("RGB", (16, 16), "white"), "MPO", save_all=True, append_images=[Image.new("RGB", (16, 16))])
    assert Image.open(BytesIO(data)).n_frames == 2
    assert read_picture(data).image.getpixel((0, 0)) == WHITE


def test_a_result_may_take_more_bytes_than_what_it_was_made_from():
    size = (4000, 3000)
    result = encode_png(Image.frombytes("RGB", size, random.randbytes(36_000_000)), text={"diffedit": "{}"})
    assert len(result) > pictures.MAX_PICTURE_BYTES
    assert read_picture(result, max_bytes=pictures.MAX_RESULT_BYTES).image.size == size
    assert read_text(result) == {"diffedit": "{}"}


# -- colour ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_an_rgb_profile_is_handed_on_and_the_values_stay(kind):
    plain, tagged = saved(gradient((32, 32)), kind), saved(gradient((32, 32)), kind, icc_profile=SRGB)

    picture = read_picture(tagged)

    assert picture.icc_profile == SRGB
    assert same(picture.image, read_picture(plain).image)
    assert read_picture(encode_png(picture.image, icc_profile=picture.icc_profile)).icc_profile == SRGB


def test_cmyk_goes_through_its_profile():
    cyan = saved(Image.new("CMYK", (16, 16), (255, 0, 0, 0)), "JPEG", icc_profile=cmyk_that_prints_grey())

    picture = read_picture(cyan)

    red, green, blue = picture.image.getpixel((5, 5))
    assert abs(red - green) < 4 and abs(blue - green) < 4 and 150 < green < 220
    assert (picture.icc_profile, picture.image.info) == (None, {})


def test_grey_goes_through_its_profile():
    picture = read_picture(saved(Image.new("L", (16, 16), 128), icc_profile=LINEAR_GREY))
    assert picture.image.getpixel((0, 0)) == pytest.approx((188,) * 3, abs=1)
    assert picture.icc_profile is None


@pytest.mark.parametrize(
    "profile",
    [b"x", b"no profile at all" * 20, SRGB[:200], SRGB[:-400], LINEAR_GREY, cmyk_that_prints_grey()],
    ids=["one byte", "text", "cut in the tags", "cut in the data", "for grey", "for cmyk"],
)
def test_a_profile_that_does_not_fit_is_dropped(profile):
    picture = read_picture(saved(Image.new("RGB", (16, 16), RED), icc_profile=profile))
    assert (picture.image.getpixel((0, 0)), picture.icc_profile) == (RED, None)


def test_cmyk_with_a_profile_for_rgb_is_converted_without_it():
    picture = read_picture(saved(Image.new("CMYK", (16, 16), (255, 0, 0, 0)), "JPEG", icc_profile=SRGB))
    assert (picture.image.getpixel((0, 0)), picture.icc_profile) == ((0, 255, 255), None)


# -- what is refused --------------------------------------------------------------------------------------------------


def animation(kind: str) -> bytes:
    return saved(Image.new("RGB", (16, 16)), kind, save_all=True, append_images=[Image.new("RGB", (16, 16), "red")])


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
    pytest.param(webp_claiming(16_000, 16_000), "too large", id="webp bomb"),
    pytest.param(b"\x89PNG\r\n\x1a\n" + bytes(pictures.MAX_PICTURE_BYTES), "more than 32 MiB", id="heavy"),
]  # fmt: skip


@pytest.mark.parametrize("what", ["picture", "mask"])
@pytest.mark.parametrize(("data", "words"), REFUSED)
def test_refused(data, words, what):
    with pytest.raises(BadPicture, match=f"^the {what} ") as refusal:
        read_picture(data, what=what)
    assert words in str(refusal.value)


def test_the_limits_themselves_are_allowed():
    assert read_picture(saved(Image.new("RGB", (64, 8)))).image.size == (64, 8)
    assert read_picture(saved(Image.new("RGB", (8, 8)))).image.size == (8, 8)


@pytest.mark.parametrize("theirs", [None, 100])
@pytest.mark.filterwarnings("error")
def test_pillows_own_pixel_limit_changes_nothing(monkeypatch, theirs):
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


# -- nothing else escapes ---------------------------------------------------------------------------------------------

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


def checked_again(data: bytes) -> bytes:
    """PNG chunks with their checksums made right, so that damage reaches what lies behind them."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return data
    whole, at = data[:8], 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        body = data[at + 8 : at + 8 + length]
        whole += chunk(data[at + 4 : at + 8], body)
        at += 12 + length
    return whole


@st.composite
def damaged(draw) -> bytes:
    data = bytearray(draw(st.sampled_from(SEEDS)))
    # Headers are short and matter most, so half of the blows fall on the first 200 bytes.
    for _ in range(draw(st.integers(0, 6))):
        end = len(data) if draw(st.booleans()) else min(200, len(data))
        data[draw(st.integers(0, end - 1))] = draw(st.integers(0, 255))
    cut = bytes(data[: draw(st.integers(0, len(data)))]) if draw(st.booleans()) else bytes(data)
    return checked_again(cut) if draw(st.booleans()) else cut


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
def test_no_exif_and_no_profile_kills_a_picture(kind, start, exif, profile):
    picture = read_picture(saved(Image.new("RGB", (24, 24), RED), kind, exif=start + exif, icc_profile=profile))
    assert picture.image.size == (24, 24)


@settings(quick, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, len(SRGB) - 1), st.integers(0, 255)), max_size=8))
def test_a_damaged_profile_is_handed_on_or_dropped(blows):
    profile = bytearray(SRGB)
    for at, value in blows:
        profile[at] = value
    assert read_picture(saved(Image.new("RGB", (8, 8)), icc_profile=bytes(profile))).icc_profile in (profile, None)


# -- masks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(saved(half("L", 0, 255)), id="grey"),
        pytest.param(saved(half("L", 127, 128)), id="threshold"),
        pytest.param(saved(half("1", 0, 1)), id="one bit"),
        pytest.param(saved(half("RGB", BLUE, WHITE)), id="colour"),
        pytest.param(saved(half("I;16", 127 * 257, 128 * 257)), id="16 bit"),
        pytest.param(saved(half("RGBA", (255, 255, 255, 0), (255, 255, 255, 255))), id="white on transparent"),
        pytest.param(saved(half("RGBA", (0, 0, 0, 0), (255, 255, 255, 200))), id="see-through white on transparent"),
        pytest.param(saved(half("LA", (255, 0), (255, 255))), id="grey with alpha"),
        pytest.param(saved(half("L", 0, 255), transparency=0), id="black is transparent"),
        pytest.param(saved(half("L", 0, 255), "JPEG"), id="jpeg"),
        pytest.param(saved(half("RGB", BLACK, WHITE), "WEBP", lossless=True), id="webp"),
    ],
)
def test_masks_are_white_where_the_picture_may_change(data):
    assert same(read_mask(data, (32, 16)), half("L", 0, 255))


def test_a_mask_is_turned_upright_before_its_size_is_compared():
    exif = Image.Exif()
    exif[0x0112] = 6
    mask = read_mask(saved(half("L", 0, 255), exif=exif), (16, 32))
    assert mask.getbbox() == (0, 16, 16, 32)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (half("L", 0, 255).resize((33, 16)), "the mask is 33 x 16 pixels and the picture 32 x 16"),
        (half("L", 0, 255).resize((16, 32)), "the mask is 16 x 32 pixels and the picture 32 x 16"),
        (Image.new("L", (32, 16), 127), "selects nothing"),
        (Image.new("RGBA", (32, 16), (255, 255, 255, 0)), "selects nothing"),
    ],
)
def test_masks_refused(image, words):
    with pytest.raises(BadPicture, match=words):
        read_mask(saved(image), (32, 16))


def test_a_stored_mask_needs_no_size():
    assert read_mask(encode_png(half("L", 0, 255))).size == (32, 16)


# -- PNG out ----------------------------------------------------------------------------------------------------------


def test_png_carries_text_and_pixels_unchanged():
    image = gradient((40, 30))
    text = {"diffedit": '{"target": "Äpfel, 梨 \\u0000"}', "Software": "line\nline", "empty": ""}

    data = encode_png(image, text=text)

    assert read_text(data) == text
    assert data.count(b"iTXt") == 3
    assert same(read_picture(data).image, image)


def test_a_profile_left_on_the_image_is_not_written_unasked():
    image = Image.open(BytesIO(saved(gradient((16, 16)), icc_profile=SRGB)))
    assert read_picture(encode_png(image)).icc_profile is None


def test_text_after_the_pixels_is_found_and_other_formats_have_none():
    data = encode_png(gradient((16, 16)))
    end = data.rindex(b"IEND") - 4
    assert read_text(data[:end] + chunk(b"tEXt", b"late\0yes") + data[end:]) == {"late": "yes"}
    assert read_text(saved(gradient((16, 16)), "JPEG")) == {}
    with pytest.raises(BadPicture):
        read_text(b"text")


# -- the grid ---------------------------------------------------------------------------------------------------------


def test_side_by_side_enlarges_small_pictures_by_whole_factors():
    row = side_by_side([Image.new("RGB", (64, 32), RED), Image.new("L", (64, 32), 0)])

    assert row.size == (256 + 8 + 256, 128)
    assert [row.getpixel((x, 60)) for x in (255, 256, 263, 264)] == [RED, WHITE, WHITE, BLACK]


def test_side_by_side_leaves_large_pictures_alone():
    large = gradient((300, 200))
    row = side_by_side([large, large, large])
    assert row.size == (916, 200)
    assert same(row.crop((308, 0, 608, 200)), large)
