"""From artifacts to bytes and back: safetensors for tensors, PNG for pictures, JSON for texts. Never pickle.

Decoding trusts no bytes: it returns a checked value or raises ArtifactError (BadPicture for a picture). Whether a value
fits its job is checked by the stage that makes it, with the functions `check_...` (`stages.definition.Output.check`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors

from diffedit.errors import ArtifactError, BadPicture, NotFinite
from diffedit.masks import read_mask
from diffedit.pictures import Picture, Size, by_size, encode_png, read_picture, read_result

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
"""The number types of stored tensors, those of the models. A worker whose models have another one converts them."""
MAX_VALUE = torch.finfo(torch.float16).max
"""The largest value in a stored tensor. Embeddings and latents are thousands of times smaller."""


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
            raise NotFinite(f"model that made the {name}", str(tensor.device), _name(tensor.dtype))
    return save_safetensors({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})


def tensors_codec(*names: str) -> Codec:
    """Return the codec of tensors with these names, each of a type in DTYPES and with values up to MAX_VALUE."""

    def decode(data: bytes) -> dict[str, torch.Tensor]:
        try:
            tensors = load_safetensors(data)
        except (SafetensorError, ValueError, KeyError) as error:
            raise ArtifactError(f"not a safetensors file: {error}") from error
        if set(tensors) != set(names):
            raise ArtifactError(f"does not hold the tensors {', '.join(names)}")
        for name, tensor in tensors.items():
            if tensor.dtype not in DTYPES:
                raise ArtifactError(f"its tensor {name} is of type {_name(tensor.dtype)}")
            # NaN is not at most anything.
            if not (tensor.abs() <= MAX_VALUE).all():
                raise ArtifactError(f"its tensor {name} holds values that are not finite, or above {MAX_VALUE:.0f}")
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


def check_shapes(tensors: Mapping[str, torch.Tensor], shape: Sequence[int | None]) -> None:
    """Raise ArtifactError unless all tensors have this shape. None stands for a size that only has to be the same."""
    for name, tensor in tensors.items():
        found = tuple(tensor.shape)
        if len(found) != len(shape) or any(want not in (None, have) for want, have in zip(shape, found, strict=True)):
            wanted = ", ".join("any" if size is None else str(size) for size in shape)
            raise ArtifactError(f"its tensor {name} has the shape {found} instead of ({wanted})")
    if len({tensor.shape for tensor in tensors.values()}) > 1:
        raise ArtifactError("its tensors have different shapes")


def check_size(what: str, image: Image.Image, size: Size) -> None:
    """Raise BadPicture unless the image has the size of the job's picture. The message calls the image `what`."""
    if image.size != size:
        raise BadPicture(
            f"the {what} is {by_size(image.size)} pixels and the picture {by_size(size)}; use the same size"
        )


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


PICTURE = Codec("png", _encode_picture, read_picture)
MASK = Codec("png", encode_png, read_mask)
RESULT = Codec("png", _encode_picture, read_result)
