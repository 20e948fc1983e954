"""Bytes by key. A key is written once: its content follows from the key, so writing it again changes nothing."""

import hashlib
from datetime import timedelta
from typing import NamedTuple, Protocol

from diffedit.errors import ArtifactError
from diffedit.pictures import MAX_BYTES, MAX_RESULT_BYTES

MAX_JSON_BYTES = 2**20


def check_size(key: str, size: float) -> None:
    """Raises ArtifactError if what lies at `key` is larger than anything that belongs there.

    Before it is read: who may write into the bucket shall not be able to fill the memory of who reads from it.
    """
    limit = MAX_BYTES if key.startswith("inputs/") else MAX_JSON_BYTES if key.endswith(".json") else MAX_RESULT_BYTES
    if size > limit:
        raise ArtifactError(f"what is stored takes {size / 2**20:.1f} MiB, over the limit of {limit // 2**20}")


def check_content(key: str, data: bytes) -> None:
    """Raises ArtifactError if `data` is not the picture that was uploaded to `key`.

    What is made from a picture is found by its key, by everybody: who may upload shall not be able to exchange it.
    """
    if key.startswith("inputs/") and hashlib.sha256(data).hexdigest() not in key:
        raise ArtifactError("what is stored is not what its key promises; upload it again")


class Stored(NamedTuple):
    """An object in the bucket; `size` in bytes."""

    key: str
    size: int


class ObjectStore(Protocol):
    """Where pictures and tensors lie. `S3Store` is the real one, `testing.MemoryStore` its double."""

    def put(self, key: str, data: bytes) -> None:
        """Store `data`."""

    def get(self, key: str) -> bytes:
        """What lies at `key`. Raises ArtifactError if nothing does, or something too large."""

    def exists(self, key: str) -> bool:
        """Whether something lies at `key`."""

    def delete(self, key: str) -> None:
        """Let nothing lie at `key`."""

    def older_than(self, age: timedelta) -> list[Stored]:
        """What was stored longer ago, of all that we store."""

    def url(self, key: str, expires: int) -> str:
        """A URL that anyone may read the object from for `expires` seconds, from now."""

    def ping(self) -> None:
        """Raises StoreUnavailable if the bucket does not answer."""
