"""API keys in Redis or Valkey."""

import json
from datetime import UTC, datetime
from typing import cast

from pydantic import ValidationError

from diffedit.api_keys import Admission, ApiKey
from diffedit.errors import InvalidKey, RateLimited
from diffedit.jobs import keys
from diffedit.jobs.redis_entries import RedisEntries
from diffedit.jobs.redis_server import RedisServer, translate_errors

DIGEST = "digest"
"""The field of an entry that is not one of `ApiKey`."""


class RedisApiKeyStore:
    """An `ApiKeyStore` in Redis or Valkey."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._entries = RedisEntries(server)

    @translate_errors
    def add(self, key: ApiKey, digest: str) -> None:
        entry = {**key.model_dump(mode="json"), DIGEST: digest}
        self._server.connection.hset(keys.API_KEYS, key.id, json.dumps(entry))

    @translate_errors
    def admit(self, key_id: str, digest: str) -> Admission:
        answer = json.loads(cast(str, self._server.run("admit", key_id=key_id, digest=digest)))
        key = _key_in(answer["entry"]) if "entry" in answer else None
        if key is None:
            raise InvalidKey
        if "retry_after" in answer:
            raise RateLimited(key.rate, round(answer["retry_after"], 3))
        return Admission(key=key, remaining=answer["remaining"])

    @translate_errors
    def list(self) -> list[ApiKey]:
        entries = cast(dict[str, str], self._entries.read("hgetall", keys.API_KEYS))
        found = [key for entry in entries.values() if (key := _key_in(entry))]
        return sorted(found, key=lambda key: (key.created_at, key.id))

    @translate_errors
    def revoke(self, key_id: str) -> bool:
        return bool(self._server.connection.hdel(keys.API_KEYS, key_id))

    @translate_errors
    def now(self) -> datetime:
        return datetime.fromtimestamp(self._server.now(), UTC)


def _key_in(entry: str) -> ApiKey | None:
    """Return the key in an entry; None if it cannot be read. A newer version may know more of a key."""
    try:
        fields = json.loads(entry)
        return ApiKey.model_validate({name: fields[name] for name in ApiKey.model_fields if name in fields})
    except (ValueError, TypeError, RecursionError, ValidationError):
        return None
