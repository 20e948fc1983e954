"""Names of results: templates with the columns of a row, and nothing that leaves the folder."""

from typing import Any

import pytest

from diffedit import InvalidRequest
from diffedit.batch.manifest import ManifestRow
from diffedit.batch.naming import FOR_FILES, FOR_FOLDERS, Template


def a_row(path: str = "shoes/red", **values: Any) -> ManifestRow:
    options = {name: value for name, value in values.items() if not name.startswith("_")}
    return ManifestRow(7, values, options, "ab" * 32, path)


@pytest.mark.parametrize(
    ("template", "name"),
    [
        (FOR_FILES, "00007-red.png"),
        (FOR_FOLDERS, "shoes/red.png"),
        ("{sku}/{seed}-{digest}", "X-9/3-abababababab.png"),
        ("{target_prompt}", "a-b- ..-c-.png"),
        ("../{stem}", "red.png"),
        ("/etc/{stem}", "etc/red.png"),
        ("{dots}", "result.png"),
        ("{strength:.2f}", "0.50.png"),
    ],
)
def test_a_name_is_made_of_columns_and_stays_in_the_folder(template: str, name: str) -> None:
    row = a_row(target_prompt="a/b? ../c*", seed=3, strength=0.5, _sku="X/9", _dots="..")
    assert Template(template).name_of(row) == name


def test_pictures_without_a_path_are_named_by_their_digest() -> None:
    assert Template(FOR_FILES).name_of(a_row("")) == "00007-abababababab.png"


def test_a_name_is_no_longer_than_file_systems_take() -> None:
    assert len(Template("{target_prompt}").name_of(a_row(target_prompt="ä" * 300)).encode()) <= 204


@pytest.mark.parametrize("template", ["{", "{0}", "{stem.__class__}", "{tags[a]}", "{}", "{nothing}", "{stem:d}"])
def test_a_template_that_cannot_be_used_is_refused(template: str) -> None:
    with pytest.raises(InvalidRequest, match="--name"):
        Template(template).name_of(a_row(tags={"a": "b"}))
