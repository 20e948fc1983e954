"""The letterbox: pictures to the model's square and back, latent masks, composing."""

from itertools import pairwise
from random import Random

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from diffedit_worker.diffusion.letterbox import Letterbox, compose, downsample_mask, upsample_mask
from tests.support.images import farthest, gradient, half, same, speckled

WHITE, BLACK, RED, BLUE = (255, 255, 255), (0, 0, 0), (255, 0, 0), (0, 0, 255)
quick = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)


# -- fitting ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "limit", "factor", "scaled", "padded"),
    [
        ((512, 512), 512, 8, (512, 512), (512, 512)),
        ((1024, 1024), 512, 8, (512, 512), (512, 512)),
        ((64, 64), 512, 8, (512, 512), (512, 512)),
        ((1000, 600), 512, 8, (512, 307), (512, 312)),
        ((600, 1000), 512, 8, (307, 512), (312, 512)),
        ((64, 40), 64, 8, (64, 40), (64, 40)),
        ((64, 41), 64, 8, (64, 41), (64, 48)),
        ((4000, 500), 512, 64, (512, 64), (512, 64)),
        ((800, 100), 64, 16, (64, 8), (64, 16)),
    ],
)
def test_a_picture_is_scaled_to_the_limit_and_padded_to_the_factor(size, limit, factor, scaled, padded):
    assert Letterbox.fit(size, limit, factor) == Letterbox(size, scaled, padded)


@pytest.mark.parametrize(("limit", "factor"), [(100, 8), (0, 8), (4, 8)])
def test_a_limit_that_is_not_a_multiple_of_the_factor_is_refused(limit, factor):
    with pytest.raises(ValueError, match="not a multiple"):
        Letterbox.fit((64, 64), limit, factor)


def test_undo_is_exact_without_scaling():
    for size in ((64, 64), (64, 41), (33, 64)):
        letterbox, image = Letterbox.fit(size, 64, 8), speckled(size)
        assert letterbox.scaled == size
        assert same(letterbox.undo(letterbox.apply(image)), image)


@pytest.mark.parametrize(
    "letterbox",
    [
        Letterbox.fit((64, 41), 64, 8),
        Letterbox.fit((33, 64), 64, 8),
        Letterbox(size=(60, 41), scaled=(60, 41), padded=(64, 48)),
    ],
)
def test_the_padding_repeats_the_edge(letterbox):
    size, image = letterbox.size, speckled(letterbox.size)

    placed = letterbox.apply(image)

    assert placed.size == letterbox.padded != size
    for y in range(placed.height):
        for x in range(placed.width):
            assert placed.getpixel((x, y)) == image.getpixel((min(x, size[0] - 1), min(y, size[1] - 1)))


@pytest.mark.parametrize("size", [(200, 200), (200, 133), (37, 80), (16, 9)])
def test_undo_restores_a_smooth_picture_after_scaling(size):
    letterbox, image = Letterbox.fit(size, 128, 8), gradient(size).resize(size)
    smooth = gradient((8, 8)).resize(size, Image.Resampling.BICUBIC)
    back = letterbox.undo(letterbox.apply(smooth))
    assert back.size == image.size
    assert farthest(back, smooth) < 12


def test_pictures_of_another_size_are_refused():
    letterbox = Letterbox.fit((64, 41), 64, 8)
    with pytest.raises(ValueError, match="\\(64, 64\\) pixels, not \\(64, 41\\)"):
        letterbox.apply(gradient((64, 64)))
    with pytest.raises(ValueError, match="\\(64, 41\\) pixels, not \\(64, 48\\)"):
        letterbox.undo(gradient((64, 41)))
    with pytest.raises(ValueError):
        upsample_mask(Image.new("L", (8, 8)), letterbox)
    with pytest.raises(ValueError):
        downsample_mask(Image.new("L", (64, 48)), letterbox, 8)


# -- latent masks -----------------------------------------------------------------------------------------------------

FITS = [(64, 8), (64, 2), (128, 8), (96, 16), (512, 64)]
sides = st.integers(8, 240)
sizes = st.tuples(sides, sides).filter(lambda size: max(size) <= 8 * min(size))


