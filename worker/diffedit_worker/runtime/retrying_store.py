"""A store that is asked again while it does not answer."""

from collections.abc import Callable

from diffedit.objects.store import ObjectStore
from diffedit.retries import s3_outage_tolerant


class RetryingStore:
    """`store`, for a worker that has a stage's work to lose: an outage is waited out for `patience` seconds.

    boto3 has its own few quick retries; these begin where they end. `on_retry()` is called before each wait, and what
    it raises ends the waiting.
    """

    def __init__(self, object_store: ObjectStore, patience: float, on_retry: Callable[[], None]) -> None:
        self._object_store = object_store
        self._retrying = s3_outage_tolerant(patience, on_retry)

    def put(self, key: str, data: bytes) -> None:
        self._retrying(self._object_store.put, key, data)

    def get(self, key: str) -> bytes:
        return self._retrying(self._object_store.get, key)

    def exists(self, key: str) -> bool:
        return self._retrying(self._object_store.exists, key)

    def delete(self, key: str) -> None:
        self._retrying(self._object_store.delete, key)
