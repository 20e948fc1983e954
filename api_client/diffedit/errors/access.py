"""Errors of the HTTP API's keys."""

from diffedit.errors.base import DiffEditError


class InvalidKey(DiffEditError):
    """Raised when a request to the HTTP API has no API key, or one that does not exist or was revoked.

    Send `Authorization: Bearer KEY`. `diffedit keys add` makes a key.
    """

    code = "invalid_key"
    http_status = 401
    _public = "there is no such API key, or it was revoked; send `Authorization: Bearer KEY`"

    def __init__(self, message: str = "there is no such API key, or it was revoked") -> None:
        super().__init__(message)


class RateLimited(DiffEditError):
    """Raised when more requests come with one API key than it may send. Wait for `retry_after` seconds.

    Attributes:
        retry_after: seconds after which one more request is accepted.
    """

    code = "rate_limited"
    http_status = 429
    retryable = True
    _public: str | None = "too many requests with this API key; send fewer, or wait"

    def __init__(self, rate: int, retry_after: float) -> None:
        super().__init__(f"more than {rate} requests a minute with this API key; try again in {retry_after} s")
        self.retry_after = retry_after
