"""A store that remembers what this process has just read or written.

A job mostly stays on one worker, whose next stage would download what the last one has uploaded. What a key stands for
never changes, so that a copy is as good as the object; whether the object is there, the store alone can say.
"""

from typing import Protocol

from cachetools import LRUCache


class Storage(Protocol):
    """What a worker needs of a store."""

    def put(self, key: str, data: bytes) -> None: ...

    def get(self, key: str) -> bytes: ...

    def exists(self, key: str) -> bool: ...

    def delete(self, key: str) -> None: ...


class RecentStore:
    """`store`, with copies of the last `max_bytes` that went through `get` and `put`."""

    def __init__(self, store: Storage, max_bytes: int) -> None:
        self._store = store
        self._recent: LRUCache[str, bytes] = LRUCache(max_bytes, getsizeof=len)

    def put(self, key: str, data: bytes) -> None:
        self._store.put(key, data)
        self.remember(key, data)

    def get(self, key: str) -> bytes:
        data = self._recent.get(key)
        if data is None:
            data = self._store.get(key)
            self.remember(key, data)
        return data

    def delete(self, key: str) -> None:
        self._recent.pop(key, None)
        self._store.delete(key)

    def remember(self, key: str, data: bytes) -> None:
        """Keep a copy of what is known to lie there."""
        if len(data) <= self._recent.maxsize // 4:  # one large object shall not drive out all others
            self._recent[key] = data
