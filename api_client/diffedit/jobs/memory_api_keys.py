"""API keys in the memory of this process."""

import threading
import time
from datetime import UTC, datetime

from diffedit.api_keys import Admission, ApiKey
from diffedit.errors import InvalidKey, RateLimited

MINUTE = 60.0


class MemoryApiKeyStore:
    """An `ApiKeyStore` in this process. Requests are counted as in `lua/admit.lua`."""

    def __init__(self) -> None:
        self._keys: dict[str, tuple[str, ApiKey]] = {}
        self._next: dict[str, float] = {}
        self._lock = threading.Lock()

    def add(self, key: ApiKey, digest: str) -> None:
        self._keys[key.id] = (digest, key)

    def admit(self, key_id: str, digest: str) -> Admission:
        known, key = self._keys.get(key_id, ("", None))
        if key is None or known != digest:
            raise InvalidKey
        interval = MINUTE / key.rate
        with self._lock:
            now = time.monotonic()
            after = max(now, self._next.get(key_id, 0)) + interval
            if after - now > MINUTE + 1e-6:
                raise RateLimited(key.rate, round(after - now - MINUTE, 3))
            self._next[key_id] = after
        return Admission(key=key, remaining=int((MINUTE - (after - now)) / interval + 1e-6))

    def list(self) -> list[ApiKey]:
        return sorted((key for _, key in self._keys.values()), key=lambda key: (key.created_at, key.id))

    def revoke(self, key_id: str) -> bool:
        return self._keys.pop(key_id, None) is not None

    def now(self) -> datetime:
        return datetime.now(UTC)
