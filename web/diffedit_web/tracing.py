"""One span for each request to `diffedit serve`, in the trace of its caller, if this process is traced."""

from collections.abc import Mapping, MutableMapping
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from diffedit import tracing
from diffedit.contract.validation import TRACEPARENT

UNTRACED = frozenset({"/livez", "/readyz", "/v1/health"})
"""What probes ask for every few seconds. Their spans would be most of all."""


class Traced:
    """An application around another one. It is beside the routes, so it also sees requests that no route answers.

    A span has the template of the route, never the path: somebody may send an API key in a path.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in UNTRACED or not tracing.is_traced():
            await self.app(scope, receive, send)
            return
        method = scope["method"]
        attributes = {"http.request.method": method, "url.scheme": scope.get("scheme")}
        with tracing.span(method, "SERVER", attributes, parent=_parent(scope)) as span:

            async def send_and_note(message: Message) -> None:
                if message["type"] == "http.response.start":
                    _note_answer(span, scope, message)
                await send(message)

            await self.app(scope, receive, send_and_note)


def _parent(scope: Scope) -> str | None:
    """Return the `traceparent` of the request, if it has one that is valid."""
    text = Headers(scope=scope).get("traceparent", "")
    return text if TRACEPARENT.fullmatch(text) else None


def _note_answer(span: tracing.ActiveSpan, scope: MutableMapping[str, Any], answer: Mapping[str, Any]) -> None:
    # The router has noted the route by now.
    route, status = getattr(scope.get("route"), "path_format", None), answer["status"]
    if route:
        span.rename(f"{scope['method']} {route}")
    span.set({"http.route": route, "http.response.status_code": status})
    if status >= 500:
        span.fail(f"status {status}")
