"""A model proves that it works when it is loaded, and whenever it is asked to."""

import logging
import re
from functools import cache

import pytest
import torch

from diffedit.contract.stages import ModelGroup
from diffedit.errors import ModelUnavailable, NotFinite
from diffedit_worker.diffusion.device_errors import is_device_error
from diffedit_worker.models import loading, proof
from diffedit_worker.models.loading import NEEDED, Models
from diffedit_worker.models.loading_clock import LoadingClock
from diffedit_worker.models.profiles import load_profiles
from tests.support.spies import spy

# When the machine has other work, two threads of a small model wait for each other much longer than they compute.
torch.set_num_threads(1)

SICK_WEIGHTS = {
    "captioner": lambda models: models.captioner[1].text_decoder.cls.predictions.bias,
    "prompter": lambda models: models.prompter[1].decoder.final_layer_norm.weight,
    "text encoder": lambda models: models.text_encoder[1].final_layer_norm.bias,
    "UNet": lambda models: models.unet.conv_out.bias,
    "VAE": lambda models: models.vae.decoder.conv_out.bias,
}


def new_models() -> Models:
    return Models(load_profiles()["tiny"], device="cpu")


@cache
def sound_models() -> Models:
    models = new_models()
    for group in ModelGroup:
        models.load(group)
    return models


def broken(*args: object, **kwargs: object) -> None:
    raise RuntimeError("CUDA error: an illegal memory access was encountered\nmore")


def test_sound_models_pass() -> None:
    sound_models().prove()


@pytest.mark.parametrize("group", ModelGroup)
def test_loading_a_group_runs_each_of_its_models_once(monkeypatch, group) -> None:
    proved = spy(monkeypatch, loading, "prove")
    new_models().load(group)
    assert tuple(part for part, _ in proved) == NEEDED[group]


def test_a_model_that_is_loaded_on_first_use_runs_once_as_well(monkeypatch) -> None:
    proved = spy(monkeypatch, loading, "prove")
    models = new_models()
    assert models.unet is models.unet
    assert [part for part, _ in proved] == ["unet"]


@pytest.mark.parametrize("name", SICK_WEIGHTS)
def test_a_model_that_has_become_sick_is_named(name) -> None:
    models = new_models()
    SICK_WEIGHTS[name](models).fill_(float("nan"))
    with pytest.raises(NotFinite, match=f"the {name} returned values that are not finite, on cpu in float32"):
        models.prove()


@pytest.mark.parametrize("part", ["captioner", "prompter", "text_encoder", "unet", "vae"])
def test_a_model_that_raises_is_named_and_the_error_of_the_device_is_known(monkeypatch, part) -> None:
    monkeypatch.setitem(proof._PROOFS, part, broken)
    reason = "RuntimeError: CUDA error: an illegal memory access was encountered"
    with pytest.raises(
        ModelUnavailable, match=rf"the {part.replace('_', ' ')} .* does not work \({reason}\);"
    ) as caught:
        sound_models().prove()
    assert is_device_error(caught.value)


def test_to_run_out_of_memory_is_not_the_fault_of_the_model(monkeypatch) -> None:
    def full(unet: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setitem(proof._PROOFS, "unet", full)
    with pytest.raises(torch.OutOfMemoryError):
        _ = new_models().unet


def test_a_model_without_a_proof_is_not_kept(monkeypatch) -> None:
    models = new_models()
    with monkeypatch.context() as sick:
        sick.setitem(proof._PROOFS, "unet", broken)
        with pytest.raises(ModelUnavailable):
            _ = models.unet
    assert models.unet is not None


def test_a_worker_proves_again_what_it_could_not_load(monkeypatch) -> None:
    """Otherwise a worker whose only model cannot be loaded would have nothing to prove."""
    models, pretrained = new_models(), loading.UNet2DConditionModel.from_pretrained

    def fail(*args: object, **kwargs: object) -> None:
        raise OSError("damaged")

    monkeypatch.setattr(loading.UNet2DConditionModel, "from_pretrained", fail)
    for use in (lambda: models.unet, models.prove, models.prove):
        with pytest.raises(ModelUnavailable, match="damaged"):
            use()
    monkeypatch.setattr(loading.UNet2DConditionModel, "from_pretrained", pretrained)
    models.prove()
    assert "unet" in vars(models)


def test_a_proof_loads_nothing_that_was_never_used() -> None:
    models = new_models()
    models.prove()
    assert not set().union(*NEEDED.values()) & vars(models).keys()


def test_a_load_is_logged_with_the_model_and_its_time(caplog) -> None:
    with caplog.at_level(logging.INFO, logger="diffedit_worker"):
        _ = new_models().text_encoder
    messages = [record.getMessage() for record in caplog.records]
    assert messages[0] == "loading the text encoder (diffusion)"
    assert re.fullmatch(r"loaded the text encoder in \d+\.\d s", messages[-1])


def test_the_clock_stands_at_now_while_a_model_is_loaded(monkeypatch) -> None:
    now = iter([5.0, 6.0, 7.0, 8.0])
    monkeypatch.setattr("diffedit_worker.models.loading_clock.time.monotonic", lambda: next(now))
    clock = LoadingClock()
    assert clock.last_at == float("-inf")
    with clock.running():
        assert [clock.last_at, clock.last_at] == [5, 6]
    assert [clock.last_at, clock.last_at] == [7, 7]


def test_the_clock_counts_a_load_that_fails(monkeypatch) -> None:
    models = new_models()
    monkeypatch.setitem(proof._PROOFS, "unet", broken)
    with pytest.raises(ModelUnavailable):
        _ = models.unet
    assert models.loading_clock.last_at > float("-inf")
