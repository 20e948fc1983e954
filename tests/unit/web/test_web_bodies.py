"""Bodies are bounded before they are read: in bytes, parts and time."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from diffedit_web import bodies
from tests.support.web_api import PROMPTS, WebApi, png

pytestmark = pytest.mark.anyio
FORM = {"Content-Type": "multipart/form-data; boundary=b"}


def part(name: str, value: bytes, file: str = "") -> bytes:
    """Return a part of a form."""
    filename = f'; filename="{file}"' if file else ""
    return f'--b\r\nContent-Disposition: form-data; name="{name}"{filename}\r\n\r\n'.encode() + value + b"\r\n"


async def test_a_body_that_says_that_it_is_too_large_is_refused_unread(api: WebApi) -> None:
    read = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal read
        while True:
            read += 1
            yield bytes(2**16)

    headers = {**FORM, "Content-Length": str(10**12)}
    assert await api.problem("POST", "/v1/edits", 413, content=body(), headers=headers) == "body_too_large"
    assert read == 0
    json = {"Content-Type": "application/json", "Content-Length": str(10**6)}
    assert await api.problem("POST", "/v1/edits", 413, content=body(), headers=json) == "body_too_large"
    assert read == 0


async def test_what_is_too_large_is_named_with_its_limit(api: WebApi) -> None:
    headers = {"Content-Type": "application/json", "Content-Length": str(2**16 + 1)}
    response = await api("POST", "/v1/edits", 413, content=b" " * (2**16 + 1), headers=headers)
    assert response.json()["detail"] == "the body takes more than 64 KiB, the limit"
    form = part("image", png(), "a.png") + part("target_prompt", b"x" * (2**14 + 1)) + b"--b--\r\n"
    response = await api("POST", "/v1/edits", 400, content=form, headers=FORM)
    assert response.json()["detail"] == "target_prompt: the text takes more than 16 KiB, the limit"


async def test_headers_are_bounded_together(api: WebApi) -> None:
    await api("GET", "/v1/health", 200, headers={"X-Long": "x" * 60_000})
    for headers in ({"X-Long": "x" * 80_000}, {f"X-{number}": "x" * 1000 for number in range(70)}):
        assert await api.problem("GET", "/v1/health", 431, headers=headers) == "headers_too_large"


async def test_a_body_without_a_length_is_read_up_to_the_limit(api: WebApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "MAX_PICTURE_BYTES", 2**20)
    read = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal read
        yield part("image", b"", "image.png")[:-2]
        while read < 100 * 2**20:
            read += 2**16
            yield bytes(2**16)

    assert await api.problem("POST", "/v1/edits", 413, content=body(), headers=FORM) == "body_too_large"
    assert read <= bodies.max_form_bytes(2) + 2**17 < 4 * 2**20


async def test_a_picture_that_is_too_large_is_refused(api: WebApi, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"image": ("large.png", png() + bytes(33 * 2**20), "image/png")}
    assert await api.problem("POST", "/v1/edits", 400, files=files, data=PROMPTS) == "bad_picture"


async def test_a_body_that_takes_too_long_is_refused(api: WebApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "SECONDS", 0.2)

    async def body() -> AsyncIterator[bytes]:
        for byte in part("image", png(), "image.png"):
            yield bytes([byte])
            await asyncio.sleep(0.05)

    assert await api.problem("POST", "/v1/edits", 408, content=body(), headers=FORM) == "request_timeout"


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (part("image", png(), "a.png") * 3, 400),
        (part("image", png(), "a.png") * 2, 400),
        (part("image", png(), "a.png") + part("seed", b"7") * 2, 400),
        (part("image", png(), "a.png") + b"".join(part(f"f{n}", b"x") for n in range(100)), 400),
        (part("image", png(), "a.png") + part("target_prompt", b"x" * 2**17), 400),
        (part("image", png(), "a.png") + part("seed", b"7", "seed.txt"), 400),
        (b"no form at all", 400),
        (b"", 400),
        (part("image", b"", "a.png"), 400),
        (part("image", b"no picture", "a.png"), 400),
        (part("image", png(), "a.png") + part("\xff\xfe", b"\xff"), 400),
    ],
)
async def test_a_form_that_cannot_be_meant_is_refused(api: WebApi, content: bytes, status: int) -> None:
    response = await api("POST", "/v1/edits", status, content=content + b"--b--\r\n", headers=FORM)
    assert response.json()["code"] in ("invalid_request", "bad_picture")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "", "multipart/mixed; boundary=b"])
async def test_another_content_type_is_refused(api: WebApi, kind: str) -> None:
    headers = {"Content-Type": kind}
    assert await api.problem("POST", "/v1/edits", 415, content=b"x", headers=headers) == "unsupported_media_type"
    assert await api.problem("POST", "/v1/uploads", 415, content=b"x", headers=headers) == "unsupported_media_type"


async def test_a_form_without_a_boundary_is_refused(api: WebApi) -> None:
    headers: dict[str, Any] = {"Content-Type": "multipart/form-data"}
    assert await api.problem("POST", "/v1/edits", 400, content=b"x", headers=headers) == "invalid_request"
