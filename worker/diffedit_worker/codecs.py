"""From artifacts to bytes and back: safetensors for tensors, PNG for pictures, JSON for texts. Never pickle.

Decoding trusts no bytes: it returns a checked value or raises ArtifactError (BadPicture for a picture).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors

from diffedit.errors import ArtifactError, NotFinite
from diffedit.masks import read_mask
from diffedit.pictures import Picture, encode_png, read_picture, read_result


@dataclass(frozen=True)
class Codec:
    """How the values of one kind of artifact are stored. `extension` is that of the object's key."""

    extension: str
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]


def _encode_picture(picture: Picture) -> bytes:
    return encode_png(picture.image, icc_profile=picture.icc_profile, text=picture.text)


def _encode_tensors(tensors: Mapping[str, torch.Tensor]) -> bytes:
    # The stages check what their models return. Should one forget it: every later job with the same cache key would use
    # the stored artifact.
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise NotFinite(f"model that made the {name}", str(tensor.device), str(tensor.dtype).removeprefix("torch."))
    return save_safetensors({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})


def tensors_codec(*names: str, ndim: int) -> Codec:
    """Return the codec of tensors with these names, each finite and with `ndim` dimensions."""

    def decode(data: bytes) -> dict[str, torch.Tensor]:
        try:
            tensors = load_safetensors(data)
        except (SafetensorError, ValueError, KeyError) as error:
            raise ArtifactError(f"not a safetensors file: {error}") from error
        if set(tensors) != set(names) or any(tensor.ndim != ndim for tensor in tensors.values()):
            raise ArtifactError(f"does not hold the tensors {', '.join(names)} with {ndim} dimensions")
        if not all(torch.isfinite(tensor).all() for tensor in tensors.values()):
            raise ArtifactError("holds values that are not finite")
        return tensors

    return Codec("safetensors", _encode_tensors, decode)


def json_codec(kind: Any) -> Codec:
    """Return the codec of JSON values that are validated as `kind`."""
    adapter = TypeAdapter(kind)

    def decode(data: bytes) -> Any:
        try:
            return adapter.validate_json(data)
        except ValidationError as error:
            raise ArtifactError("not the expected JSON") from error

    return Codec("json", adapter.dump_json, decode)


PICTURE = Codec("png", _encode_picture, read_picture)
MASK = Codec("png", encode_png, read_mask)
RESULT = Codec("png", _encode_picture, read_result)
