"""Thumbnails: their size, their colours, their alpha."""

from io import BytesIO

import pytest
from PIL import Image, ImageCms

from diffedit.pictures import Picture, read_picture
from diffedit.thumbnails import MAX_SIDE, encode_thumbnail
from tests.support.icc_profiles import SRGB, icc
from tests.support.images import farthest, gradient, plain, saved


def decoded(picture: Picture) -> Image.Image:
    image = Image.open(BytesIO(encode_thumbnail(picture)))
    assert image.format == "WEBP"
    image.load()
    return image


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((640, 400), (320, 200)),
        ((400, 640), (200, 320)),
        ((5000, 625), (320, 40)),
        ((320, 320), (320, 320)),
        ((64, 48), (64, 48)),
        ((8, 8), (8, 8)),
    ],
)
def test_the_longer_side_has_at_most_320_pixels(size: tuple[int, int], expected: tuple[int, int]) -> None:
    picture = read_picture(saved(gradient(size)))
    before = picture.image.copy()
    thumbnail = decoded(picture)
    assert thumbnail.size == expected and max(expected) <= MAX_SIDE
    if min(expected) > 8:  # of a smaller gradient, colours change within a block of the codec
        assert farthest(thumbnail.convert("RGB"), before.resize(expected, Image.Resampling.BICUBIC)) < 48
    assert picture.image.tobytes() == before.tobytes(), "the result itself must stay as it is"
    # It can be read as a picture.
    read_picture(encode_thumbnail(picture))


def test_alpha_stays() -> None:
    image = plain(64, 32, "red").convert("RGBA")
    image.paste((0, 0, 255, 0), (32, 0, 64, 32))
    thumbnail = decoded(read_picture(saved(image)))
    assert thumbnail.mode == "RGBA"
    assert thumbnail.getpixel((8, 16))[3] == 255 and thumbnail.getpixel((56, 16))[3] == 0
    assert farthest(thumbnail.crop((0, 0, 24, 32)).convert("RGB"), plain(24, 32, "red")) < 8


def test_colours_become_srgb() -> None:
    # Red, green and blue change places, so that a colour space that is ignored shows.
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = bytearray(profile)
    count = int.from_bytes(profile[128:132], "big")
    tags = {bytes(profile[132 + 12 * n : 136 + 12 * n]): 136 + 12 * n for n in range(count)}
    red, blue = (profile[tags[name] : tags[name] + 8] for name in (b"rXYZ", b"bXYZ"))
    swapped[tags[b"rXYZ"] : tags[b"rXYZ"] + 8], swapped[tags[b"bXYZ"] : tags[b"bXYZ"] + 8] = blue, red
    picture = read_picture(saved(plain(64, 64, "red"), icc_profile=bytes(swapped)))
    assert picture.icc_profile == bytes(swapped)
    thumbnail = decoded(picture)
    assert "icc_profile" not in thumbnail.info
    assert farthest(thumbnail.convert("RGB"), plain(64, 64, "blue")) < 16
    assert farthest(decoded(read_picture(saved(plain(64, 64, "red"), icc_profile=SRGB))), plain(64, 64, "red")) < 16


def test_a_profile_that_cannot_be_used_is_left_out() -> None:
    odd = icc(b"GRAY", b"mntr", b"XYZ ", b"kTRC", b"curv" + bytes(8))
    picture = Picture(plain(64, 64, "red"), odd, "png")
    assert farthest(decoded(picture), plain(64, 64, "red")) < 16
    assert farthest(decoded(Picture(plain(64, 64, "red"), b"no profile", "png")), plain(64, 64, "red")) < 16
