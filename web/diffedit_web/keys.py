"""The owner of a request by its API key, for `diffedit serve`."""

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from diffedit import AsyncClient
from diffedit.errors import InvalidKey

Owner = Callable[..., Coroutine[Any, Any, str]]
EVERYBODY = "everybody"
"""The owner of all edits of a server without keys."""

_bearer = HTTPBearer(
    auto_error=False, scheme_name="ApiKey", description="A key that `diffedit keys add OWNER` has made."
)


def owner_of_key(client: AsyncClient) -> Owner:
    """Return the dependency that finds the owner of a request by its API key, and counts the request.

    The dependency raises InvalidKey and RateLimited.
    """

    async def owner(
        request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
    ) -> str:
        if credentials is None:
            raise InvalidKey("no API key; send `Authorization: Bearer KEY`")
        admission = await client.admit(credentials.credentials)
        request.state.diffedit_recheck = partial(client.admit, credentials.credentials)
        request.state.diffedit_headers = {
            "X-RateLimit-Limit": str(admission.key.rate),
            "X-RateLimit-Remaining": str(admission.remaining),
        }
        return admission.key.owner

    return owner


async def everybody() -> str:
    """Return the owner of all requests: a dependency for a server that only its own user reaches."""
    return EVERYBODY
