"""Errors in the form of OpenAI's API, which its clients turn into their own exceptions."""

from fastapi import Response
from starlette.responses import JSONResponse

from diffedit_web.problem_route import ProblemRoute
from diffedit_web.problems import Problem, problem_of, problem_response

TYPE_OF_STATUS = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
ERROR_SCHEMA = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": "string"},
            },
        }
    },
}


class OpenAIRoute(ProblemRoute):
    """A route that answers errors as `{"error": {"message", "type", "param", "code"}}`."""

    knows_its_query = False  # clients of other providers add parameters of theirs

    def answer_to(self, error: Exception) -> Response | None:
        """Return the answer to an error of ours or of HTTP; None if it is a mistake in the program."""
        found = problem_of(error)
        return JSONResponse({"error": _error_of(found[0])}, found[0].status, found[1]) if found else None


class ModelRoute(ProblemRoute):
    """A route of both APIs: its errors are problem details, with the member `error` that OpenAI's clients read."""

    knows_its_query = False

    def answer_to(self, error: Exception) -> Response | None:
        """Return the answer to an error of ours or of HTTP; None if it is a mistake in the program."""
        found = problem_of(error)
        return problem_response(*found, error=_error_of(found[0])) if found else None


def _error_of(problem: Problem) -> dict[str, str | None]:
    """Return a problem in the form of OpenAI's API."""
    name, colon, _ = problem.detail.partition(":")
    default = "invalid_request_error" if problem.status < 500 else "server_error"
    return {
        "message": problem.detail,
        "type": TYPE_OF_STATUS.get(problem.status, default),
        "param": name if colon and name.isidentifier() else None,
        "code": problem.error_code or problem.code,
    }
