"""How results are named: a template with the columns of a row, such as "{index:05}-{stem}"."""

import string
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from diffedit.batch.manifest import ManifestRow
from diffedit.errors import InvalidRequest

FOR_FOLDERS, FOR_FILES = "{path}", "{index:05}-{stem}"
"""The default templates."""
FIELDS = ("index", "stem", "path", "digest")
MAX_BYTES = 200
"""Bytes of a folder's or a file's name, at most: file systems take 255, and the name of a temporary file is longer."""
_REFUSED = frozenset('<>:"|?*\\')


class Template(string.Formatter):
    """A template of names. It has access to nothing but the columns of a row.

    Fields: `index` (from 1), `stem` and `path` of the picture (without extension; `path` with its folders), `digest`
    (12 digits), and each column of the row; columns of the user's own are named without their underscore.
    """

    def __init__(self, text: str) -> None:
        """Raises InvalidRequest if the text is no template."""
        self._text = text
        try:
            fields = [field for _, field, _, _ in self.parse(text) if field is not None]
        except ValueError as error:
            raise InvalidRequest(f"--name {text}: {error}; write fields as {{index}} or {{stem}}") from None
        if bad := [field for field in fields if not field.isidentifier()]:
            raise InvalidRequest(f"--name {text}: {bad[0]!r} is no field; known: {', '.join(FIELDS)} and the columns")

    def name_of(self, row: ManifestRow) -> str:
        """Return the name of the result of a row, with "/" between folders. Raises InvalidRequest."""
        known = {
            **{name: _one_part(value) for name, value in {**row.options, **row.own}.items()},
            "index": row.position,
            "stem": PurePosixPath(row.path).name or row.digest[:12],
            "path": row.path or row.digest[:12],
            "digest": row.digest[:12],
        }
        try:
            name = self.vformat(self._text, (), known)
        except KeyError as error:
            raise InvalidRequest(
                f"--name {self._text}: row {row.position} has no {error}; known: {', '.join(known)}"
            ) from None
        except (ValueError, TypeError) as error:
            raise InvalidRequest(f"--name {self._text}: row {row.position}: {error}") from None
        return "/".join([*map(_clean, _parts(name)[:-1]), _clean(_parts(name)[-1]) + ".png"])

    def get_value(self, key: int | str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        return kwargs[str(key)]


def _parts(name: str) -> list[str]:
    return [part for part in name.split("/") if part.strip(". ")] or ["result"]


def _one_part(value: Any) -> Any:
    """Return a value of a column without what would make folders of it."""
    if isinstance(value, int | float | bool):
        return value
    return str(value).replace("/", "-") if isinstance(value, str) else type(value).__name__


def _clean(part: str) -> str:
    """Return a part of a name that every file system takes."""
    text = "".join("-" if letter in _REFUSED or not letter.isprintable() else letter for letter in part)
    return text.encode()[:MAX_BYTES].decode(errors="ignore").strip(" ") or "-"
