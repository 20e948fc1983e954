"""A store that is asked again while it does not answer."""

from collections.abc import Callable

from tenacity import (
    Retrying,
    retry_if_exception_type,
    retry_if_not_exception_type,
    stop_after_delay,
    wait_random_exponential,
)

from diffedit.errors import StoreRefused, StoreUnavailable
from diffedit.objects.store import ObjectStore

LONGEST_WAIT = 5.0
"""Seconds between two tries, at most: as long as a cancelled job may still occupy its worker."""


class RetryingStore:
    """`store`, for a worker that has a stage's work to lose: an outage is waited out for `patience` seconds.

    boto3 has its own few quick retries; these begin where they end. `on_retry()` is called before each wait, and what
    it raises ends the waiting.
    """

    def __init__(self, object_store: ObjectStore, patience: float, on_retry: Callable[[], None]) -> None:
        self._object_store = object_store
        self._retrying = Retrying(
            retry=retry_if_exception_type(StoreUnavailable) & retry_if_not_exception_type(StoreRefused),
            wait=wait_random_exponential(multiplier=0.2, max=LONGEST_WAIT),
            stop=stop_after_delay(patience),
            before_sleep=lambda _: on_retry(),
            reraise=True,
        )

    def put(self, key: str, data: bytes) -> None:
        self._retrying(self._object_store.put, key, data)

    def get(self, key: str) -> bytes:
        return self._retrying(self._object_store.get, key)

    def exists(self, key: str) -> bool:
        return self._retrying(self._object_store.exists, key)

    def delete(self, key: str) -> None:
        self._retrying(self._object_store.delete, key)
