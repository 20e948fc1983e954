"""A cache for the latents of one picture."""

import threading
from collections.abc import Callable

from torch import Tensor


class LatentCache:
    """Keeps the latents of the last picture. Threads may share it.

    Mask and inversion start with the same latents, and mostly run one after the other on the same worker.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: tuple[str, Tensor] | None = None

    def get(self, key: str, encode: Callable[[], Tensor]) -> Tensor:
        """Return the latents of the picture that `key` identifies; call `encode` if they are not in the cache."""
        with self._lock:
            last = self._last
        if last is not None and last[0] == key:
            return last[1]
        latents = encode()
        with self._lock:
            self._last = (key, latents)
        return latents

    def clear(self) -> None:
        """Remove the latents."""
        with self._lock:
            self._last = None
