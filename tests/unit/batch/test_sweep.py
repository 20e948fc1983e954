"""Plans of sweeps, and the contact sheet."""

import pytest
from PIL import Image

from diffedit import InvalidRequest
from diffedit.batch.sweep import Sheet, planned


def test_a_grid_has_all_combinations_and_labels_say_what_varies() -> None:
    plan = planned({"seed": [1, 2], "target_prompt": ["a cat", "a dog"], "strength": [0.5]})
    assert [dict(cell.options) for cell in plan.cells] == [
        {"target_prompt": target, "strength": 0.5, "seed": seed} for target in ("a cat", "a dog") for seed in (1, 2)
    ]
    assert [cell.label for cell in plan.cells][:2] == ["a cat, seed 1", "a cat, seed 2"]
    assert plan.columns == 2


def test_a_list_takes_the_first_of_each_then_the_second() -> None:
    plan = planned({"target_prompt": ["a", "b", "c"], "strength": [0.4, 0.6, 0.8], "seed": [7]}, as_list=True)
    assert [(cell.options["target_prompt"], cell.options["strength"], cell.options["seed"]) for cell in plan.cells] == [
        ("a", 0.4, 7),
        ("b", 0.6, 7),
        ("c", 0.8, 7),
    ]
    with pytest.raises(InvalidRequest, match="a list needs 3 values"):
        planned({"target_prompt": ["a", "b", "c"], "strength": [0.4, 0.6]}, as_list=True)


def test_nothing_that_varies_is_one_edit() -> None:
    assert [cell.options for cell in planned({}).cells] == [{}]


def test_a_sweep_has_a_limit() -> None:
    with pytest.raises(InvalidRequest, match="2000 at most"):
        planned({"seed": list(range(2001))})


def test_a_sheet_shows_each_result_in_its_place_and_each_error() -> None:
    plan = planned({"target_prompt": ["a cat", "x" * 400], "guidance_scale": [1, 2, 3]})
    sheet = Sheet(plan, "title", Image.new("RGB", (64, 32), "red"))
    for number, colour in enumerate(("lime", "blue", "black", "white", "yellow")):
        sheet.add(number, Image.new("RGBA", (64, 32), colour))
    sheet.fail(5, "empty_mask")
    image = sheet.image()
    colours = {colour for _, colour in image.getcolors(image.width * image.height) or ()}
    assert {(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)} <= colours
    assert image.width >= 3 * 256
