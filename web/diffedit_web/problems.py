"""Errors as HTTP answers: problem details (RFC 9457), with the codes and the public messages of our errors."""

import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from diffedit import DiffEditError, InvalidRequest
from diffedit.errors import InvalidKey

MEDIA_TYPE = "application/problem+json"
TYPE = "urn:diffedit:error:"
"""How the types of problems begin; the code follows."""
RETRY_AFTER = 5
"""Seconds after which to send a request again, if the error does not say better."""
CODE_OF_STATUS = {
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    408: "request_timeout",
    413: "body_too_large",
    415: "unsupported_media_type",
    431: "headers_too_large",
}
"""The codes of errors that are not ours but HTTP's."""


class Problem(BaseModel):
    """What went wrong: problem details of RFC 9457."""

    model_config = ConfigDict(
        use_attribute_docstrings=True,
        json_schema_extra={
            "example": {
                "type": "urn:diffedit:error:invalid_request",
                "title": "Bad Request",
                "status": 400,
                "detail": "strength: Input should be less than or equal to 1",
                "code": "invalid_request",
                "retryable": False,
            }
        },
    )

    type: str
    """Identifies the kind of problem: "urn:diffedit:error:" and the code."""
    title: str
    """The reason phrase of the status."""
    status: int
    """The status of the response."""
    detail: str
    """What went wrong and what to do, for people. It may change."""
    code: str
    """The code of the error, for programs. It is stable."""
    retryable: bool
    """Whether the same request may succeed later."""
    edit: str | None = Field(default=None)
    """The id of the edit that the problem is about."""
    error_code: str | None = Field(default=None)
    """Of a failed edit: the code of what went wrong in it."""


class NotFinished(InvalidRequest):
    """Raised when something is asked for that the edit has not made yet."""

    code = "not_finished"
    http_status = 409
    retryable = True


def refused(status: int, message: str) -> HTTPException:
    """Return the error with which HTTP itself says no: the body is too large, the origin is foreign, and so on."""
    return HTTPException(status, message)


def problem_of(error: Exception) -> tuple[Problem, dict[str, str]] | None:
    """Return the problem of an error, and headers of the answer. None if the error is a mistake in the program."""
    if isinstance(error, DiffEditError):
        return _problem(error.http_status, error.code, error.public_message, error), _headers(error)
    if isinstance(error, RequestValidationError):
        return _problem(400, InvalidRequest.code, _explained(error)), {}
    if isinstance(error, HTTPException):
        code = CODE_OF_STATUS.get(error.status_code, InvalidRequest.code if error.status_code < 500 else "error")
        return _problem(error.status_code, code, str(error.detail)), dict(error.headers or {})
    return None


def problem_response(problem: Problem, headers: Mapping[str, str], **members: Any) -> JSONResponse:
    """Return the answer that tells a program of a problem. `members` are added to it."""
    content = {**problem.model_dump(exclude_none=True), **members}
    return JSONResponse(content, problem.status, headers=dict(headers), media_type=MEDIA_TYPE)


def unexpected_problem() -> Problem:
    """Return the problem of an error that is a mistake in the program. It says nothing of the error."""
    return _problem(500, DiffEditError.code, DiffEditError().public_message)


def _problem(status: int, code: str, detail: str, error: DiffEditError | None = None) -> Problem:
    return Problem(
        type=TYPE + code,
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        code=code,
        retryable=error.retryable if error else False,
        edit=getattr(error, "job_id", None),
        error_code=getattr(error, "error_code", None),
    )


def _headers(error: DiffEditError) -> dict[str, str]:
    headers = {}
    if isinstance(error, InvalidKey):
        headers["WWW-Authenticate"] = "Bearer"
    if error.retryable:
        headers["Retry-After"] = str(math.ceil(getattr(error, "retry_after", RETRY_AFTER)))
    return headers


def _explained(error: RequestValidationError) -> str:
    """Return what is wrong with a request, without the values, which may be long."""
    texts = [f"{'.'.join(map(str, item['loc'][1:])) or item['loc'][0]}: {item['msg']}" for item in error.errors()]
    return "; ".join(texts)


def documented(*kinds: type[DiffEditError] | int | tuple[int, str]) -> dict[int | str, dict[str, Any]]:
    """Return what a route says about its errors in OpenAPI: classes of ours, statuses of HTTP, or with a code."""
    found: dict[int | str, list[str]] = {}
    for kind in kinds:
        if isinstance(kind, int):
            kind = (kind, CODE_OF_STATUS[kind])
        status, code = kind if isinstance(kind, tuple) else (kind.http_status, kind.code)
        found.setdefault(status, []).append(f"`{code}`")
    return {
        status: {
            "description": f"{HTTPStatus(int(status)).phrase}: {', '.join(dict.fromkeys(codes))}",
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status, codes in sorted(found.items())
    }
