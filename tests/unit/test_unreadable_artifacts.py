"""What a stage has made is read back before it counts as stored: no job succeeds with a result that nobody can read."""

from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import Any

import pytest
from PIL import Image

from diffedit.contract.job import State
from diffedit.contract.request import Prompts
from diffedit.contract.stages import STAGE_OF, Artifact
from diffedit.decoding import MAX_PIXELS
from diffedit.objects import store as store_module
from diffedit_worker.pipeline import PIPELINE
from diffedit_worker.runtime import artifacts as artifacts_module
from tests.support.inline_worker import InlineWorker

Value = Any


def without_last(tensors: dict[str, Value]) -> dict[str, Value]:
    return {name: tensor[..., :-1] for name, tensor in tensors.items()}


MADE: dict[str, tuple[Artifact, Callable[[Value], Value]]] = {
    "a caption that is too long": (Artifact.CAPTION, lambda text: "pear " * 300),
    "an empty sentence": (Artifact.PROMPTS, lambda prompts: Prompts.model_construct(source=("",), target=("a fig",))),
    "embeddings of another width": (Artifact.EMBEDDINGS, without_last),
    "numbers of another type": (Artifact.CAPTION_EMBEDDING, lambda each: {n: t.double() for n, t in each.items()}),
    "a trajectory that overflows": (Artifact.TRAJECTORY, lambda each: {n: t * 1e30 for n, t in each.items()}),
    "a trajectory of another picture": (Artifact.TRAJECTORY, without_last),
    "a black mask": (Artifact.MASK, lambda mask: Image.new("L", mask.size)),
    "a mask of another size": (Artifact.MASK, lambda mask: mask.resize((32, 32))),
    "a profile that readers refuse": (Artifact.RESULT, lambda picture: replace(picture, icc_profile=bytes(2**21))),
    "a result of another size": (Artifact.RESULT, lambda it: replace(it, image=it.image.resize((32, 32)))),
    "too many pixels": (
        Artifact.RESULT,
        lambda it: replace(it, image=Image.new("RGB", (8000, MAX_PIXELS // 8000 + 1))),
    ),
}


@pytest.fixture
def worker() -> InlineWorker:
    return InlineWorker()


def make_wrong(worker: InlineWorker, artifact: Artifact, change: Callable[[Value], Value]) -> None:
    """Let the stage of this artifact return a value that its codec writes and no reader takes."""
    definition = PIPELINE[STAGE_OF[artifact]]

    @wraps(definition.run)
    def run(**arguments: Any) -> dict[Artifact, Any]:
        outputs = definition.run(**arguments)
        return {**outputs, artifact: change(outputs[artifact])}

    worker.restart(pipeline={**PIPELINE, STAGE_OF[artifact]: replace(definition, run=run)})


@pytest.mark.parametrize("case", MADE)
def test_what_no_reader_takes_is_an_error_of_its_stage_and_is_not_stored(worker: InlineWorker, case: str) -> None:
    artifact, change = MADE[case]
    make_wrong(worker, artifact, change)
    job = worker.edit(source_prompt=None)
    refusal = job.status().refusal
    assert refusal
    assert (refusal.stage, refusal.code) == (STAGE_OF[artifact], "unreadable_artifact")
    assert refusal.message.startswith(f"the {artifact.value} cannot be read again after it was written (")
    assert artifact not in job.status().artifact_keys
    folder = f"artifacts/{artifact.value}/"
    assert not [key for key in worker.object_store._objects if key.startswith(folder)]
    worker.restart()
    assert job.cancel()
    assert job.retry().status().state is State.SUCCEEDED


@pytest.mark.parametrize("limit", ["MAX_RESULT_BYTES", "MAX_JSON_BYTES"])
def test_what_is_too_large_for_its_readers_is_not_stored(worker: InlineWorker, monkeypatch, limit: str) -> None:
    monkeypatch.setattr(store_module, limit, 100)
    refusal = worker.edit(source_prompt=None).status().refusal
    assert refusal
    assert refusal.code == "unreadable_artifact"
    assert "over the limit of 0" in refusal.message


def test_a_result_whose_manifest_is_not_the_one_beside_it_is_not_stored(worker: InlineWorker, monkeypatch) -> None:
    def without_text(picture: Value, **fields: Any) -> Value:
        return replace(picture, **{**fields, "text": {}})

    monkeypatch.setattr(artifacts_module, "replace", without_text)
    refusal = worker.edit().status().refusal
    assert refusal
    assert refusal.code == "unreadable_artifact"
