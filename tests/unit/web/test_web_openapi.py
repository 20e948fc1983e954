"""The description of the API is current and complete, and the API does what it says."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

import diffedit_web
from diffedit import testing
from diffedit_web import create_app, waiting
from diffedit_web.__main__ import description
from diffedit_web.routes import openai

ROOT = Path(__file__).parents[3]
DESCRIBED: dict[str, Any] = json.loads(description())
OPERATIONS = [
    pytest.param(path, method, operation, id=f"{method} {path}")
    for path, described in DESCRIBED["paths"].items()
    for method, operation in described.items()
]


def test_the_file_is_current() -> None:
    """If not: python -m diffedit_web > docs/openapi.json"""
    assert json.loads((ROOT / "docs/openapi.json").read_text()) == DESCRIBED


@pytest.mark.parametrize(("path", "method", "operation"), OPERATIONS)
def test_an_operation_is_described_completely(path: str, method: str, operation: dict[str, Any]) -> None:
    assert operation["summary"]
    assert operation["description"]
    for parameter in operation.get("parameters", ()):
        assert parameter["description"], parameter["name"]
    for status, answer in operation["responses"].items():
        assert answer["description"] not in ("", "Successful Response"), status
    assert "422" not in operation["responses"] or "HTTPValidationError" not in json.dumps(operation)


def test_the_public_names_are_these_and_no_others() -> None:
    assert diffedit_web.__all__ == ["create_app", "diffedit_router", "openai_router"]
    page = (ROOT / "docs/reference/http.md").read_text()
    assert [name for name in diffedit_web.__all__ if f"::: diffedit_web.{name}\n" not in page] == []


def test_every_reference_leads_somewhere() -> None:
    text = json.dumps(DESCRIBED)
    for name in {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}:
        assert name in DESCRIBED["components"]["schemas"]


@pytest.mark.parametrize("name", ["Edit", "EditForm", "EditJson", "Problem", "Upload", "UploadRequest", "HealthReport"])
def test_every_field_of_a_model_is_described(name: str) -> None:
    properties = DESCRIBED["components"]["schemas"][name]["properties"]
    assert [field for field, schema in properties.items() if not schema.get("description")] == []


def _described_app() -> tuple[Any, str, str]:
    client = testing.async_memory_client()
    key, _ = client._blocking.add_api_key("u17", rate=60_000)
    app = create_app(client)
    edit = client._blocking.for_owner("u17").edit(_picture(), source_prompt="a bowl", target_prompt="a basket")
    testing.succeed(edit)
    return app, key, edit.id


def _picture() -> bytes:
    from tests.support.web_api import png

    return png()


@pytest.fixture(scope="module", autouse=True)
def nobody_waits() -> Iterator[None]:
    """No worker runs, so that `Prefer: wait=30` would be a wait."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(waiting, "MAX_WAIT", 0)
        patch.setattr(openai, "WAIT", 0.0)
        yield


APP, KEY, EDIT = _described_app()
schema = schemathesis.openapi.from_asgi("/openapi.json", APP)


@schema.parametrize()
@settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_the_answers_are_as_described(case: Any) -> None:
    if case.method != "DELETE" and re.fullmatch("[0-9a-f]{32}", str(case.path_parameters.get("edit_id"))):
        case.path_parameters["edit_id"] = EDIT
    case.call_and_validate(
        headers={"Authorization": f"Bearer {KEY}"},
        checks=[
            not_a_server_error,
            status_code_conformance,
            unsupported_method,
            ignored_auth,
            content_type_conformance,
            response_headers_conformance,
            response_schema_conformance,
        ],
    )
