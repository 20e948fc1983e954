"""An object store that waits for an S3 server that does not answer."""

from collections.abc import Callable

from diffedit.objects.store import ObjectStore
from diffedit.retries import s3_outage_tolerant


class RetryingStore:
    """The requests of one stage, each repeated for up to `timeout` seconds while the object store does not answer.

    boto3 makes a few quick retries of its own. These retries begin where boto3 gives up. `on_retry()` is called before
    each wait, and an exception that it raises ends the retries.
    """

    def __init__(self, object_store: ObjectStore, timeout: float, on_retry: Callable[[], None]) -> None:
        self._object_store = object_store
        self._retrying = s3_outage_tolerant(timeout, on_retry)

    def put(self, key: str, data: bytes) -> None:
        self._retrying(self._object_store.put, key, data)

    def get(self, key: str) -> bytes:
        return self._retrying(self._object_store.get, key)

    def exists(self, key: str) -> bool:
        return self._retrying(self._object_store.exists, key)

    def delete(self, key: str) -> None:
        self._retrying(self._object_store.delete, key)