def latent(letterbox: Letterbox, factor: int, bits: int = 0) -> Image.Image:
    size = (letterbox.padded[0] // factor, letterbox.padded[1] // factor)
    count = size[0] * size[1]
    return Image.frombytes("L", size, bytes(255 * (bits >> at & 1) for at in range(count)))


@settings(quick, max_examples=100)
@given(sizes, st.sampled_from(FITS), st.integers(0, 2**1024 - 1))
@example((11, 12), (80, 8), int("10" * 50, 2))  # the last cell but one contains one pixel, the last cell no centre
def test_downsampling_undoes_upsampling(size, fit, bits):
    letterbox, factor = Letterbox.fit(size, *fit), fit[1]
    cells = latent(letterbox, factor, bits)
    mask = upsample_mask(cells, letterbox)
    assert (mask.mode, mask.size) == ("L", size)
    if size[0] >= cells.width and size[1] >= cells.height:
        assert same(downsample_mask(mask, letterbox, factor), cells)
    else:
        assert bool(mask.getbbox()) == bool(cells.getbbox())


@settings(quick, max_examples=80)
@given(sizes, st.sampled_from(FITS), st.floats(0, 0.999), st.floats(0, 0.999))
def test_a_single_pixel_is_enough_for_a_cell(size, fit, across, down):
    letterbox, mask = Letterbox.fit(size, *fit), Image.new("L", size)
    dot = (int(across * size[0]), int(down * size[1]))
    mask.putpixel(dot, 255)

    cells = downsample_mask(mask, letterbox, fit[1])

    # Then the cells that are on are the dot's cell, or its neighbours if the dot is on a border
    left, top, right, bottom = cells.getbbox()
    for axis, first, last in ((0, left, right), (1, top, bottom)):
        pitch = letterbox.size[axis] * fit[1] / letterbox.scaled[axis]
        assert first - 1 <= dot[axis] / pitch and (dot[axis] + 1) / pitch <= last + 1


def plainly(mask: Image.Image, letterbox: Letterbox, factor: int) -> tuple[Image.Image, Image.Image]:
    """A mask downsampled by the rule, one cell at a time, and the result upsampled again."""
    columns, rows = (
        spans(*sides, factor) for sides in zip(letterbox.size, letterbox.scaled, letterbox.padded, strict=True)
    )
    boxes = {
        (x, y): (left, top, right, bottom)
        for y, (top, bottom) in enumerate(rows)
        for x, (left, right) in enumerate(columns)
    }
    quarter, touched = (Image.new("L", (len(columns), len(rows))) for _ in range(2))
    for cell, box in boxes.items():
        on = mask.crop(box).histogram()[255]
        touched.putpixel(cell, 255 if on else 0)
        quarter.putpixel(cell, 255 if 4 * on >= (box[2] - box[0]) * (box[3] - box[1]) else 0)
    cells = quarter if quarter.getbbox() else touched
    again = Image.new("L", mask.size)
    for cell, box in boxes.items():
        if cells.getpixel(cell):
            again.paste(255, box)
    return cells, again


def spans(size: int, scaled: int, padded: int, factor: int) -> list[tuple[int, int]]:
    """The picture's pixels whose centres lie in each cell along one axis; the nearest pixel if there is none."""
    cells = padded // factor
    if size < cells:
        firsts = [min((2 * cell + 1) * size * factor // (2 * scaled), size - 1) for cell in range(cells)]
        return [(first, first + 1) for first in firsts]
    starts = [-((scaled - 2 * cell * size * factor) // (2 * scaled)) for cell in range(cells)]
    starts = [min(start, size - cells + cell) for cell, start in enumerate(starts)]
    return list(zip(starts, [*starts[1:], size], strict=True))


@settings(quick, max_examples=60)
@given(sizes, st.sampled_from(FITS[:4]), st.sampled_from([0.02, 0.2, 0.5]), st.integers(0, 2**32))
def test_the_arrays_give_the_same_as_a_loop_over_cells(size, fit, share, seed):
    letterbox, factor, random = Letterbox.fit(size, *fit), fit[1], Random(seed)
    mask = Image.frombytes("L", size, bytes(255 * (random.random() < share) for _ in range(size[0] * size[1])))

    cells = downsample_mask(mask, letterbox, factor)

    wanted_cells, wanted_mask = plainly(mask, letterbox, factor)
    assert same(cells, wanted_cells)
    assert same(upsample_mask(cells, letterbox), wanted_mask)


def test_an_upsampled_cell_is_where_the_letterbox_puts_it():
    # Given a picture that is white in one upsampled cell, the fitted picture is brightest in that cell
    letterbox = Letterbox.fit((203, 131), 128, 16)
    for y in range(letterbox.padded[1] // 16):
        for x in range(letterbox.padded[0] // 16):
            cells = latent(letterbox, 16)
            cells.putpixel((x, y), 255)
            placed = letterbox.apply(upsample_mask(cells, letterbox).convert("RGB")).convert("L")
            shares = placed.resize(cells.size, Image.Resampling.BOX)
            assert shares.getpixel((x, y)) == shares.getextrema()[1] > 200
            shares.putpixel((x, y), 0)
            assert shares.getextrema()[1] < 40


@pytest.mark.parametrize("size", [(203, 131), (128, 100), (77, 150), (1000, 333)])
def test_a_pixel_belongs_to_the_cell_in_which_its_centre_lies(size):
    letterbox = Letterbox.fit(size, 128, 16)
    cells = latent(letterbox, 16, int("10" * 200, 2))
    mask = upsample_mask(cells, letterbox)
    # The last row and column may belong to a cell that is almost only padding
    for y in range(0, size[1] - 1, 3):
        for x in range(size[0] - 1):
            cell = tuple(int((at + 0.5) * letterbox.scaled[i] / size[i] / 16) for i, at in enumerate((x, y)))
            assert mask.getpixel((x, y)) == cells.getpixel(cell)


def test_a_pixel_larger_than_a_cell_takes_a_block_of_cells():
    letterbox = Letterbox.fit((8, 16), 256, 8)
    mask = Image.new("L", (8, 16))
    mask.putpixel((5, 9), 255)

    cells = downsample_mask(mask, letterbox, 8)

    assert (cells.size, cells.getbbox()) == ((16, 32), (10, 18, 12, 20))
    assert same(upsample_mask(cells, letterbox), mask)


def test_a_stroke_turns_on_the_cells_it_crosses_but_not_those_it_touches():
    letterbox = Letterbox.fit((128, 128), 128, 16)
    stroke = Image.new("L", (128, 128))
    stroke.paste(255, (0, 20, 128, 24))
    stroke.paste(255, (100, 24, 104, 35))
    cells = downsample_mask(stroke, letterbox, 16)
    assert cells.getbbox() == (0, 1, 8, 2)
    assert cells.crop((0, 1, 8, 2)).getextrema() == (255, 255)


@pytest.mark.parametrize(("last", "on"), [(3, 0), (4, 255)])
def test_a_quarter_of_a_cell_turns_it_on(last, on):
    letterbox = Letterbox.fit((128, 128), 128, 16)
    mask = Image.new("L", (128, 128))
    mask.paste(255, (64, 64, 80, 80))
    mask.paste(255, (0, 0, last, 16))
    assert downsample_mask(mask, letterbox, 16).getpixel((0, 0)) == on


# -- composing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("edge", [0, 0.5, 1, 3, 8, 8.7, 31])
@pytest.mark.parametrize(("value", "kept"), [(0, "original"), (255, "edited")])
def test_every_pair_of_values_is_kept_exactly(value, kept, edge):
    ramp = Image.linear_gradient("L")
    pair = {
        "original": Image.merge("RGB", [ramp] * 3),
        "edited": Image.merge("RGB", [ramp.transpose(Image.Transpose.ROTATE_90)] * 3),
    }
    assert same(compose(**pair, mask=Image.new("L", (256, 256), value), edge=edge), pair[kept])


@pytest.mark.parametrize("edge", [1, 2, 5, 8, 12.5])
def test_the_seam_is_a_ramp_centred_on_the_edge(edge):
    mask = Image.new("L", (100, 20))
    mask.paste(255, (50, 0, 100, 20))

    row = [
        compose(Image.new("RGB", mask.size, BLACK), Image.new("RGB", mask.size, WHITE), mask, edge).getpixel((x, 10))[0]
        for x in range(100)
    ]

    reach = int(edge / 2) + 1
    assert set(row[: 50 - reach]) == {0} and set(row[50 + reach :]) == {255}
    assert all(a <= b for a, b in pairwise(row))
    assert all(abs(row[49 - at] + row[50 + at] - 255) <= 2 for at in range(40))
    assert 0 < row[49] < 128 < row[50] < 255


def test_outside_of_the_seam_the_pixels_are_exact():
    original, edited, mask = speckled((90, 70)), gradient((90, 70)), Image.new("L", (90, 70))
    mask.paste(255, (30, 20, 60, 50))
    result = compose(original, edited, mask, edge=6)
    far = Image.new("L", (90, 70), 255)
    far.paste(0, (26, 16, 64, 54))
    assert same(Image.composite(result, original, far), original)
    assert same(result.crop((34, 24, 56, 46)), edited.crop((34, 24, 56, 46)))


def test_an_edge_of_0_is_hard():
    original, edited, mask = speckled((32, 16)), gradient((32, 16)), half("L", 0, 255)
    assert same(compose(original, edited, mask, edge=0), Image.composite(edited, original, mask))
