"""Pictures on the model's canvas and back: fitting, latent masks, composing."""

from itertools import pairwise

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from diffedit_worker.diffusion.canvas import Canvas, compose, grow_mask, shrink_mask
from tests.support.images import farthest, gradient, half, same, speckled

WHITE, BLACK, RED, BLUE = (255, 255, 255), (0, 0, 0), (255, 0, 0), (0, 0, 255)
quick = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)


# -- canvas -----------------------------------------------------------------------------------------------------------


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
def test_fit(size, limit, factor, scaled, padded):
    assert Canvas.fit(size, limit, factor) == Canvas(size, scaled, padded)


@pytest.mark.parametrize(("limit", "factor"), [(100, 8), (0, 8), (4, 8)])
def test_a_limit_that_is_no_multiple_is_refused(limit, factor):
    with pytest.raises(ValueError, match="not a multiple"):
        Canvas.fit((64, 64), limit, factor)


def test_the_round_trip_is_exact_where_nothing_is_scaled():
    for size in ((64, 64), (64, 41), (33, 64)):
        canvas, image = Canvas.fit(size, 64, 8), speckled(size)
        assert canvas.scaled == size
        assert same(canvas.bring_back(canvas.place(image)), image)


@pytest.mark.parametrize(
    "canvas",
    [
        Canvas.fit((64, 41), 64, 8),
        Canvas.fit((33, 64), 64, 8),
        Canvas(size=(60, 41), scaled=(60, 41), padded=(64, 48)),
    ],
)
def test_the_padding_repeats_the_edge(canvas):
    size, image = canvas.size, speckled(canvas.size)

    placed = canvas.place(image)

    assert placed.size == canvas.padded != size
    for y in range(placed.height):
        for x in range(placed.width):
            assert placed.getpixel((x, y)) == image.getpixel((min(x, size[0] - 1), min(y, size[1] - 1)))


@pytest.mark.parametrize("size", [(200, 200), (200, 133), (37, 80), (16, 9)])
def test_a_smooth_picture_survives_scaling_and_stays_in_place(size):
    canvas, image = Canvas.fit(size, 128, 8), gradient(size).resize(size)
    smooth = gradient((8, 8)).resize(size, Image.Resampling.BICUBIC)
    back = canvas.bring_back(canvas.place(smooth))
    assert back.size == image.size
    assert farthest(back, smooth) < 12


def test_pictures_of_another_size_are_refused():
    canvas = Canvas.fit((64, 41), 64, 8)
    with pytest.raises(ValueError, match="\\(64, 64\\) pixels, not \\(64, 41\\)"):
        canvas.place(gradient((64, 64)))
    with pytest.raises(ValueError, match="\\(64, 41\\) pixels, not \\(64, 48\\)"):
        canvas.bring_back(gradient((64, 41)))
    with pytest.raises(ValueError):
        grow_mask(Image.new("L", (8, 8)), canvas)
    with pytest.raises(ValueError):
        shrink_mask(Image.new("L", (64, 48)), canvas, 8)


# -- latent masks -----------------------------------------------------------------------------------------------------

FITS = [(64, 8), (64, 2), (128, 8), (96, 16), (512, 64)]
sides = st.integers(8, 240)
sizes = st.tuples(sides, sides).filter(lambda size: max(size) <= 8 * min(size))


