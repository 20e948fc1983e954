"""A cache for the latents of pictures."""

import threading
from collections.abc import Callable

from cachetools import LRUCache
from torch import Tensor


class LatentCache:
    """Keeps the latents of the pictures that were used last. Threads may share it.

    Mask and inversion start with the same latents, and mostly run one after the other on the same worker.
    """

    def __init__(self, pictures: int = 1) -> None:
        self._lock = threading.Lock()
        self._latents: LRUCache[str, Tensor] = LRUCache(pictures)

    def get(self, key: str, encode: Callable[[], Tensor]) -> Tensor:
        """Return the latents of the picture that `key` identifies; call `encode` if they are not in the cache."""
        with self._lock:
            latents = self._latents.get(key)
        if latents is None:
            latents = encode()
            with self._lock:
                self._latents[key] = latents
        return latents

    def clear(self) -> None:
        """Remove all latents."""
        with self._lock:
            self._latents.clear()
