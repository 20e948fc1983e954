"""Pictures that are written: PNG files with text, and rows of pictures."""

from io import BytesIO

import pytest
from PIL import Image

from diffedit.errors import BadPicture
from diffedit.pictures import encode_png, read_picture, read_text, side_by_side
from tests.support.icc_profiles import SRGB
from tests.support.images import gradient, png_chunk, same, saved

WHITE, RED, BLUE = (255, 255, 255), (255, 0, 0), (0, 0, 255)


def test_a_png_keeps_its_text_and_its_pixels():
    image = gradient((40, 30))
    text = {"diffedit": '{"target": "Äpfel, 梨 \\u0000"}', "Software": "line\nline", "empty": ""}

    data = encode_png(image, text=text)

    assert read_text(data) == text
    assert data.count(b"iTXt") == 3
    assert same(read_picture(data).image, image)


def test_a_profile_is_written_only_if_it_is_given():
    image = Image.open(BytesIO(saved(gradient((16, 16)), icc_profile=SRGB)))
    assert read_picture(encode_png(image)).icc_profile is None


def test_text_after_the_pixels_is_found_and_a_jpeg_has_none():
    data = encode_png(gradient((16, 16)))
    end = data.rindex(b"IEND") - 4
    assert read_text(data[:end] + png_chunk(b"tEXt", b"late\0yes") + data[end:]) == {"late": "yes"}
    assert read_text(saved(gradient((16, 16)), "JPEG")) == {}
    with pytest.raises(BadPicture):
        read_text(b"text")


def test_side_by_side_enlarges_small_pictures_by_whole_factors():
    row = side_by_side([Image.new("RGB", (64, 32), RED), Image.new("L", (64, 32), 255)], gap=10, background="blue")

    assert row.size == (256 + 10 + 256, 128)
    assert [row.getpixel((x, 60)) for x in (255, 256, 265, 266)] == [RED, BLUE, BLUE, WHITE]


def test_side_by_side_keeps_the_size_of_large_pictures():
    large = gradient((300, 200))
    row = side_by_side([large, large, large], gap=0)
    assert row.size == (900, 200)
    assert same(row.crop((300, 0, 600, 200)), large)
