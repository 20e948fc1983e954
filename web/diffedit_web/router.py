"""The router: the whole API over one client, for an application of your own or for `diffedit serve`."""

from collections.abc import Callable, Collection
from typing import Any

from fastapi import APIRouter, Depends

from diffedit import AsyncClient, Client
from diffedit_web.access import Entrance, enters
from diffedit_web.routes import edits, openai, pictures, service, texts


def diffedit_router(
    client: AsyncClient | Client, owner: Callable[..., Any], *, links: bool = True, origins: Collection[str] = ()
) -> APIRouter:
    """Return the routes of edits, for `app.include_router`.

        app = FastAPI()
        app.include_router(diffedit_router(AsyncClient.from_env(), owner=current_user))

    Args:
        client: whose connections are used.
        owner: a dependency of FastAPI that returns the id of the user who asks, as a text, and raises HTTPException if
            there is none. Each route shows only this user's edits. It runs before the body of a request is read.
        links: whether pictures are given as links to the bucket, with the host of `DIFFEDIT_S3_PUBLIC_URL`. If not,
            this server passes the bytes on.
        origins: other origins, such as "https://app.example.com", whose pages may submit, cancel and delete. They need
            CORS, too, which is the application's own.
    """
    entrance = Entrance(_asynchronous(client), owner, links, origins)
    router = APIRouter()
    router.include_router(
        _joined(entrance, edits.router, pictures.router, texts.router, service.router, service.models_router)
    )
    router.include_router(service.health_router(entrance.client))
    return router


def openai_router(
    client: AsyncClient | Client, owner: Callable[..., Any], *, links: bool = True, origins: Collection[str] = ()
) -> APIRouter:
    """Return the route of OpenAI's image API, `POST /v1/images/edits`. Arguments as for `diffedit_router`."""
    return _joined(Entrance(_asynchronous(client), owner, links, origins), openai.router)


def _asynchronous(client: AsyncClient | Client) -> AsyncClient:
    return client if isinstance(client, AsyncClient) else AsyncClient.over(client)


def _joined(entrance: Entrance, *routers: APIRouter) -> APIRouter:
    joined = APIRouter(dependencies=[Depends(enters(entrance))])
    for router in routers:
        joined.include_router(router)
    return joined
