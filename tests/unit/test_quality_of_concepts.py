"""The comparison of the two ways of two concepts: its paired test, and the edits that it keeps."""

from pathlib import Path

import pytest

from benchmarks.quality.concept_prompts import NO_PICTURE, KeptEdits, numbered, paired, table
from benchmarks.quality.held_out_edits import Edit, held_out_swaps


def edit(succeeds: bool) -> Edit:
    return Edit("two", "dog", "cat", "cat" if succeeds else "dog", 0.5, 0.5, 10.0, 5.0, 1.0, NO_PICTURE, NO_PICTURE)


def edits(sentences: str, caption: str) -> dict[str, list[Edit | None]]:
    """Return an edit that succeeds for "+", one that fails for "-", and none for a space."""
    marks = {"sentences": sentences, "caption": caption}
    return {way: [None if mark == " " else edit(mark == "+") for mark in each] for way, each in marks.items()}


@pytest.mark.parametrize(
    ("sentences", "caption", "expected"),
    [
        ("++--", "++--", "sentences 0, caption 0 of 4, p = 1"),
        ("+-----++", "-+++++++", "sentences 1, caption 5 of 8, p = 0.22"),
        ("-" * 10, "+" * 10, "sentences 0, caption 10 of 10, p = 0.002"),
        ("-- +", "++- ", "sentences 0, caption 2 of 2, p = 0.5"),
        ("    ", "++--", "sentences 0, caption 0 of 0, p = 1"),
    ],
)
def test_the_paired_test_counts_what_only_one_way_edits_right(sentences: str, caption: str, expected: str) -> None:
    assert paired(edits(sentences, caption), lambda edit: edit.layout == "two") == expected


def test_a_group_without_swaps_has_no_row_of_numbers() -> None:
    assert table(edits("+-", "++")).row_count == 8


def test_kept_edits_are_those_of_the_seed(tmp_path: Path) -> None:
    path = tmp_path / "edits.jsonl"
    KeptEdits(1, path).add("caption", 3, edit(True))
    KeptEdits(2, path).add("caption", 4, edit(False))
    assert KeptEdits(1, path).edits == {("caption", "two", 3): edit(True)}
    assert KeptEdits(1, None).edits == {}


def test_the_number_of_a_swap_does_not_depend_on_the_count() -> None:
    few, many = (numbered(held_out_swaps(7, count)) for count in (10, 20))
    assert {(number, swap.before.layout): swap for number, swap in few}.items() <= {
        (number, swap.before.layout): swap for number, swap in many
    }.items()
