"""Manifests: files whose rows are keyword arguments of `Client.edit`, or a folder of pictures.

A manifest is read several times, row by row, so that one of a million rows takes no memory.
"""

import csv
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffedit.contract.validation import digest
from diffedit.errors import InvalidRequest
from diffedit.many_jobs import PICTURES
from diffedit.options import EditOptions

Values = dict[str, Any]
PICTURE_FILES = frozenset({".png", ".jpg", ".jpeg", ".webp"})
OWN_COLUMN = "_"
"""How the names of columns begin that are the user's own: they are not options of an edit."""
_TEXTS = frozenset(
    {
        *("source_prompt", "target_prompt", "source_concept", "target_concept", "caption", "negative_prompt"),
        *("profile", "preset", "owner", "webhook", "scheduler", "concept_prompts", "lane", "mask", *PICTURES),
    }
)
"""Columns of CSV that are texts even if they look like numbers."""


@dataclass(frozen=True)
class ManifestRow:
    """A row of a manifest.

    Attributes:
        position: its number, from 1.
        values: its columns, without empty ones, as they are written.
        options: the keyword arguments of the edit. Paths are relative to the working directory.
        digest: 64 hex digits: the hash of its options as they are written. Bytes of pictures are hashed, too.
        path: the path of the picture relative to the manifest, without its extension; "" if it is given as bytes.
    """

    position: int
    values: Values
    options: Values
    digest: str
    path: str

    @property
    def own(self) -> Values:
        """The columns that are the user's own, without the underscore."""
        return {name.removeprefix(OWN_COLUMN): self.values[name] for name in self.values if name[0] == OWN_COLUMN}


class Manifest:
    """A manifest, whose rows have the common options of a batch.

    Attributes:
        path: its file or folder.
    """

    def __init__(self, path: Path, common: Mapping[str, Any], skip: Path | None = None) -> None:
        """`skip` is a folder whose pictures are not edited, because results are written into it.

        Raises:
            InvalidRequest: there is no such file, or it has another format.
        """
        self.path = path
        self._common = dict(common)
        self._skip = skip and skip.resolve()
        self.is_folder = path.is_dir()
        self._base = path if self.is_folder else path.parent
        self._read = self._folder if self.is_folder else _reader_of(path)

    def __iter__(self) -> Iterator[ManifestRow]:
        """Yield all rows. Raises InvalidRequest if the file cannot be read, or a row has an unknown column."""
        try:
            for position, values in enumerate(self._read(self.path), start=1):
                yield self._row(position, values)
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidRequest(f"{self.path}: cannot be read: {error}") from error

    def _row(self, position: int, values: Values) -> ManifestRow:
        given = {name: _plain(value) for name, value in values.items() if value is not None and value != ""}
        asked = {**self._common, **{name: value for name, value in given.items() if not name.startswith(OWN_COLUMN)}}
        self._check(position, asked)
        picture = next(asked[name] for name in PICTURES if name in asked)
        options = {name: self._located(value) if name in FILES else value for name, value in asked.items()}
        return ManifestRow(position, given, options, digest(_digestible(asked)), self._relative(picture))

    def _check(self, position: int, asked: Values) -> None:
        known = {*EditOptions.__annotations__, *PICTURES} - {"idempotency_key"}
        where = f"{self.path}, row {position}"
        if unknown := asked.keys() - known:
            names = ", ".join(sorted(unknown))
            advice = f"columns of your own begin with {OWN_COLUMN!r}; options are {', '.join(sorted(known))}"
            raise InvalidRequest(f"{where}: {names}: no option of a batch; {advice}")
        if len(asked.keys() & set(PICTURES)) != 1:
            raise InvalidRequest(f"{where}: give one of {', '.join(PICTURES)}")

    def _located(self, value: Any) -> Any:
        """Return the path of a picture from the working directory. Bytes and data URIs are returned as they are."""
        if not isinstance(value, str) or value[:5].lower() == "data:" or "://" in value:
            return value
        return str(self._base / value)

    def _relative(self, picture: Any) -> str:
        if not isinstance(picture, str) or ":" in picture[:8]:
            return ""
        path = Path(picture)
        return path.stem if path.is_absolute() or ".." in path.parts else str(path.with_suffix(""))

    def _folder(self, folder: Path) -> Iterator[Values]:
        for path in sorted(folder.rglob("*")):
            inside = path.relative_to(folder)
            hidden = any(part.startswith(".") for part in inside.parts)
            if path.suffix.lower() not in PICTURE_FILES or hidden or not path.is_file():
                continue
            if self._skip is None or not path.resolve().is_relative_to(self._skip):
                yield {"picture": str(inside)}


FILES = frozenset({"image", "picture", "mask"})
"""Columns that may hold the path of a file."""


def _reader_of(path: Path) -> Callable[[Path], Iterable[Values]]:
    if not path.is_file():
        raise InvalidRequest(f"{path}: there is no such file or folder")
    readers: dict[str, Callable[[Path], Iterable[Values]]] = {
        ".jsonl": _json_lines,
        ".ndjson": _json_lines,
        ".csv": _comma_separated,
        ".tsv": _tab_separated,
        ".parquet": _parquet,
    }
    if path.suffix.lower() not in readers:
        raise InvalidRequest(f"{path}: a manifest is a folder, or a file that ends with {', '.join(readers)}")
    return readers[path.suffix.lower()]


def _json_lines(path: Path) -> Iterator[Values]:
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                values = json.loads(line)
            except ValueError as error:
                raise InvalidRequest(f"{path}, line {number}: this is not JSON ({error})") from None
            if not isinstance(values, dict):
                raise InvalidRequest(f"{path}, line {number}: a row must be a JSON object")
            yield values


def _comma_separated(path: Path, delimiter: str = ",") -> Iterator[Values]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file, delimiter=delimiter)
        try:
            for row in rows:
                if None in row or None in row.values():
                    raise InvalidRequest(f"{path}, line {rows.line_num}: not as many columns as the header has")
                yield {name: _typed(name, text) for name, text in row.items()}
        except csv.Error as error:
            raise InvalidRequest(f"{path}, line {rows.line_num}: {error}") from None


def _tab_separated(path: Path) -> Iterator[Values]:
    return _comma_separated(path, "\t")


def _typed(name: str, text: str) -> Any:
    """Return a cell of CSV as the type of its column: a text, a number, a truth value, or JSON for `tags`."""
    if name in _TEXTS or name.startswith(OWN_COLUMN):
        return text
    try:
        return json.loads(text.lower() if text.lower() in ("true", "false") else text)
    except ValueError:
        return text


def _parquet(path: Path) -> Iterator[Values]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise InvalidRequest(
            f"{path}: Parquet needs pyarrow; install it with: pip install 'diffedit-service[parquet]'"
        ) from None
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=64):
                yield from batch.to_pylist()
    except ArrowException as error:
        raise InvalidRequest(f"{path}: cannot be read as Parquet: {error}") from error


def _plain(value: Any) -> Any:
    """Return a picture of Hugging Face's `datasets` ({"bytes": ..., "path": ...}) as its bytes or its path."""
    if isinstance(value, dict) and value.keys() == {"bytes", "path"}:
        return value["bytes"] if value["bytes"] is not None else value["path"]
    return value


def _digestible(values: Any) -> Any:
    if isinstance(values, bytes):
        return {"sha256": hashlib.sha256(values).hexdigest()}
    if isinstance(values, dict):
        return {str(name): _digestible(value) for name, value in values.items()}
    return [_digestible(value) for value in values] if isinstance(values, list | tuple) else values
