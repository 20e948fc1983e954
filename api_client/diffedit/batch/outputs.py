"""Where results are written: a folder, or a prefix of a bucket. A file is there whole or not at all."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TextIO
from urllib.parse import urlsplit

from diffedit.errors import InvalidRequest, OutputUnavailable
from diffedit.objects.s3 import S3ObjectStore
from diffedit.settings import Settings


class Output(Protocol):
    """Where the results of a batch go."""

    def write(self, name: str, data: bytes) -> None:
        """Write a file, for any thread. `name` has "/" between folders. Raises OutputUnavailable, StoreUnavailable."""


class FolderOutput:
    """A folder. Files appear when they are complete."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, name: str, data: bytes) -> None:
        write_whole(self.folder / name, data)


class S3Output:
    """A prefix of a bucket of the S3 server of these settings, or of AWS."""

    def __init__(self, settings: Settings, url: str) -> None:
        """Raises InvalidRequest if the URL is not "s3://bucket/prefix"."""
        parts = urlsplit(url)
        if not parts.netloc or parts.query or parts.fragment:
            raise InvalidRequest(f"--out {url}: write it as s3://bucket/prefix")
        self._prefix = f"{parts.path.strip('/')}/" if parts.path.strip("/") else ""
        self._store = S3ObjectStore(settings.model_copy(update={"s3_bucket": parts.netloc}))

    def write(self, name: str, data: bytes) -> None:
        self._store.put(self._prefix + name, data)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that is there whole or not at all, also after a crash of the machine. Raises OutputUnavailable."""
    with _replacing(path) as part, part.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def replaced_when_written(path: Path) -> Iterator[TextIO]:
    """Give a text file that takes the place of `path` when the context ends without an error.

    Raises:
        OutputUnavailable: it cannot be written.
    """
    with _replacing(path) as part, part.open("w", encoding="utf-8") as file:
        yield file


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield part
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise OutputUnavailable(f"cannot write {path}: {error.strerror or error}") from error
