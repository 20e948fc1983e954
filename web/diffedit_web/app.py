"""The application that `diffedit serve` runs."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Match

from diffedit import AsyncClient, __version__
from diffedit.trace_export import flush_traces
from diffedit_web.gate import Gate
from diffedit_web.keys import everybody, owner_of_key
from diffedit_web.openapi import DESCRIPTION, TAGS, complete
from diffedit_web.problems import problem_of, problem_response, unexpected_problem
from diffedit_web.router import diffedit_router, openai_router
from diffedit_web.static_page import add_page
from diffedit_web.tracing import Traced

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


def create_app(
    client: AsyncClient,
    *,
    open_to_all: bool = False,
    links: bool = True,
    hosts: Sequence[str] = (),
    samples: Path | None = None,
) -> FastAPI:
    """Return the application: our API, OpenAI's, their documentation, and the page.

    Args:
        client: whose connections are used. It is closed when the application ends.
        open_to_all: no keys: whoever reaches the server sees and makes edits of one owner.
        links: whether pictures are given as links to the bucket; if not, this server passes the bytes on.
        hosts: the names in the header Host that are accepted; () accepts all. Without keys it protects from pages whose
            name was pointed at this machine (DNS rebinding).
        samples: a directory with pictures that the page offers, and their `scenes.json`.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with client:
            yield
        # Nothing runs after the application: uvicorn then ends the process by the signal that has ended it.
        await asyncio.to_thread(flush_traces)

    app = FastAPI(
        title="DiffEdit service",
        version=__version__,
        description=DESCRIPTION,
        openapi_tags=TAGS,
        lifespan=lifespan,
        docs_url=None,  # they load scripts from other servers
        redoc_url=None,
        # Its spans and logs would have the path and the query, where somebody may have sent an API key.
        telemetry={"tracing": False, "logs": False, "auto_configure": False},
    )
    owner = everybody if open_to_all else owner_of_key(client)
    app.include_router(diffedit_router(client, owner, links=links), tags=["edits"])
    app.include_router(openai_router(client, owner, links=links), tags=["openai"])
    add_page(app, samples)
    for path in ("/livez", "/readyz"):
        app.add_route(path, _alive, include_in_schema=False)
    app.add_middleware(Gate, hosts=hosts)
    app.add_middleware(Traced)
    app.add_exception_handler(HTTPException, _of_http)
    app.add_exception_handler(Exception, _unexpected)
    complete(app)
    return app


async def _alive(_: Request) -> Response:
    """Answer a probe. It asks neither Redis nor S3: an outage of theirs must not end all web servers.

    A server that ends takes no connections, so whoever is answered may send requests. `/v1/health` has the services.
    """
    return JSONResponse({"ok": True}, headers={"Cache-Control": "no-store"})


async def _of_http(request: Request, error: Exception) -> Response:
    """Answer what no route has raised: an unknown path, or a wrong method."""
    found = problem_of(error)
    assert found is not None
    problem, headers = found
    if problem.status == 405:
        # The framework names the methods of one route only, and a path may have several.
        headers["Allow"] = ", ".join(_methods_of(request))
    return problem_response(problem, headers)


def _methods_of(request: Request) -> list[str]:
    """Return the methods that the path of a request has."""
    routes: Sequence[BaseRoute] = request.app.routes
    return [
        method
        for method in METHODS
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in routes)
    ]


async def _unexpected(_: Request, error: Exception) -> Response:
    """Answer a mistake in the program. The server logs it."""
    # uvicorn ends the connection then. A client that was not told would send its next request into it.
    return problem_response(unexpected_problem(), {"Connection": "close"})
