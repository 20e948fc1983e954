"""The secrets of webhooks, and the signatures that are made with them, as Standard Webhooks [1] has them.

The library of that standard signs. It has one secret at a time; ours are several, and each owner has its own.

[1] https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import binascii
import hmac
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime

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
    """Return the headers that say who has sent this body, and when, in seconds since 1970: one signature by secret.

    The body is text in UTF-8.
    """
    from standardwebhooks import Webhook  # from the extra `web`, which only senders need

    at, content = datetime.fromtimestamp(timestamp, UTC), body.decode()
    return {
        "webhook-id": event_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(Webhook(text).sign(event_id, at, content) for text in whsecs),
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
