"""The number types of the models: what they change, on the real classes with the bundled weights."""

from functools import cache
from typing import Any

import pytest
import torch

from diffedit.contract.stages import Artifact, ModelGroup, Stage
from diffedit_worker.models.loading import Models
from diffedit_worker.models.profiles import load_profiles
from diffedit_worker.pipeline import cache_key
from tests.support.factories import a_job
from tests.support.inline_worker import InlineWorker

# When the machine has other work, two threads of a small model wait for each other much longer than they compute.
torch.set_num_threads(1)

HALF = ("float16", "bfloat16")


@cache
def models_in(dtype: str | None, vae_dtype: str = "float32") -> Models:
    return Models(load_profiles()["tiny"], device="cpu", dtype=dtype, vae_dtype=vae_dtype)


def dtypes_of(model: torch.nn.Module) -> set[torch.dtype]:
    return {weights.dtype for weights in model.parameters()}


@pytest.mark.parametrize("name", HALF)
def test_the_models_are_loaded_in_the_number_type_of_the_settings(name: str) -> None:
    models, dtype = models_in(name), getattr(torch, name)

    for model in (models.captioner[1], models.text_encoder[1], models.unet):
        assert dtypes_of(model) == {dtype}
    # transformers keeps some weights of T5 in float32, because they overflow float16.
    assert models.prompter[1].dtype == dtype
    assert dtypes_of(models.vae) == {torch.float32}


@pytest.mark.parametrize("name", HALF)
def test_the_vae_has_a_number_type_of_its_own(name: str) -> None:
    assert dtypes_of(models_in(None, vae_dtype=name).vae) == {getattr(torch, name)}
    assert dtypes_of(models_in(None, vae_dtype=name).unet) == {torch.float32}


@pytest.mark.parametrize(("dtype", "vae_dtype"), [("float16", "float32"), ("bfloat16", "bfloat16"), (None, "float16")])
@pytest.mark.parametrize("scheduler", ["ddim", "dpmsolver++"])
def test_an_edit_runs_in_every_number_type(dtype: str | None, vae_dtype: str, scheduler: str) -> None:
    worker = InlineWorker()
    worker.models_of = lambda name: models_in(dtype, vae_dtype)
    worker.restart()
    result = worker.edit(scheduler=scheduler).result(timeout=1)

    assert result.image.getextrema() != ((0, 0), (0, 0), (0, 0))


@pytest.mark.parametrize("name", HALF)
def test_language_models_write_in_half_precision(name: str) -> None:
    worker = InlineWorker()
    worker.models_of = lambda profile: models_in(name)
    worker.restart()
    texts = {"source_prompt": None, "target_prompt": None, "source_concept": "pear", "target_concept": "dog"}
    job = worker.edit(**texts, concept_prompts="sentences")

    assert job.result(timeout=1).caption.startswith("a photograph of ")


# Cache keys


def keys(models: Models) -> dict[Artifact, Any]:
    job = a_job()
    return {artifact: cache_key(stage, artifact, job, models) for stage in (Stage.EMBED,) for artifact in stage.gives}


def test_float32_has_the_identities_that_it_always_had() -> None:
    for models in (models_in(None), models_in("float32")):
        assert models.identity("captioner").endswith("/float32")
        assert models.identity("diffusion").endswith("/float32/64")


def test_the_number_type_of_the_vae_is_in_the_keys_of_the_stages_that_use_it() -> None:
    same, other = models_in("float16", vae_dtype="float16"), models_in("float16")

    assert same.identity("diffusion").endswith("/float16/64")
    assert other.identity("diffusion").endswith("/float16/64/vae-float32")
    assert other.identity("diffusion", ModelGroup.LANGUAGE).endswith("/float16/64")
    assert keys(same) == keys(other) != keys(models_in("bfloat16"))
