"""The description of the API (OpenAPI): what FastAPI does not know of it, and the file `docs/openapi.json`.

python -m diffedit_web.openapi docs/openapi.json
"""

import functools
import json
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from diffedit_web.fields import EditForm, EditJson
from diffedit_web.models import UploadRequest
from diffedit_web.problems import Problem

DESCRIPTION = """Text-driven image editing: say what a picture shows and what it should show.

Edits are asynchronous. `POST /v1/edits` answers at once with an edit, whose `links` lead to its events and its result.
Errors are problem details (RFC 9457) whose `code` is stable."""
TAGS = [
    {"name": "edits", "description": "Edits, their pictures, uploads, and the service."},
    {"name": "openai", "description": "OpenAI's image API, for its official clients."},
]
_MODELS: tuple[type[BaseModel], ...] = (EditForm, EditJson, UploadRequest, Problem)
"""Named by routes in ways that FastAPI does not see."""
_METHODS = frozenset({"get", "post", "put", "delete", "patch"})


def _meaning(answer: dict[str, Any], schemas: dict[str, Any]) -> str:
    """Return what an answer is: the description of the model that it contains, or that it is empty."""
    for media in answer.get("content", {}).values():
        name = media["schema"].get("$ref", "").rpartition("/")[2]
        return str(schemas[name]["description"]).partition("\n")[0]
    return "It is done, and the answer is empty."


def complete(app: FastAPI) -> None:
    """Let the application describe itself completely."""

    @functools.cache
    def openapi() -> dict[str, Any]:
        described = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            tags=app.openapi_tags,
            routes=app.routes,
        )
        schemas = described.setdefault("components", {}).setdefault("schemas", {})
        for model in _MODELS:
            schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas.update(schema.pop("$defs", {}))
            schemas[model.__name__] = schema
        for operations in described["paths"].values():
            for method in operations.keys() & _METHODS:
                # We answer 400 where FastAPI would answer 422.
                answers = operations[method]["responses"]
                for answer in answers.values():
                    if answer["description"] == "Successful Response":
                        answer["description"] = _meaning(answer, schemas)
                if "HTTPValidationError" in json.dumps(answers.get("422", {})):
                    del answers["422"]
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        return described

    app.openapi = openapi  # type: ignore[method-assign]
