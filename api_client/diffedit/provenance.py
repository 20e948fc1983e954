"""The provenance of a result: what is needed to make it again, in a text chunk of the PNG file and as manifest.json.

What is stored serves every job with the same result, so it holds only what the result depends on. The request comes
from the record of the job that asks.
"""

import json
import struct
from collections.abc import Iterator, Mapping
from io import BytesIO
from typing import Any

from PIL.PngImagePlugin import putchunk
from pydantic import TypeAdapter

from diffedit.contract.request import EditRequest
from diffedit.pictures import PROVENANCE, read_result

_SIGNATURE = 8
_TEXTS = (b"iTXt", b"tEXt", b"zTXt")
_MANIFEST: TypeAdapter[dict[str, Any]] = TypeAdapter(dict[str, Any])


def manifest_of(png: bytes, request: EditRequest) -> dict[str, Any]:
    """Return the manifest of a stored result, with the request of the job that asks.

    Raises:
        BadPicture, ValueError: the file is damaged, or it has no manifest.
    """
    stored = _MANIFEST.validate_json(read_result(png).text.get(PROVENANCE, ""))
    return {**stored, "request": request.model_dump(mode="json")}


def with_manifest(png: bytes, manifest: Mapping[str, Any]) -> bytes:
    """Return the PNG file with this manifest as its only text. Pixels and colour profile stay as they are.

    Raises:
        ValueError: the file is damaged.
    """
    written, text = BytesIO(), json.dumps(manifest).encode()
    written.write(png[:_SIGNATURE])
    for kind, body in _chunks(png):
        if kind not in _TEXTS:
            putchunk(written, kind, body)
        if kind == b"IHDR":
            # Keyword, no compression, no language, no translated keyword.
            putchunk(written, b"iTXt", PROVENANCE.encode(), bytes(5), text)
    return written.getvalue()


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the kind and the body of each chunk, up to the last one."""
    position, kind = _SIGNATURE, b""
    while kind != b"IEND":
        try:
            length, kind = struct.unpack_from(">I4s", png, position)
        except struct.error as error:
            raise ValueError("the file ends before its last chunk") from error
        yield kind, png[position + 8 : position + 8 + length]
        position += 12 + length
