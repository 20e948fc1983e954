"""Who may do what: keys, rates, owners, pages of other sites, names of hosts."""

import logging
from collections.abc import Iterator
from typing import Annotated

import httpx
import pytest
from fastapi import Depends, FastAPI, HTTPException, Query, Request

from diffedit import InvalidRequest, testing
from diffedit_web import diffedit_router, openai_router
from diffedit_web.server import LOOPBACK_NAMES, is_loopback, serve
from tests.support.web_api import PROMPTS, WebApi, png, routes, web_api

pytestmark = pytest.mark.anyio
FILES = {"image": ("green.png", png(), "image/png")}
WITHOUT_KEY = {("GET", "/v1/health"), ("GET", "/openapi.json")}


def operations(app: FastAPI) -> Iterator[tuple[str, str]]:
    """Yield the method and the path of each operation that the application describes."""
    for path, described in app.openapi()["paths"].items():
        for method in described.keys() & {"get", "post", "put", "patch", "delete"}:
            yield method.upper(), path


async def test_every_route_is_described(api: WebApi) -> None:
    found = {(method, route.path) for route in routes(api.app) for method in route.methods - {"HEAD"}}
    assert {each for each in found if each not in WITHOUT_KEY} == set(operations(api.app)) - WITHOUT_KEY
    assert len(found) > 15


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "Bearer "}, {"Authorization": "Bearer x"}, {"Authorization": "Basic dTE3Og=="}]
)
async def test_every_route_but_the_health_needs_a_key(api: WebApi, headers: dict[str, str]) -> None:
    for method, path in operations(api.app):
        response = await api.http.request(method, path.format(edit_id="0" * 32, model="tiny"), headers=headers)
        if (method, path) in WITHOUT_KEY:
            assert response.status_code == 200
        else:
            assert response.status_code == 401, (method, path)
            assert response.headers["www-authenticate"] == "Bearer"


async def test_the_body_is_not_read_before_the_key_is_known(api: WebApi) -> None:
    read = []

    async def body() -> object:
        read.append(1)
        yield b"x"

    response = await api.http.post("/v1/edits", content=body(), headers={"Content-Type": "multipart/form-data"})
    assert (response.status_code, read) == (401, [])


async def test_a_revoked_key_is_refused_at_once(api: WebApi) -> None:
    text, key = await api.client.add_api_key("u17")
    headers = {"Authorization": f"Bearer {text}"}
    await api("GET", "/v1/edits", 200, headers=headers)
    assert await api.client.revoke_api_key(key.id)
    assert await api.problem("GET", "/v1/edits", 401, headers=headers) == "invalid_key"


async def test_a_key_that_is_used_too_often_has_to_wait(api: WebApi) -> None:
    text, _ = api.client._blocking.add_api_key("u17", rate=2)
    headers = {"Authorization": f"Bearer {text}"}
    for left in ("1", "0"):
        response = await api("GET", "/v1/models", 200, headers=headers)
        assert response.headers["x-ratelimit-limit"] == "2"
        assert response.headers["x-ratelimit-remaining"] == left
    response = await api("GET", "/v1/models", 429, headers=headers)
    assert response.json()["code"] == "rate_limited"
    assert 1 <= int(response.headers["retry-after"]) <= 30


async def test_no_key_is_logged(api: WebApi, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secret = api.headers["Authorization"].rpartition("_")[2]
    edit = await api.submit()
    await api("GET", edit["links"]["self"], 200)
    await api("GET", "/v1/edits", 401, headers={"Authorization": f"Bearer diffedit_{'0' * 12}_{secret}"})
    assert caplog.records
    assert not any(secret in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 202),
        ({"Origin": "http://testserver"}, 202),
        ({"Sec-Fetch-Site": "same-origin"}, 202),
        ({"Sec-Fetch-Site": "none"}, 202),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Authorization": "Basic dTE3Og=="}, 403),
    ],
)
async def test_without_keys_no_page_of_another_site_submits(headers: dict[str, str], status: int) -> None:
    async with web_api(open_to_all=True) as api:
        response = await api.http.post("/v1/edits", files=FILES, data=PROMPTS, headers=headers)
        assert response.status_code == status, response.text
        jobs = await api.client.jobs()
        assert len(jobs) == (status == 202)


