"""The results of each stage on the bundled model, compared with stored ones: a reminder to raise a stage's version.

Cached artifacts are found by a key that contains the version of their stage. If a stage returns other results under the
same version, workers mix old and new artifacts. Every stage gets fixed inputs, none of which is made by another stage.
What is stored is a coarse summary, so that rounding errors of another machine do not matter.

`python -m tests.unit.test_golden` writes the summaries of the present code to `golden.json`.
"""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from diffedit.contract.request import Prompts
from diffedit.contract.stages import Stage
from diffedit.pictures import Picture, read_picture
from diffedit_worker.models.loading import Models
from diffedit_worker.models.profiles import SAMPLES, load_profiles
from diffedit_worker.pipeline import PIPELINE

# When the machine has other work, two threads of a small model wait for each other much longer than they compute.
torch.set_num_threads(1)

GOLDEN = Path(__file__).with_name("golden.json")

SOURCE, TARGET = "a photograph of a pear on a green table", "a photograph of some cherries on a green table"
WALK = {"scheduler": "ddim", "num_inference_steps": 5, "strength": 0.8}


@cache
def models() -> Models:
    return Models(load_profiles()["tiny"], device="cpu")


@torch.no_grad()
def embedding(text: str) -> torch.Tensor:
    tokenizer, encoder = models().text_encoder
    ids = tokenizer(text, padding="max_length", truncation=True, return_tensors="pt").input_ids
    return encoder(ids).last_hidden_state


def picture(name: str = "06.png") -> Picture:
    return read_picture((SAMPLES / name).read_bytes())


def rectangle() -> Image.Image:
    mask = Image.new("L", (64, 64))
    mask.paste(255, (16, 8, 48, 40))
    return mask


def trajectory() -> dict[str, torch.Tensor]:
    return {"latents": 0.5 * torch.randn(1, 5, 4, 16, 16, generator=torch.Generator().manual_seed(0))}


ARGUMENTS: dict[Stage, Callable[[], dict[str, Any]]] = {
    Stage.CAPTION: lambda: {"image": picture()},
    Stage.PROMPTS: lambda: {
        "caption": SOURCE,
        "target_prompt": None,
        "source_concept": "pear",
        "target_concept": "cherries",
        "concept_prompts": "sentences",
        "num_prompts": 2,
        "seed": 7,
    },
    Stage.EMBED: lambda: {
        "prompts": Prompts(source=(SOURCE, "a photo of a pear"), target=(TARGET,)),
        "caption": SOURCE,
        "negative_prompt": None,
    },
    Stage.MASK: lambda: {
        "image": picture(),
        "embeddings": {"source": embedding(SOURCE), "target": embedding(TARGET)},
        "seed": 7,
        "scheduler": "ddim",
        "num_inference_steps": 50,
        "num_maps_per_mask": 4,
        "mask_encode_strength": 0.5,
        "mask_thresholding_ratio": "otsu",
        "mask_cleanup": True,
    },
    Stage.INVERT: lambda: {
        "image": picture(),
        "caption_embedding": {"caption": embedding(SOURCE), "unconditional": embedding("")},
        "inversion_guidance_scale": 1.0,
        "inversion_feature_reuse": 1,
        **WALK,
    },
    Stage.EDIT: lambda: {
        "image": picture(),
        "mask": rectangle(),
        "trajectory": trajectory(),
        "embeddings": {"target": embedding(TARGET), "negative": embedding(SOURCE)},
        "guidance_scale": 7.5,
        "guidance_interval": 1.0,
        "feature_reuse": 1,
        **WALK,
    },
}

OTHER: dict[Stage, Callable[[], dict[str, Any]]] = {
    Stage.CAPTION: lambda: {"image": picture("02.png")},
    Stage.PROMPTS: lambda: {"seed": 8},
    Stage.EMBED: lambda: {"negative_prompt": "a photo of a dog"},
    Stage.MASK: lambda: {"mask_thresholding_ratio": 1.5},
    Stage.INVERT: lambda: {"inversion_guidance_scale": 1.5},
    Stage.EDIT: lambda: {"guidance_scale": 6.5},
}
"""Arguments whose results must differ from the stored ones, so that the summaries are not too coarse."""


def summary(value: Any) -> Any:
    """A text exactly; 16 values of a tensor; 8 x 8 pixels of a picture; the mean of 4 x 4 fields of a mask."""
    if isinstance(value, Prompts):
        return value.model_dump(mode="json")
    if isinstance(value, dict):
        return {name: summary(tensor) for name, tensor in value.items()}
    if isinstance(value, torch.Tensor):
        # The step is odd, so that the values are of different columns.
        return [round(number, 4) for number in value.flatten()[:: value.numel() // 16 | 1].tolist()]
    if isinstance(value, Picture):
        return np.asarray(value.image)[4::8, 4::8].flatten().tolist()
    if isinstance(value, Image.Image):
        return np.asarray(value.resize((4, 4), Image.Resampling.BOX)).flatten().tolist()
    return value


def results(stage: Stage, **changed: Any) -> dict[str, Any]:
    arguments = {**ARGUMENTS[stage](), **changed}
    made = PIPELINE[stage].run(models=models(), on_step=lambda *_: None, **arguments)
    return {artifact.value: summary(value) for artifact, value in made.items()}


def equal(one: Any, other: Any, tolerance: float) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(equal(one[name], other[name], tolerance) for name in one)
    if isinstance(one, list) and isinstance(other, list) and all(isinstance(each, int | float) for each in one + other):
        return len(one) == len(other) and bool(np.allclose(one, other, rtol=0, atol=tolerance))
    return one == other


TOLERANCES = {Stage.MASK: 16, Stage.EDIT: 2}
"""In steps of 255: one latent cell in a field of the mask, two steps of a colour. Tensors: 0.002."""


def is_golden(stage: Stage, found: dict[str, Any]) -> bool:
    return equal(found, json.loads(GOLDEN.read_text())[stage.value]["results"], TOLERANCES.get(stage, 0.002))


@pytest.mark.parametrize("stage", Stage)
def test_a_stage_with_other_results_has_another_version(stage: Stage) -> None:
    stored, version = json.loads(GOLDEN.read_text())[stage.value]["version"], PIPELINE[stage].version
    update = "update the golden value: python -m tests.unit.test_golden"
    assert stored == version, f"stage {stage.value} has version {version}; {update}"
    assert is_golden(stage, results(stage)), (
        f"results changed: raise DEFINITION.version of stage {stage.value}, and {update}"
    )


@pytest.mark.parametrize("stage", Stage)
def test_the_golden_value_notices_another_result(stage: Stage) -> None:
    assert not is_golden(stage, results(stage, **OTHER[stage]()))


def test_two_threads_give_the_golden_values_as_well() -> None:
    torch.set_num_threads(2)
    try:
        assert all(is_golden(stage, results(stage)) for stage in (Stage.MASK, Stage.INVERT, Stage.EDIT))
    finally:
        torch.set_num_threads(1)


if __name__ == "__main__":
    golden = {stage.value: {"version": PIPELINE[stage].version, "results": results(stage)} for stage in Stage}
    GOLDEN.write_text(json.dumps(golden, indent=1) + "\n")
