"""Files of artifacts that cannot be those of the job, and that only a check of type, shape, size or number finds.

They fit an edit of a picture of 64 x 64 pixels by the bundled model, with one sentence in each prompt.
"""

import json
from collections.abc import Callable
from io import BytesIO

import safetensors.torch
import torch
from PIL import Image

from diffedit.contract.stages import Artifact
from diffedit.masks import read_mask
from diffedit.pictures import encode_png, read_result

Tensor = torch.Tensor
Change = Callable[[bytes], bytes]


def of_all(change: Callable[[Tensor], Tensor]) -> Change:
    """Return a change of each tensor of a file."""

    def changed(data: bytes) -> bytes:
        tensors = {name: change(tensor).contiguous() for name, tensor in safetensors.torch.load(data).items()}
        return safetensors.torch.save(tensors)

    return changed


def of_first(change: Callable[[Tensor], Tensor]) -> Change:
    """Return a change of one tensor of a file."""

    def changed(data: bytes) -> bytes:
        tensors = safetensors.torch.load(data)
        name = sorted(tensors)[0]
        return safetensors.torch.save({**tensors, name: change(tensors[name]).contiguous()})

    return changed


def with_value(value: float) -> Change:
    def put(tensor: Tensor) -> Tensor:
        tensor.view(-1)[-1] = value
        return tensor

    return of_first(put)


def renamed(data: bytes) -> bytes:
    return safetensors.torch.save({f"{name}s": tensor for name, tensor in safetensors.torch.load(data).items()})


def with_one_more(data: bytes) -> bytes:
    return safetensors.torch.save({**safetensors.torch.load(data), "more": torch.zeros(1)})


def with_header(**fields: object) -> Change:
    """Return a change of what the header of a safetensors file says about each tensor."""

    def changed(data: bytes) -> bytes:
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        text = json.dumps({name: {**entry, **fields} for name, entry in header.items()}).encode()
        return len(text).to_bytes(8, "little") + text + data[8 + length :]

    return changed


OF_TENSORS: dict[str, Change] = {
    "float8": of_all(lambda tensor: tensor.to(torch.float8_e4m3fn)),
    "float64": of_all(Tensor.double),
    "integers": of_all(Tensor.long),
    "bools": of_all(Tensor.bool),
    "complex": of_all(lambda tensor: tensor.to(torch.complex64)),
    "a type of 4 bits": with_header(dtype="F4"),
    "a type that nobody knows": with_header(dtype="F12"),
    "no elements": of_all(lambda tensor: tensor[:0]),
    "no rows": of_all(lambda tensor: tensor[:, :0]),
    "a batch of two": of_all(lambda tensor: tensor.repeat(2, *[1] * (tensor.ndim - 1))),
    "one dimension less": of_all(lambda tensor: tensor[0]),
    "one dimension more": of_all(lambda tensor: tensor[None]),
    "no dimensions": of_all(lambda tensor: tensor.view(-1)[0]),
    "another width": of_all(lambda tensor: tensor[..., :-1]),
    "another height": of_all(lambda tensor: tensor[..., :-1, :]),
    "NaN": with_value(torch.nan),
    "infinity": with_value(-torch.inf),
    "a value that overflows": with_value(1e30),
    "other names": renamed,
    "one more tensor": with_one_more,
}
OF_EMBEDDINGS = OF_TENSORS | {
    "tokens beyond all windows": of_all(lambda tensor: tensor.repeat(1, 33, 1)),
    "half a window more": of_all(lambda tensor: torch.cat([tensor, tensor[:, :38]], dim=1)),
    "one with another number of windows": of_first(lambda tensor: tensor.repeat(1, 2, 1)),
}
OF_TRAJECTORY = OF_TENSORS | {
    "too few steps": of_all(lambda tensor: tensor[:, 1:]),
    "too many steps": of_all(lambda tensor: torch.cat([tensor, tensor[:, :1]], dim=1)),
    "three channels": of_all(lambda tensor: tensor[:, :, :3]),
    "height and width exchanged": of_all(lambda tensor: tensor[..., :8].transpose(3, 4)),
}


def png(image: Image.Image, **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


def resized_result(data: bytes) -> bytes:
    result = read_result(data)
    return encode_png(result.image.resize((32, 32)), text=result.text)


OF_MASK: dict[str, Change] = {
    "another size": lambda data: png(read_mask(data).resize((32, 32))),
    "another shape": lambda data: png(read_mask(data).crop((0, 0, 64, 32))),
    "black": lambda data: png(Image.new("L", (64, 64))),
    "dark greys": lambda data: png(Image.new("F", (64, 64), 0.4).convert("L")),
    "transparent and grey": lambda data: png(Image.merge("LA", [Image.new("L", (64, 64), 127), read_mask(data)])),
    "an animation": lambda data: png(read_mask(data), save_all=True, append_images=[Image.new("L", (64, 64), 1)]),
}
OF_RESULT: dict[str, Change] = {
    "another size": resized_result,
    "without a manifest": lambda data: encode_png(read_result(data).image),
}
OF_CAPTION: dict[str, Change] = {
    "nothing": lambda data: b'""',
    "a number": lambda data: b"7",
    "a list": lambda data: b'["a pear"]',
    "control characters": lambda data: rb'"a \u0007pear"',
    "too long": lambda data: json.dumps("pear " * 300).encode(),
}


def sentences(source: object, target: object) -> Change:
    return lambda data: json.dumps({"source": source, "target": target}).encode()


OF_PROMPTS: dict[str, Change] = {
    "no sentences": sentences([], []),
    "an empty sentence": sentences([""], ["a pear"]),
    "one sentence too many": sentences(["a pear", "a plum"], ["a fig", "a lime"]),
    "control characters": sentences(["a \x07pear"], ["a fig"]),
    "too long": sentences(["pear " * 300], ["a fig"]),
    "a target for a list": sentences(["a pear"], "a fig"),
}
WRONG: dict[Artifact, dict[str, Change]] = {
    Artifact.CAPTION: OF_CAPTION,
    Artifact.PROMPTS: OF_PROMPTS,
    Artifact.EMBEDDINGS: OF_EMBEDDINGS,
    Artifact.CAPTION_EMBEDDING: OF_EMBEDDINGS,
    Artifact.MASK: OF_MASK,
    Artifact.TRAJECTORY: OF_TRAJECTORY,
    Artifact.RESULT: OF_RESULT,
}
"""For each kind of artifact: what is wrong, and a change that makes it so."""