async def test_pages_of_an_origin_that_is_trusted_may_submit() -> None:
    async def owner() -> str:
        return "u17"

    client = testing.async_memory_client()
    app = FastAPI()
    app.include_router(diffedit_router(client, owner, origins=["https://app.example"]))
    transport = httpx.ASGITransport(app=app)
    async with client, httpx.AsyncClient(transport=transport, base_url="http://api.example") as http:
        for origin, status in (
            ("https://app.example", 202),
            ("http://app.example", 403),
            ("https://x.app.example", 403),
        ):
            headers = {"Origin": origin, "Sec-Fetch-Site": "same-site"}
            response = await http.post("/v1/edits", files=FILES, data=PROMPTS, headers=headers)
            assert response.status_code == status, origin
        assert (await http.get("/v1/edits")).headers["cross-origin-resource-policy"] == "same-site"


async def test_with_a_key_the_site_does_not_matter(api: WebApi) -> None:
    for headers in ({"Origin": "http://shop.example"}, {"Sec-Fetch-Site": "cross-site"}):
        await api("POST", "/v1/edits", 202, files=FILES, data=PROMPTS, headers=headers)


async def test_a_name_that_was_pointed_at_this_machine_is_refused() -> None:
    async with web_api(open_to_all=True, hosts=LOOPBACK_NAMES) as api:
        for name in ("localhost:8000", "127.0.0.1", "[::1]:8000"):
            assert (await api.http.get("/v1/edits", headers={"Host": name})).status_code == 200, name
        for name in ("evil.example", "localhost.evil.example:8000", "10.0.0.1", ""):
            assert await api.problem("GET", "/v1/edits", 400, headers={"Host": name}) == "invalid_request", name


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False),  # noqa: S104
     ("10.0.0.1", False), ("::", False), ("localhost.evil.example", False)],
)  # fmt: skip
async def test_a_server_without_keys_is_for_this_machine(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback
    if not loopback:
        with pytest.raises(InvalidRequest, match="--insecure"):
            serve(testing.memory_client(), host=host, port=0, open_to_all=True)


async def test_heads_need_a_key_where_gets_do(api: WebApi) -> None:
    for path in {route.path for route in routes(api.app) if "HEAD" in route.methods} - {"/v1/health"}:
        assert (await api.http.head(path.format(edit_id="0" * 32))).status_code == 401, path


async def test_a_parameter_that_the_owner_reads_is_known() -> None:
    async def owner(token: Annotated[str, Query()]) -> str:
        return token

    client = testing.async_memory_client()
    app = FastAPI()
    app.include_router(diffedit_router(client, owner))
    async with client, httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://shop") as http:
        assert (await http.get("/v1/edits?token=u17&limit=3")).status_code == 200
        assert (await http.get("/v1/edits?token=u17&limits=3")).status_code == 400


async def test_the_router_in_an_application_of_its_own() -> None:
    async def current_user(request: Request) -> str:
        if not (user := request.headers.get("x-user")):
            raise HTTPException(401, "log in first")
        return user

    client = testing.async_memory_client()
    app = FastAPI(dependencies=[Depends(lambda: None)])
    app.include_router(diffedit_router(client, owner=current_user), prefix="/api")
    app.include_router(openai_router(client, owner=current_user), prefix="/api")
    transport = httpx.ASGITransport(app=app)
    async with client, httpx.AsyncClient(transport=transport, base_url="http://shop") as http:
        user = {"X-User": "u17"}
        response = await http.post("/api/v1/edits", files=FILES, data=PROMPTS, headers=user)
        assert response.status_code == 202, response.text
        edit = response.json()
        assert edit["links"]["self"] == f"/api/v1/edits/{edit['id']}" == response.headers["location"]
        assert (await http.get(edit["links"]["self"], headers=user)).json()["id"] == edit["id"]
        assert (await http.get(edit["links"]["self"], headers={"X-User": "u18"})).status_code == 404
        refused = await http.post("/api/v1/edits", files=FILES, data=PROMPTS)
        assert (refused.status_code, refused.json()["detail"]) == (401, "log in first")
        assert refused.headers["content-type"] == "application/problem+json"
        wrong = await http.post("/api/v1/images/edits", files=FILES, headers=user)
        assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "prompt")
        assert (await http.get("/api/v1/health")).status_code == 200
        described = (await http.get("/openapi.json")).json()
        assert "/api/v1/edits/{edit_id}" in described["paths"]
