"""A cache of the bytes that a worker has just read or written.

Most stages of a job run on one worker, and each would download what the stage before it has uploaded. The content of a
key never changes, so a copy is as good as the object. Only the object store knows whether the object still exists.
"""

from threading import Lock

from cachetools import LRUCache

LARGEST_PART = 4
"""An object that is larger than a quarter of the cache is not kept, because it would replace all others."""


class ByteCache:
    """The most recently used objects, `max_bytes` in total. Safe for use by several threads."""

    def __init__(self, max_bytes: int) -> None:
        self._objects: LRUCache[str, bytes] = LRUCache(max_bytes, getsizeof=len)
        self._lock = Lock()

    def get(self, key: str) -> bytes | None:
        """Return the object, or None if it is not in the cache."""
        with self._lock:
            return self._objects.get(key)

    def add(self, key: str, data: bytes) -> None:
        """Keep a copy of an object that is stored at `key`."""
        with self._lock:
            if len(data) <= self._objects.maxsize // LARGEST_PART:
                self._objects[key] = data

    def remove(self, key: str) -> None:
        """Remove the object from the cache. It need not be there."""
        with self._lock:
            self._objects.pop(key, None)
