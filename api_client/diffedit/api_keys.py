"""API keys: each lets one program use the HTTP API as one owner, so many times a minute.

A key is 192 random bits, so its SHA-256 tells nothing about it, and only that is stored. Whoever reads the store can
see who has keys, and use none of them.
"""

import hashlib
import re
import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

from pydantic import AwareDatetime, Field, ValidationError

from diffedit.contract.owners import Owner
from diffedit.contract.validation import Frozen, explain
from diffedit.errors import InvalidKey, InvalidRequest

DEFAULT_RATE = 600
"""Requests a minute."""
MAX_RATE = 60_000
_FORM = re.compile("diffedit_([0-9a-f]{12})_[0-9a-f]{48}")
"""Its id, and what is secret. The prefix lets scanners of repositories find keys that were published by accident."""


class ApiKey(Frozen):
    """What is known of an API key. The key itself is not."""

    id: str = Field(pattern="^[0-9a-f]{12}$")
    """The id of the key: 12 hex digits. It is a part of the key, and no secret."""
    owner: Owner
    """Whose jobs the key makes and sees: 1 to 200 printable characters."""
    name: str = Field(default="", max_length=100)
    """What the key is for, for people."""
    rate: int = Field(default=DEFAULT_RATE, ge=1, le=MAX_RATE)
    """Requests that may be sent with it in a minute. All of them may be sent at once."""
    created_at: AwareDatetime
    """When the key was made."""


class NewApiKey(NamedTuple):
    """An API key that was just made."""

    text: str
    """The key, which a program sends. It is not kept, and cannot be found out later."""
    key: ApiKey
    """What is kept of it."""


class Admission(Frozen):
    """A request that an API key allows."""

    key: ApiKey
    """The key of the request."""
    remaining: int
    """How many more requests the key allows at this moment."""


class ApiKeyStore(Protocol):
    """Where API keys are kept."""

    def add(self, key: ApiKey, digest: str) -> None:
        """Keep a key. `digest` is the SHA-256 of its text, as 64 hex digits."""

    def admit(self, key_id: str, digest: str) -> Admission:
        """Count a request with the key of this id, in one round trip.

        Raises:
            InvalidKey: there is no such key, or its digest is another.
            RateLimited: the key was used too often. This request is not counted.
        """

    def list(self) -> Sequence[ApiKey]:
        """Return all keys that can be read, the oldest first."""

    def revoke(self, key_id: str) -> bool:
        """Forget a key at once. Returns whether there was one of this id."""

    def now(self) -> datetime:
        """Return the server's time."""


def add_key(store: ApiKeyStore, owner: str, name: str = "", rate: int = DEFAULT_RATE) -> NewApiKey:
    """Make an API key.

    Raises:
        InvalidRequest: owner, name or rate is not valid.
    """
    key_id = secrets.token_hex(6)
    text = f"diffedit_{key_id}_{secrets.token_hex(24)}"
    try:
        key = ApiKey(id=key_id, owner=owner, name=name, rate=rate, created_at=store.now())
    except ValidationError as error:
        raise InvalidRequest(explain(error)) from None
    store.add(key, _digest(text))
    return NewApiKey(text, key)


def admit(store: ApiKeyStore, text: str) -> Admission:
    """Count a request with the API key of this text. Raises InvalidKey, RateLimited.

    What cannot be a key is refused without a request to the store.
    """
    form = _FORM.fullmatch(text)
    if not form:
        raise InvalidKey("this is no API key; send `Authorization: Bearer diffedit_...`")
    return store.admit(form[1], _digest(text))


def hidden_keys(text: str) -> str:
    """Return a text in which only the ids are left of API keys, for logs."""
    return _FORM.sub(r"diffedit_\1_...", text)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
