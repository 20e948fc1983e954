"""Routes that answer every error in the form of their API, in whatever application they are mounted."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from diffedit_web.problems import problem_of, problem_response


class CallerWent(Exception):
    """The caller closed the connection while the answer was awaited."""


Handler = Callable[[Request], Coroutine[Any, Any, Response]]
SAFE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""No browser takes an answer for a page, shows it in a page of another site, or keeps it, unless a route says so."""


class ProblemRoute(APIRoute):
    """A route that answers errors as problem details (RFC 9457).

    Attributes:
        knows_its_query: whether a parameter of the query that it does not declare is refused.
    """

    knows_its_query = True

    def get_route_handler(self) -> Handler:
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                response = await handle(request)
            except CallerWent:
                return Response(status_code=408)  # nobody takes it
            except Exception as error:
                if (found := self.answer_to(error)) is None:
                    raise
                response = found
            for name, value in {**SAFE_HEADERS, **getattr(request.state, "diffedit_headers", {})}.items():
                response.headers.setdefault(name, value)
            return response

        return handled

    def answer_to(self, error: Exception) -> Response | None:
        """Return the answer to an error of ours or of HTTP; None if it is a mistake in the program."""
        found = problem_of(error)
        return problem_response(*found) if found else None
