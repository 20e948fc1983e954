"""Bodies of requests: bounded in bytes, parts and time before anything is read."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from fastapi import Request
from python_multipart.exceptions import FormParserError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser

from diffedit import MAX_PICTURE_BYTES, InvalidRequest
from diffedit_web.problems import refused

MAX_FIELD_BYTES = 16 * 2**10
"""Bytes of a field that is no file: the longest texts of a request take a quarter of it."""
MAX_FIELDS = 64
MAX_JSON_BYTES = 64 * 2**10
SECONDS = 120.0
"""For the whole body, so that nobody holds a connection and a file with one byte a minute."""

_SURROGATE = re.compile("[\ud800-\udfff]")
"""Two that belong together are one character after JSON was read."""
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


@dataclass(frozen=True)
class Body:
    """What a request contains.

    Attributes:
        values: the fields, as JSON has them; of a form, all are texts.
        files: the files, open and on disk if they are large. Whoever reads one in a thread holds its bytes only there.
        is_form: whether it was a form.
    """

    values: Mapping[str, Any]
    files: Mapping[str, BinaryIO] = field(default_factory=dict)
    is_form: bool = False


def max_form_bytes(files: int) -> int:
    """Return the bytes that a form with so many pictures may take."""
    return files * (MAX_PICTURE_BYTES + 2**10) + 2**18


@asynccontextmanager
async def read_form(request: Request, file_names: Mapping[str, str]) -> AsyncIterator[Body]:
    """Read a form (multipart/form-data). Its files are open within the context.

    Args:
        request: the request, whose body was not read before.
        file_names: the names of fields that may be files, each with the name under which it is returned.

    Raises:
        InvalidRequest: this is no such form, or a field is given twice or must not be a file.
        HTTPException: the body takes too many bytes, or too long.
    """
    kind = "multipart/form-data"
    if _media_type(request) != kind:
        raise refused(415, f"send the picture as {kind}")
    files_expected = len(set(file_names.values()))
    request = _bounded(request, max_form_bytes(files_expected))
    parser = _FormParser(
        request.headers,
        request.stream(),
        max_files=files_expected,
        max_fields=MAX_FIELDS,
        max_part_size=MAX_FIELD_BYTES,
    )
    try:
        form = await parser.parse()
    except FormParserError as error:
        raise InvalidRequest(f"the form cannot be read: {error}") from None
    except MultiPartException as error:  # Starlette's word for a form that is too large or damaged
        raise InvalidRequest(parser.too_long or f"the form cannot be read: {error.message}") from None
    try:
        yield _parts(form, file_names)
    finally:
        await form.close()


async def read_json(request: Request) -> Body:
    """Return the fields of a JSON object. Raises InvalidRequest, HTTPException."""
    if _media_type(request) != "application/json":
        raise refused(415, "send JSON (application/json), or the picture as multipart/form-data")
    try:
        value = json.loads(await _bounded(request, MAX_JSON_BYTES).body())
    except (ValueError, RecursionError):
        raise InvalidRequest("the body is no JSON") from None
    if not isinstance(value, dict):
        raise InvalidRequest("the body must be a JSON object")
    for name, content in value.items():
        if _SURROGATE.search(json.dumps([name, content], ensure_ascii=False)):
            raise InvalidRequest(
                f"{name.encode('ascii', 'replace').decode()[:40]}: Invalid JSON, because half of a surrogate pair "
                "(\\ud800 to \\udfff) stands for no character"
            )
    return Body(value)


def is_json(request: Request) -> bool:
    """Return whether the body of the request says that it is JSON."""
    return _media_type(request) == "application/json"


class _FormParser(MultiPartParser):
    """Starlette's, that also knows which field was too long.

    Attributes:
        too_long: what is wrong with the field; "" if no field was too long.
    """

    too_long = ""

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        try:
            super().on_part_data(data, start, end)
        except MultiPartException:
            name = self._current_part.field_name[:40]
            self.too_long = f"{name}: the text takes more than {MAX_FIELD_BYTES // 2**10} KiB, the limit"
            raise


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _parts(form: FormData, file_names: Mapping[str, str]) -> Body:
    values: dict[str, Any] = {}
    files: dict[str, BinaryIO] = {}
    for name, value in form.multi_items():
        known = file_names.get(name)
        if isinstance(value, UploadFile) != (known is not None):
            raise InvalidRequest(f"{name}: this must {'' if known else 'not '}be a file")
        if (known or name) in values or (known or name) in files:
            raise InvalidRequest(f"{name}: it is given twice; give it once")
        if isinstance(value, UploadFile):
            files[known or name] = value.file
        else:
            values[name] = value
    return Body(values, files, is_form=True)


def _bounded(request: Request, max_bytes: int) -> Request:
    """Return the request with a body that raises HTTPException beyond `max_bytes` or after SECONDS.

    A length that is announced is refused before the first byte is read.
    """
    announced = request.headers.get("content-length", "0")
    if announced.isascii() and announced.isdecimal() and int(announced) > max_bytes:
        raise _too_large(max_bytes)
    receive: Receive = request.receive
    end = asyncio.get_running_loop().time() + SECONDS
    received = 0

    async def bounded() -> MutableMapping[str, Any]:
        nonlocal received
        try:
            async with asyncio.timeout_at(end):
                message = await receive()
        except TimeoutError:
            raise refused(408, f"the body took longer than {SECONDS:g} s") from None
        received += len(message.get("body", b""))
        if received > max_bytes:
            raise _too_large(max_bytes)
        return message

    return Request(request.scope, bounded)


def _too_large(max_bytes: int) -> HTTPException:
    size = f"{max_bytes / 2**20:.1f} MiB" if max_bytes >= 2**20 else f"{max_bytes // 2**10} KiB"
    return refused(413, f"the body takes more than {size}, the limit")
