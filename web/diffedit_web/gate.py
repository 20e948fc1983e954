"""What is refused before any route is looked for: foreign names of the host, and headers that are too long."""

from collections.abc import Collection

from fastapi import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from diffedit_web.problems import problem_of, problem_response, refused

MAX_HEADER_BYTES = 2**16
"""Bytes of all headers of a request. What reads them from the connection stops only at parts of a header."""


class Gate:
    """An application behind which another one is.

    Attributes:
        app: the other one.
        hosts: the names in the header Host that are accepted; none: all.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str] = ()) -> None:
        self.app = app
        self.hosts = frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(Request(scope)) if scope["type"] == "http" else None
        if refusal is None:
            await self.app(scope, receive, send)
            return
        found = problem_of(refused(*refusal))
        assert found is not None
        await problem_response(*found)(scope, receive, send)

    def _refusal(self, request: Request) -> tuple[int, str] | None:
        if sum(len(name) + len(value) for name, value in request.headers.raw) > MAX_HEADER_BYTES:
            return 431, f"the headers take more than {MAX_HEADER_BYTES // 2**10} KiB, the limit"
        if self.hosts and _host_of(request) not in self.hosts:
            return 400, f"Host: this server answers only to {', '.join(sorted(self.hosts))}"
        return None


def _host_of(request: Request) -> str:
    """Return the name in the header Host, without the port. An IPv6 address has brackets."""
    host, bracket, _ = request.headers.get("host", "").lower().partition("]")
    return host + bracket if bracket else host.partition(":")[0]
