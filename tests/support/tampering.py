"""Changes of a stored file after which it is still valid in form, so that only its content tells."""

import json
from io import BytesIO

import safetensors.torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo


def tampered(data: bytes) -> bytes:
    """Return the file of an artifact with one pixel, one word or one number changed."""
    if data.startswith(b"\x89PNG"):
        return _picture(data)
    return _text(data) if data[:1] in b'"{' else _tensors(data)


def _picture(data: bytes) -> bytes:
    image = Image.open(BytesIO(data))
    image.load()
    chunks, buffer = PngInfo(), BytesIO()
    for name, text in image.text.items():
        chunks.add_itxt(name, text)
    pixel = image.getpixel((0, 0))
    image.putpixel((0, 0), 255 - pixel if image.mode == "L" else (pixel[0] ^ 1, *pixel[1:]))
    image.save(buffer, "PNG", pnginfo=chunks)
    return buffer.getvalue()


def _text(data: bytes) -> bytes:
    value = json.loads(data)
    if isinstance(value, str):
        return json.dumps(f"{value} forged").encode()
    if "request" in value:  # a manifest
        value["request"]["params"]["seed"] += 1
        return json.dumps(value).encode()
    value["target"][0] += " forged"
    return json.dumps(value).encode()


def _tensors(data: bytes) -> bytes:
    tensors = safetensors.torch.load(data)
    tensor = next(iter(tensors.values()))
    tensor.view(-1)[0] += 1
    return safetensors.torch.save(tensors)
