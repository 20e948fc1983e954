"""What a worker remembers of the bytes that it has just read or written.

A job mostly stays on one worker, whose next stage would download what the last one has uploaded. What a key stands for
never changes, so that a copy is as good as the object; whether the object is there, the store alone can say.
"""

from threading import Lock

from cachetools import LRUCache


class ByteCache:
    """Copies of the last `max_bytes`, by key; for any thread."""

    def __init__(self, max_bytes: int) -> None:
        self._copies: LRUCache[str, bytes] = LRUCache(max_bytes, getsizeof=len)
        self._lock = Lock()

    def get(self, key: str) -> bytes | None:
        with self._lock:
            return self._copies.get(key)

    def remember(self, key: str, data: bytes) -> None:
        """Keep a copy of what is known to lie there."""
        with self._lock:
            if len(data) <= self._copies.maxsize // 4:  # one large object shall not drive out all others
                self._copies[key] = data

    def forget(self, key: str) -> None:
        with self._lock:
            self._copies.pop(key, None)
