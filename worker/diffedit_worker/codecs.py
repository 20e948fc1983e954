"""How each slot's content becomes bytes and back: safetensors for tensors, PNG for pictures, JSON for texts.

Never pickle. Reading is defensive: whatever lies in the bucket, the answer is a checked value or an ArtifactError.
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
from diffedit.pictures import Picture, encode_png, read_mask, read_picture, read_result


@dataclass(frozen=True)
class Codec:
    extension: str
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]


def _encode_picture(picture: Picture) -> bytes:
    return encode_png(picture.image, icc_profile=picture.icc_profile, text=picture.text)


def _encode_tensors(tensors: Mapping[str, torch.Tensor]) -> bytes:
    # Once stored, it would be found by every later job of the same recipe, and spoil them all.
    if not all(torch.isfinite(tensor).all() for tensor in tensors.values()):
        raise NotFinite
    return save_safetensors({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})


def tensors_codec(*names: str, ndim: int) -> Codec:
    """Tensors of these names, each of `ndim` dimensions and finite."""

    def decode(data: bytes) -> dict[str, torch.Tensor]:
        try:
            tensors = load_safetensors(data)
        except (SafetensorError, ValueError, KeyError) as error:
            raise ArtifactError(f"not a safetensors file: {error}") from error
        if set(tensors) != set(names) or any(tensor.ndim != ndim for tensor in tensors.values()):
            raise ArtifactError(f"holds other tensors than {', '.join(names)} of {ndim} dimensions")
        if not all(torch.isfinite(tensor).all() for tensor in tensors.values()):
            raise ArtifactError("holds values that are not finite")
        return tensors

    return Codec("safetensors", _encode_tensors, decode)


def json_codec(kind: Any) -> Codec:
    """A JSON value that is validated as `kind`."""
    adapter = TypeAdapter(kind)

    def decode(data: bytes) -> Any:
        try:
            return adapter.validate_json(data)
        except ValidationError as error:
            raise ArtifactError("not the JSON that was expected") from error

    return Codec("json", adapter.dump_json, decode)


PICTURE = Codec("png", _encode_picture, read_picture)
MASK = Codec("png", encode_png, read_mask)
RESULT = Codec("png", _encode_picture, read_result)
