"""Signatures of Standard Webhooks [1], version v1: HMAC-SHA256 over id, time and body.

[1] https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import binascii
import hmac
import secrets
from collections.abc import Sequence

from diffedit.errors import InvalidRequest

PREFIX = "whsec_"


def new_secret() -> str:
    """Return a random secret of 32 bytes, as `whsec_` and Base64."""
    return _text(secrets.token_bytes(32))


def secrets_of(setting: str | None, owner: str | None) -> list[str]:
    """Return the secrets that sign the events of an owner, or of the jobs without one, the newest first.

    The secret of an owner is derived from the deployment's, so an owner who knows it cannot sign for another one.

    Raises:
        InvalidRequest: the setting has no secret, or one that is not valid.
    """
    keys = [_key(text.strip()) for text in (setting or "").split(",") if text.strip()]
    if not keys:
        raise InvalidRequest("DIFFEDIT_WEBHOOK_SECRETS is not set; `diffedit webhooks --new-secret` makes a secret")
    if owner is not None:
        keys = [hmac.digest(key, b"owner:" + owner.encode(), "sha256") for key in keys]
    return [_text(key) for key in keys]


def signed_headers(event_id: str, timestamp: int, body: bytes, whsecs: Sequence[str]) -> dict[str, str]:
    """Return the headers that say who has sent this body, and when, in seconds since 1970: one signature by secret."""
    content = f"{event_id}.{timestamp}.".encode() + body
    signatures = [base64.b64encode(hmac.digest(_key(text), content, "sha256")).decode() for text in whsecs]
    return {
        "webhook-id": event_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }


def _text(key: bytes) -> str:
    return PREFIX + base64.b64encode(key).decode()


def _key(text: str) -> bytes:
    try:
        key = base64.b64decode(text.removeprefix(PREFIX), validate=True) if text.startswith(PREFIX) else b""
    except (binascii.Error, ValueError):
        key = b""
    if not 24 <= len(key) <= 64:
        raise InvalidRequest("DIFFEDIT_WEBHOOK_SECRETS: write each secret as whsec_ and 24 to 64 bytes in Base64")
    return key
