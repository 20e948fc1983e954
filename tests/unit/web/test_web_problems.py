"""Every error of ours as problem details."""

import json

import pytest

from diffedit import DiffEditError, errors
from diffedit_web.problems import CODE_OF_STATUS, MEDIA_TYPE, problem_of, problem_response
from tests.support.web_api import WebApi
from tests.unit.test_errors import ALL, a_sample

OURS = [kind for kind in ALL if kind.__module__.startswith(errors.__name__)]


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.__name__)
def test_an_error_is_a_problem_with_its_code_and_its_public_message(kind: type[DiffEditError]) -> None:
    error = a_sample(kind)
    problem, headers = problem_of(error)
    response = problem_response(problem, headers)
    shown = json.loads(response.body)
    assert response.headers["content-type"] == MEDIA_TYPE
    assert response.status_code == shown["status"] == error.http_status
    assert (shown["code"], shown["detail"]) == (error.code, error.public_message)
    assert ("retry-after" in response.headers) == shown["retryable"] == error.retryable


def test_codes_of_http_are_none_of_ours() -> None:
    assert {kind.code for kind in OURS} & set(CODE_OF_STATUS.values()) == set()


@pytest.mark.anyio
async def test_a_mistake_in_the_program_tells_nothing(api: WebApi, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("redis://:password@10.0.0.1")

    monkeypatch.setattr(api.client._blocking._job_store, "list_jobs", fail)
    response = await api("GET", "/v1/edits", 500)
    assert response.json()["code"] == "error"
    assert "password" not in response.text


@pytest.mark.anyio
async def test_a_service_that_does_not_answer_is_a_problem_that_passes(
    api: WebApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise errors.BrokerUnavailable("redis://:password@10.0.0.1 does not answer")

    monkeypatch.setattr(api.client._blocking._job_store, "list_jobs", fail)
    response = await api("GET", "/v1/edits", 503)
    assert (response.json()["code"], response.json()["retryable"]) == ("broker_unavailable", True)
    assert response.headers["retry-after"] == "5"
    assert "10.0.0.1" not in response.text


@pytest.mark.anyio
async def test_paths_and_methods_that_do_not_exist(api: WebApi) -> None:
    assert await api.problem("GET", "/v2/edits", 404) == "not_found"
    assert await api.problem("PUT", "/v1/edits", 405) == "method_not_allowed"
    for strange in ("x", "A" * 32, "0" * 33, "..%2f" + "0" * 32):
        response = await api("GET", f"/v1/edits/{strange}", 400 if "%" not in strange else 404)
        assert response.json()["code"] in ("invalid_request", "not_found")


@pytest.mark.anyio
async def test_a_wrong_method_learns_all_that_the_path_has(api: WebApi) -> None:
    for path, methods in {
        "/v1/edits": "GET, POST",
        f"/v1/edits/{'0' * 32}": "GET, DELETE",
        f"/v1/edits/{'0' * 32}/result": "GET, HEAD",
        f"/v1/edits/{'0' * 32}/cancel": "POST",
        "/v1/health": "GET, HEAD",
        "/v1/images/edits": "POST",
        "/": "GET, HEAD",
    }.items():
        assert (await api("PUT", path, 405)).headers["allow"] == methods


@pytest.mark.anyio
async def test_the_health(api: WebApi, monkeypatch: pytest.MonkeyPatch) -> None:
    from diffedit_web.routes import service

    monkeypatch.setattr(service, "HEALTH_SECONDS", 0.0)

    def fail() -> None:
        raise errors.StoreUnavailable("http://10.0.0.1:9000")

    healthy = {"status": "ok", "broker": True, "object_store": True, "workers": 1, "waiting": 0}
    assert (await api("GET", "/v1/health", 200)).json() == healthy
    assert (await api("HEAD", "/v1/health", 200)).content == b""
    (worker,) = api.client._blocking._backend.worker_registry.workers()
    api.client._blocking._backend.worker_registry.unregister(worker.id)
    assert (await api("GET", "/v1/health", 200)).json()["status"] == "degraded"
    monkeypatch.setattr(api.client._blocking._object_store, "ping", fail)
    assert (await api("GET", "/v1/health", 503)).json() == {
        **healthy,
        "status": "down",
        "object_store": False,
        "workers": 0,
    }
