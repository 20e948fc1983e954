"""Artifacts whose content nobody knows and which cannot be those of the job: they are deleted and made again.

Their files can be decoded, or are of types that this version does not read. What has a known content is in
test_contents.py.
"""

import json
from collections.abc import Callable
from io import BytesIO
from itertools import product

import pytest
import safetensors.torch
import torch
from PIL import Image

from diffedit.contract.job import Job, State
from diffedit.contract.object_keys import input_key
from diffedit.contract.stages import STAGE_OF, Artifact, Stage
from diffedit.masks import read_mask
from diffedit.pictures import encode_png, read_result
from tests.support.factories import a_job, a_request
from tests.support.inline_worker import QUICK, SAMPLE, InlineWorker

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
    "tokens beyond all windows": of_all(lambda tensor: tensor.repeat(1, 9, 1)),
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
CASES = [(artifact, how) for artifact, changes in WRONG.items() for how in changes]


@pytest.fixture
def worker() -> InlineWorker:
    return InlineWorker()


@pytest.fixture(scope="module")
def edited() -> InlineWorker:
    """A worker that has made one edit with all stages. Each test puts its artifacts back."""
    worker = InlineWorker()
    worker.edit(source_prompt=None)
    return worker


def forget_contents(worker: InlineWorker, job_id: str) -> None:
    """Remove what is known about contents, as if a worker of 0.2.0 had made everything."""
    state = worker.job_store._state
    state.contents.clear()
    for name in [name for name in state.records[job_id] if name.startswith("content:")]:
        del state.records[job_id][name]


def test_there_is_a_wrong_value_for_each_artifact() -> None:
    assert set(WRONG) == set(STAGE_OF)


@pytest.mark.parametrize(("artifact", "how"), CASES)
def test_a_wrong_artifact_is_not_found_but_made_again(edited: InlineWorker, artifact: Artifact, how: str) -> None:
    (first,) = [status for status in edited.client.jobs(limit=1000) if status.created_artifacts == tuple(STAGE_OF)]
    key = first.artifact_keys[artifact]
    intact = edited.object_store.get(key)
    wrong = WRONG[artifact][how](intact)
    assert wrong != intact
    edited.object_store.put(key, wrong)
    forget_contents(edited, first.id)
    status = edited.edit(source_prompt=None).status()
    assert (status.state, status.created_artifacts) == (State.SUCCEEDED, (artifact,))
    assert edited.object_store.get(key) == intact


@pytest.mark.parametrize(("artifact", "how"), [case for case in CASES if case[0] is not Artifact.RESULT])
def test_an_artifact_that_is_wrong_when_a_stage_reads_it_is_made_again(
    worker: InlineWorker, artifact: Artifact, how: str
) -> None:
    reader = next(stage for stage in Stage if artifact in stage.needs)
    left, intact = iter([reader]), {}

    def before_stage(stage: Stage, job: Job) -> None:
        if stage is reader and next(left, None):
            key = worker.job_store.status(job.id).artifact_keys[artifact]
            intact[key] = worker.object_store.get(key)
            worker.object_store.put(key, WRONG[artifact][how](intact[key]))
            forget_contents(worker, job.id)

    worker.before_stage = before_stage
    status = worker.edit(source_prompt=None).status()
    assert (status.state, len(intact)) == (State.SUCCEEDED, 1)
    assert status.attempts[STAGE_OF[artifact]] == status.attempts[reader] == 2
    for key, data in intact.items():
        assert worker.object_store.get(key) == data


@pytest.mark.parametrize(
    ("size", "scheduler"), list(product([(64, 64), (40, 96), (200, 30), (17, 64)], ["ddim", "dpmsolver++"]))
)
def test_the_artifacts_of_pictures_of_any_shape_are_found_although_their_content_is_unknown(
    worker: InlineWorker, size: tuple[int, int], scheduler: str
) -> None:
    asked = {
        "image": Image.effect_noise(size, 90).convert("RGB"),
        "source_concept": "pear",
        "target_concept": "cherries",
        "num_prompts": 3,
        "profile": "tiny",
        "seed": 1,
        "num_inference_steps": 5,
        "strength": 0.58,
        "num_maps_per_mask": 1,
        "scheduler": scheduler,
    }
    first = worker.client.edit(**asked).status()
    assert first.state is State.SUCCEEDED
    forget_contents(worker, first.id)
    second = worker.client.edit(**asked).status()
    assert second.cache_hits == second.stages


def test_a_mask_of_the_user_with_another_size_is_the_users_fault(worker: InlineWorker) -> None:
    picture, mask = SAMPLE.read_bytes(), encode_png(Image.new("L", (64, 32), 255))
    keys = {"image": input_key(picture, "png"), "mask": input_key(mask, "png")}
    for key, data in zip(keys.values(), (picture, mask), strict=True):
        worker.object_store.put(key, data)
    job = a_job(a_request(QUICK, **keys))  # a client that checks less than ours
    worker.job_store.create_job(job)
    worker.send(job)
    error = worker.job_store.status(job.id).error
    assert error
    assert (error.stage, error.code) == (Stage.EDIT, "bad_picture")
    assert "64 x 32 pixels and the picture 64 x 64; use the same size" in error.message
    assert worker.object_store.exists(keys["mask"])
