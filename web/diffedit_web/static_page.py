"""The page of `diffedit serve`: files that a browser loads as they are, and the headers with which it may use them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from fastapi import FastAPI
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Message, Receive, Scope, Send

FILES: Final = Path(__file__).with_name("page")
SAMPLES_FILE: Final = "scenes.json"
POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",  # previews arrive as data URIs; pictures are read with the API key
        "connect-src 'self'",
        "form-action 'none'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",  # no text ever becomes markup
        "trusted-types 'none'",
    )
)
HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-cache",  # asks each time whether the file has changed, so that all files are of one version
}


def add_page(app: FastAPI, samples: Path | None = None) -> None:
    """Serve the page at `/` and its files below `/page`. Neither needs a key, and neither contains data of a user.

    Args:
        app: the application.
        samples: a directory with pictures and `scenes.json`, which says what they show and what they can become. The
            page offers them to a user who has no picture at hand. None: there are no samples.
    """

    async def index() -> Response:
        return FileResponse(FILES / "index.html", headers=dict(HEADERS))

    async def no_samples() -> Response:
        return Response(json.dumps([]), media_type="application/json", headers=dict(HEADERS))

    app.add_api_route("/", index, methods=["GET", "HEAD"], include_in_schema=False)
    if samples is None:
        app.add_api_route(f"/page/samples/{SAMPLES_FILE}", no_samples, include_in_schema=False)
    else:
        app.mount("/page/samples", PageFiles(directory=samples))
    app.mount("/page", PageFiles(directory=FILES))


class PageFiles(StaticFiles):
    """The files of a directory, with the headers of the page."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message["headers"], *added]
            await send(message)

        await super().__call__(scope, receive, send_with_headers)
