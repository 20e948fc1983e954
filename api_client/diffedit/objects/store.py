"""Bytes by key. A key is written once: its content follows from the key, so writing it again changes nothing.

Only uploads of browsers are different: they can be replaced as long as their link is valid.
"""

import hashlib
from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple, Protocol

from diffedit.contract.object_keys import FOLDERS, INPUTS, UPLOADS
from diffedit.errors import ArtifactError
from diffedit.objects.links import UploadUrl
from diffedit.pictures import MAX_PICTURE_BYTES, MAX_RESULT_BYTES

MAX_JSON_BYTES = 2**20


def check_size(key: str, size: float) -> None:
    """Raise ArtifactError if an object of `size` bytes is larger than anything that belongs at `key`.

    Call it before the object is read, so that a writer of the bucket cannot fill the memory of its readers.
    """
    limit = MAX_RESULT_BYTES
    if key.startswith((INPUTS, UPLOADS)):
        limit = MAX_PICTURE_BYTES
    elif key.endswith(".json"):
        limit = MAX_JSON_BYTES
    if size > limit:
        raise ArtifactError(f"the stored object has {size / 2**20:.1f} MiB, over the limit of {limit // 2**20}")


def check_content(key: str, data: bytes) -> None:
    """Raise ArtifactError if `data` is not the picture that was uploaded to `key`.

    Artifacts are found by the key of their picture. An uploader must not be able to exchange the picture of another.
    """
    if key.startswith(INPUTS) and hashlib.sha256(data).hexdigest() not in key:
        raise ArtifactError("the stored picture is not the one that was uploaded under this key; upload it again")


class Stored(NamedTuple):
    """An object in the bucket; `size` in bytes."""

    key: str
    size: int


class ObjectStore(Protocol):
    """Where pictures and tensors are stored. `S3ObjectStore` is the real one, `MemoryObjectStore` its double."""

    def put(self, key: str, data: bytes) -> None:
        """Store `data` under `key`."""

    def get(self, key: str) -> bytes:
        """Return the object. Raises ArtifactMissing, or ArtifactError if it is too large."""

    def exists(self, key: str) -> bool:
        """Return whether there is an object."""

    def delete(self, key: str) -> None:
        """Delete the object. It need not exist."""

    def delete_all(self, keys: Sequence[str]) -> None:
        """Delete these objects, a thousand in one request. They need not exist."""

    def stored_in(self, folder: str) -> dict[str, float]:
        """Return the keys of all objects in this folder, each with the time when it was stored.

        The time is that of the server, in whole seconds since 1970 or more exact.
        """

    def older_than(self, age: timedelta, folders: Sequence[str] = FOLDERS) -> list[Stored]:
        """Return the objects of this project, or of these folders, that were stored longer ago than `age`."""

    def url(self, key: str, expires: int, disposition: str | None = None) -> str:
        """Return a URL from which anyone may read the object for the next `expires` seconds. Sends no request.

        The answer has the content type that the key's extension says, and `disposition` as its Content-Disposition.
        """

    def upload_url(self, key: str, content_type: str, size: int, expires: int) -> UploadUrl:
        """Return a request with which anyone may store `size` bytes at `key` for the next `expires` seconds.

        Sends no request itself.
        """

    def now(self) -> float | None:
        """Return the server's time, in seconds since 1970; None if it does not tell it."""

    def ping(self) -> None:
        """Raise StoreUnavailable if the bucket does not answer."""

    def close(self) -> None:
        """Close the connections. They are opened again when the store is used."""
