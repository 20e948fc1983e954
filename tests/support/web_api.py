"""The HTTP API over the doubles, in this process, and what tests ask of it."""

import io
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from fastapi import FastAPI
from fastapi.routing import APIRoute
from PIL import Image

from diffedit import AsyncClient, AsyncJobHandle
from diffedit.testing import async_memory_client
from diffedit_web import create_app

PROMPTS = {"source_prompt": "a bowl of fruits", "target_prompt": "a bowl of pears"}
SIZE = (64, 48)


def png(mode: str = "RGB", colour: Any = "green", size: tuple[int, int] = SIZE, **options: Any) -> bytes:
    """Return a picture of one colour as a PNG file."""
    buffer = io.BytesIO()
    Image.new(mode, size, colour).save(buffer, options.pop("format", "PNG"), **options)
    return buffer.getvalue()


def routes(router: object) -> Iterator[APIRoute]:
    """Yield all routes below a router, also those of routers that were included."""
    for route in getattr(router, "routes", ()):
        if isinstance(route, APIRoute):
            yield route
        yield from routes(getattr(route, "original_router", None))


class WebApi:
    """The application over the doubles. `headers` are those of the user "u17", `stranger` of another one."""

    def __init__(self, app: FastAPI, client: AsyncClient, http: httpx.AsyncClient) -> None:
        self.app, self.client, self.http = app, client, http
        make = client._blocking.add_api_key
        self.headers = {"Authorization": f"Bearer {make('u17').text}"}
        self.stranger = {"Authorization": f"Bearer {make('u18').text}"}

    async def __call__(self, method: str, path: str, status: int, **options: Any) -> httpx.Response:
        """Send a request as the user, and check the status of the answer."""
        options = {"headers": {}, **options}
        options["headers"] = {**self.headers, **options["headers"]}
        response = await self.http.request(method, path, **options)
        assert response.status_code == status, (response.status_code, response.text)
        return response

    async def submit(self, path: str = "/v1/edits", **options: Any) -> dict[str, Any]:
        """Submit an edit of a green picture, and return its first status."""
        files = {"image": ("green.png", png(), "image/png")}
        response = await self("POST", path, 202, files=files, data={**PROMPTS, **options})
        return dict(response.json())

    async def problem(self, method: str, path: str, status: int, **options: Any) -> str:
        """Return the code of the problem with which a request is answered."""
        response = await self(method, path, status, **options)
        assert response.headers["content-type"] == "application/problem+json"
        problem = response.json()
        assert problem["status"] == status
        assert problem["type"] == f"urn:diffedit:error:{problem['code']}"
        return str(problem["code"])

    def job(self, edit: dict[str, Any]) -> AsyncJobHandle:
        """Return the job of an edit."""
        return self.client.job(edit["id"])


@asynccontextmanager
async def web_api(**options: Any) -> AsyncIterator[WebApi]:
    """Run the application in this process while the context lasts."""
    client = async_memory_client()
    app = create_app(client, **options)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with client, httpx.AsyncClient(transport=transport, base_url="http://testserver") as http:
        yield WebApi(app, client, http)