def latent(canvas: Canvas, factor: int, bits: int = 0) -> Image.Image:
    size = (canvas.padded[0] // factor, canvas.padded[1] // factor)
    count = size[0] * size[1]
    return Image.frombytes("L", size, bytes(255 * (bits >> at & 1) for at in range(count)))


@settings(quick, max_examples=100)
@given(sizes, st.sampled_from(FITS), st.integers(0, 2**1024 - 1))
@example((11, 12), (80, 8), int("10" * 50, 2))  # the last cell but one holds a single pixel, the last one no centre
def test_shrinking_undoes_growing(size, fit, bits):
    canvas, factor = Canvas.fit(size, *fit), fit[1]
    cells = latent(canvas, factor, bits)
    mask = grow_mask(cells, canvas)
    assert (mask.mode, mask.size) == ("L", size)
    if size[0] >= cells.width and size[1] >= cells.height:
        assert same(shrink_mask(mask, canvas, factor), cells)
    else:
        assert bool(mask.getbbox()) == bool(cells.getbbox())


@settings(quick, max_examples=80)
@given(sizes, st.sampled_from(FITS), st.floats(0, 0.999), st.floats(0, 0.999))
def test_no_mask_shrinks_to_nothing(size, fit, across, down):
    canvas, mask = Canvas.fit(size, *fit), Image.new("L", size)
    dot = (int(across * size[0]), int(down * size[1]))
    mask.putpixel(dot, 255)

    cells = shrink_mask(mask, canvas, fit[1])

    # Then the cells that are on are the dot's own, or its neighbours where it is on a border
    left, top, right, bottom = cells.getbbox()
    for axis, first, last in ((0, left, right), (1, top, bottom)):
        pitch = canvas.size[axis] * fit[1] / canvas.scaled[axis]
        assert first - 1 <= dot[axis] / pitch and (dot[axis] + 1) / pitch <= last + 1


def test_a_grown_cell_is_where_the_canvas_shows_it():
    # Given a picture that is white in one grown cell, the canvas is brightest in that cell
    canvas = Canvas.fit((203, 131), 128, 16)
    for y in range(canvas.padded[1] // 16):
        for x in range(canvas.padded[0] // 16):
            cells = latent(canvas, 16)
            cells.putpixel((x, y), 255)
            placed = canvas.place(grow_mask(cells, canvas).convert("RGB")).convert("L")
            shares = placed.resize(cells.size, Image.Resampling.BOX)
            assert shares.getpixel((x, y)) == shares.getextrema()[1] > 200
            shares.putpixel((x, y), 0)
            assert shares.getextrema()[1] < 40


@pytest.mark.parametrize("size", [(203, 131), (128, 100), (77, 150), (1000, 333)])
def test_a_pixel_belongs_to_the_cell_in_which_its_centre_lies(size):
    canvas = Canvas.fit(size, 128, 16)
    cells = latent(canvas, 16, int("10" * 200, 2))
    mask = grow_mask(cells, canvas)
    # The last row and column may belong to a cell that is nearly all padding
    for y in range(0, size[1] - 1, 3):
        for x in range(size[0] - 1):
            cell = tuple(int((at + 0.5) * canvas.scaled[i] / size[i] / 16) for i, at in enumerate((x, y)))
            assert mask.getpixel((x, y)) == cells.getpixel(cell)


def test_pixels_larger_than_cells_take_whole_blocks():
    canvas = Canvas.fit((8, 16), 256, 8)
    mask = Image.new("L", (8, 16))
    mask.putpixel((5, 9), 255)

    cells = shrink_mask(mask, canvas, 8)

    assert (cells.size, cells.getbbox()) == ((16, 32), (10, 18, 12, 20))
    assert same(grow_mask(cells, canvas), mask)


def test_a_stroke_keeps_every_cell_that_it_crosses_and_a_graze_does_not_count():
    canvas = Canvas.fit((128, 128), 128, 16)
    stroke = Image.new("L", (128, 128))
    stroke.paste(255, (0, 20, 128, 24))
    stroke.paste(255, (100, 24, 104, 35))
    cells = shrink_mask(stroke, canvas, 16)
    assert cells.getbbox() == (0, 1, 8, 2)
    assert cells.crop((0, 1, 8, 2)).getextrema() == (255, 255)


@pytest.mark.parametrize(("last", "on"), [(3, 0), (4, 255)])
def test_a_quarter_of_a_cell_turns_it_on(last, on):
    canvas = Canvas.fit((128, 128), 128, 16)
    mask = Image.new("L", (128, 128))
    mask.paste(255, (64, 64, 80, 80))
    mask.paste(255, (0, 0, last, 16))
    assert shrink_mask(mask, canvas, 16).getpixel((0, 0)) == on


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


def test_outside_of_the_seam_the_picture_is_the_users_own():
    original, edited, mask = speckled((90, 70)), gradient((90, 70)), Image.new("L", (90, 70))
    mask.paste(255, (30, 20, 60, 50))
    result = compose(original, edited, mask, edge=6)
    far = Image.new("L", (90, 70), 255)
    far.paste(0, (26, 16, 64, 54))
    assert same(Image.composite(result, original, far), original)
    assert same(result.crop((34, 24, 56, 46)), edited.crop((34, 24, 56, 46)))


def test_no_edge_is_a_hard_edge():
    original, edited, mask = speckled((32, 16)), gradient((32, 16)), half("L", 0, 255)
    assert same(compose(original, edited, mask, edge=0), Image.composite(edited, original, mask))
