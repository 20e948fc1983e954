"""An object store whose requests are measured."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta

from diffedit.contract.object_keys import FOLDERS
from diffedit.objects.links import UploadUrl
from diffedit.objects.store import ObjectStore, Stored


class MeasuredStore:
    """Another `ObjectStore`, each request of which is made inside of `measured(operation)`.

    The operations are "get", "put", "exists", "delete" and "ping".
    """

    def __init__(self, object_store: ObjectStore, measured: Callable[[str], AbstractContextManager[None]]) -> None:
        self._object_store = object_store
        self._measured = measured

    def put(self, key: str, data: bytes) -> None:
        with self._measured("put"):
            self._object_store.put(key, data)

    def get(self, key: str) -> bytes:
        with self._measured("get"):
            return self._object_store.get(key)

    def exists(self, key: str) -> bool:
        with self._measured("exists"):
            return self._object_store.exists(key)

    def delete(self, key: str) -> None:
        with self._measured("delete"):
            self._object_store.delete(key)

    def delete_all(self, keys: Sequence[str]) -> None:
        with self._measured("delete"):
            self._object_store.delete_all(keys)

    def ping(self) -> None:
        with self._measured("ping"):
            self._object_store.ping()

    # A worker needs none of the following for its stages.

    def older_than(self, age: timedelta, folders: Sequence[str] = FOLDERS) -> list[Stored]:
        return self._object_store.older_than(age, folders)

    def stored_in(self, folder: str) -> dict[str, float]:
        return self._object_store.stored_in(folder)

    def url(self, key: str, expires: int, disposition: str | None = None) -> str:
        return self._object_store.url(key, expires, disposition)

    def upload_url(self, key: str, content_type: str, size: int, expires: int) -> UploadUrl:
        return self._object_store.upload_url(key, content_type, size, expires)

    def now(self) -> float | None:
        return self._object_store.now()

    def close(self) -> None:
        self._object_store.close()
