"""Who asks: what every route knows of the caller, and what is checked before a route runs."""

from collections.abc import Callable, Collection, Coroutine
from typing import Annotated, Any, NamedTuple
from urllib.parse import urlsplit

from fastapi import Depends, Request
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import get_dependant

from diffedit import AsyncClient, InvalidRequest
from diffedit_web.problems import refused

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class Caller(NamedTuple):
    """The caller of a route.

    Attributes:
        client: sees only the caller's jobs.
        owner: whose jobs these are.
        links: whether pictures are given as links to the bucket; if not, always as bytes.
    """

    client: AsyncClient
    owner: str
    links: bool


class Entrance(NamedTuple):
    """What applies to all routes of a router.

    Attributes:
        client: whose connections are used.
        owner: a dependency of FastAPI that returns whose request it is.
        links: whether pictures are given as links to the bucket.
        origins: the other origins whose pages may send requests that change something.
    """

    client: AsyncClient
    owner: Callable[..., Any]
    links: bool = True
    origins: Collection[str] = ()


def enters(entrance: Entrance) -> Callable[..., Coroutine[Any, Any, None]]:
    """Return the dependency of all routes: it finds out who asks, before the body of the request is read."""
    client, _, links, origins = entrance
    of_the_owner = query_names(get_dependant(path="/", call=entrance.owner))

    async def enter(request: Request, owner: Annotated[str, Depends(entrance.owner)]) -> None:
        check_origin(request, origins)
        if origins:
            request.state.diffedit_headers = {
                **getattr(request.state, "diffedit_headers", {}),
                "Cross-Origin-Resource-Policy": "same-site",
            }
        check_query(request, of_the_owner)
        request.state.diffedit_caller = Caller(client.for_owner(owner), owner, links)

    return enter


async def _caller(request: Request) -> Caller:
    caller: Caller = request.state.diffedit_caller
    return caller


Called = Annotated[Caller, Depends(_caller)]
"""A parameter of a route: who asks."""


def query_names(dependant: Dependant) -> set[str]:
    """Return the names of the parameters of the query that a route or a dependency declares."""
    own = {parameter.alias for parameter in dependant.query_params}
    return own.union(*map(query_names, dependant.dependencies))


def check_query(request: Request, others: Collection[str] = ()) -> None:
    """Raise InvalidRequest if the query of a request has a parameter twice, or one that its route does not know.

    A filter that is misspelt would otherwise be none, and the answer would seem to be right. `others` are known, too.
    """
    names = [name for name, _ in request.query_params.multi_items()]
    if len(set(names)) < len(names):
        raise InvalidRequest("a parameter of the query is given twice; give it once")
    route = request.scope["route"]
    known = query_names(route.dependant).union(others)
    unknown = [name for name in names if name not in known]
    if unknown and route.knows_its_query:
        raise InvalidRequest(
            f"{unknown[0][:40]}: the query has no such parameter here; known: {', '.join(sorted(known)) or 'none'}"
        )


def check_origin(request: Request, trusted: Collection[str] = ()) -> None:
    """Raise HTTPException if a page of another site made a browser send this request, and the server may know the user.

    Browsers attach cookies and the passwords of HTTP Basic by themselves; a bearer token only a program of one's own
    attaches. So does `diffedit serve --open` know everybody who reaches it.
    """
    scheme = request.headers.get("authorization", "").partition(" ")[0].lower()
    origin = request.headers.get("origin")
    if request.method in SAFE_METHODS or scheme == "bearer" or origin in trusted:
        return
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        foreign = site not in ("same-origin", "none")
    else:  # a program, which sends no Origin, or an old browser
        foreign = origin is not None and urlsplit(origin).netloc != request.headers.get("host")
    if foreign:
        raise refused(403, "a page of another site sent this request; send it from your own server")
