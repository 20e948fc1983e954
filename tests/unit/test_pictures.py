"""Pictures and masks that are accepted, and how they are converted."""

import random
from io import BytesIO

import pytest
from PIL import Image

from diffedit import BadPicture, pictures
from diffedit.masks import read_mask
from diffedit.pictures import encode_png, read_picture
from tests.support.icc_profiles import LINEAR_GREY, SRGB, cmyk_that_prints_grey
from tests.support.images import gradient, half, png16, same, saved
from tests.support.png_text import read_text

WHITE, BLACK, RED, BLUE = (255, 255, 255), (0, 0, 0), (255, 0, 0), (0, 0, 255)


def orientation(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x112] = value
    return exif


def palette(**options) -> bytes:
    image = Image.new("P", (16, 16), 1)
    image.putpalette([*RED, *BLUE])
    image.putpixel((0, 0), 0)
    return saved(image, **options)


def two_pixels(mode: str, first, second) -> Image.Image:
    image = Image.new(mode, (16, 16), second)
    image.putpixel((0, 0), first)
    return image


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
def test_every_format_and_mode_becomes_rgb(data, extension, first, second):
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
    # The first stored row begins red and ends blue.
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
def test_an_unknown_orientation_is_ignored(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert read_picture(saved(gradient((32, 16)), exif=exif)).image.size == (32, 16)


def test_a_jpeg_with_a_second_picture_inside_is_not_an_animation():
    data = saved(Image.new("RGB", (16, 16), "white"), "MPO", save_all=True, append_images=[Image.new("RGB", (16, 16))])
    assert Image.open(BytesIO(data)).n_frames == 2
    assert read_picture(data).image.getpixel((0, 0)) == WHITE


def test_a_result_may_have_more_bytes_than_an_uploaded_picture():
    size = (4000, 3000)
    result = encode_png(Image.frombytes("RGB", size, random.randbytes(36_000_000)), text={"diffedit": "{}"})
    assert len(result) > pictures.MAX_PICTURE_BYTES
    assert read_picture(result, max_bytes=pictures.MAX_RESULT_BYTES).image.size == size
    assert read_text(result) == {"diffedit": "{}"}


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_an_rgb_profile_is_kept_and_the_pixels_are_not_converted(kind):
    plain, tagged = saved(gradient((32, 32)), kind), saved(gradient((32, 32)), kind, icc_profile=SRGB)

    picture = read_picture(tagged)

    assert picture.icc_profile == SRGB
    assert same(picture.image, read_picture(plain).image)
    assert read_picture(encode_png(picture.image, icc_profile=picture.icc_profile)).icc_profile == SRGB


def test_cmyk_is_converted_with_its_profile():
    cyan = saved(Image.new("CMYK", (16, 16), (255, 0, 0, 0)), "JPEG", icc_profile=cmyk_that_prints_grey())

    picture = read_picture(cyan)

    red, green, blue = picture.image.getpixel((5, 5))
    assert abs(red - green) < 4 and abs(blue - green) < 4 and 150 < green < 220
    assert (picture.icc_profile, picture.image.info) == (None, {})


def test_grey_is_converted_with_its_profile():
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
def test_every_format_and_mode_becomes_a_mask_of_black_and_white(data):
    assert same(read_mask(data, (32, 16)), half("L", 0, 255))


def test_the_orientation_of_a_mask_is_applied_before_its_size_is_compared():
    exif = Image.Exif()
    exif[0x0112] = 6
    mask = read_mask(saved(half("L", 0, 255), exif=exif), (16, 32))
    assert mask.getbbox() == (0, 16, 16, 32)


def test_a_mask_is_read_without_a_size_to_compare():
    assert read_mask(encode_png(half("L", 0, 255))).size == (32, 16)


def erased(image: Image.Image) -> Image.Image:
    """Return the picture with its right half erased, as OpenAI's masks are."""
    alpha = Image.new("L", image.size, 255)
    alpha.paste(0, (image.width // 2, 0, *image.size))
    return Image.merge("RGBA", (*image.convert("RGB").split(), alpha))


def test_a_mask_that_is_a_picture_with_erased_parts_selects_those():
    picture = gradient((40, 20))
    mask = read_mask(saved(erased(picture)), (40, 20))
    assert mask.getbbox() == (20, 0, 40, 20)
    assert read_mask(saved(erased(picture), "WEBP", lossless=True), (40, 20)).tobytes() == mask.tobytes()


def test_a_grey_mask_with_transparent_parts_is_refused_because_both_conventions_are_possible():
    with pytest.raises(BadPicture, match="transparent in parts and grey in others"):
        read_mask(saved(erased(gradient((40, 20)).convert("L"))), (40, 20))


@pytest.mark.parametrize("level", [0, 255])
def test_black_and_white_masks_with_transparent_parts_keep_their_meaning(level):
    mask = erased(Image.new("RGB", (40, 20), (level,) * 3))
    if level:
        assert read_mask(saved(mask), (40, 20)).getbbox() == (0, 0, 20, 20)
    else:
        with pytest.raises(BadPicture, match="selects nothing"):
            read_mask(saved(mask), (40, 20))


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_the_layer_of_a_picture_keeps_its_own_colours_and_alpha(format):
    picture = erased(gradient((40, 20)))
    read = read_picture(saved(picture, format, **({"lossless": True, "exact": True} if format == "WEBP" else {})))
    assert read.layer.mode == "RGBA" and read.layer.tobytes() == picture.tobytes()
    assert read.image.getpixel((39, 0)) == WHITE
    assert read_picture(saved(read.layer, exif=orientation(6))).layer.size == (20, 40)


def test_an_opaque_picture_has_no_layer():
    for image in (gradient((40, 20)), gradient((40, 20)).convert("RGBA"), gradient((40, 20)).convert("LA")):
        assert read_picture(saved(image)).layer is None


def test_the_layer_of_a_picture_with_a_palette_has_its_transparent_colour():
    layer = read_picture(palette(transparency=1)).layer
    assert (layer.getpixel((0, 0)), layer.getpixel((1, 1))) == ((*RED, 255), (*BLUE, 0))
