"""Loading: the bundled model as it ships, its identity, and what happens to a model that cannot be loaded."""

import importlib
import io
import json
import shutil
import sys
import threading
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from diffusers.utils import logging as diffusers_logging
from huggingface_hub.utils import are_progress_bars_disabled, enable_progress_bars
from transformers.utils import logging as transformers_logging

from diffedit.contract.stages import ModelGroup
from diffedit.errors import ModelUnavailable
from diffedit_worker.models import loading, progress_bars
from diffedit_worker.models.latent_cache import LatentCache
from diffedit_worker.models.loading import NEEDED, Models
from diffedit_worker.models.profiles import BUILT_IN, ModelSource, Profile, load_profiles
from tests.support.models import small_models
from tests.support.spies import spy

# When the machine has other work, two threads of a small model wait for each other much longer than they compute.
torch.set_num_threads(1)

TINY = BUILT_IN.parent / "tiny"


@pytest.fixture(scope="module")
def tiny() -> Profile:
    return load_profiles()["tiny"]


@pytest.fixture(scope="module")
def models(tiny: Profile) -> Models:
    return Models(tiny, device="cpu")


@pytest.fixture
def directory(tmp_path):
    return Path(shutil.copytree(TINY / "prompter", tmp_path / "prompter"))


@pytest.fixture
def no_network(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


def replaced(profile: Profile, **sources: ModelSource) -> Profile:
    return profile.model_copy(update=sources)


def test_every_model_loads_in_float32_and_frozen(models):
    parts = [models.captioner[1], models.prompter[1], models.text_encoder[1], models.unet, models.vae]

    for model in parts:
        assert not model.training
        assert not any(parameter.requires_grad for parameter in model.parameters())
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert models.vae.use_slicing


def test_models_use_the_attention_of_torch(tiny, models, tmp_path):
    """Both libraries choose it when a model is loaded. transformers has only eager attention for the captioner."""
    small_models().vae.save_pretrained(tmp_path / "vae")  # the bundled VAE has no attention
    vae = Models(replaced(tiny, diffusion=ModelSource(id=str(tmp_path)))).vae

    for model in (models.unet, vae):
        layers = [module for module in model.modules() if isinstance(module, Attention)]
        assert {type(layer.processor) for layer in layers} == {AttnProcessor2_0}
    for _, model in (models.text_encoder, models.prompter):
        assert model.config._attn_implementation == "sdpa"


def test_channels_last_changes_only_the_layout(tiny, models, monkeypatch):
    monkeypatch.setattr(loading, "resolve_memory_format", lambda device: torch.channels_last)
    last = Models(tiny, device="cpu")
    x, text = torch.randn(2, 4, 16, 16), torch.randn(2, 77, 96)

    for plain, changed in ((models.unet, last.unet), (models.vae, last.vae)):
        assert {weights.shape for weights in plain.parameters()} == {weights.shape for weights in changed.parameters()}
        wide = [weights for weights in changed.parameters() if weights.dim() == 4]
        assert all(weights.is_contiguous(memory_format=torch.channels_last) for weights in wide)
    with torch.no_grad():
        torch.testing.assert_close(last.unet(x, 1, text).sample, models.unet(x, 1, text).sample, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("group", "wanted"),
    [
        (ModelGroup.LANGUAGE, {"captioner", "prompter", "text_encoder", "text_shape"}),
        (ModelGroup.DIFFUSION, {"unet", "vae", "scheduler_config", "text_shape"}),
    ],
)
def test_a_group_loads_only_what_its_stages_use(tiny, group, wanted):
    models = Models(tiny, device="cpu")
    models.load(group)

    parts = set().union(*NEEDED.values())
    assert parts & vars(models).keys() == wanted


def test_a_group_with_a_missing_model_does_not_load(tiny, tmp_path):
    models = Models(replaced(tiny, prompter=ModelSource(id=str(tmp_path / "gone"))))

    models.load(ModelGroup.DIFFUSION)
    with pytest.raises(ModelUnavailable, match=r"gone cannot be loaded \(no such directory\)"):
        models.load(ModelGroup.LANGUAGE)


def test_make_room_halves_the_batch_down_to_two_samples(tiny):
    models, sizes = Models(tiny, device="cpu"), []
    for _ in range(4):
        sizes.append(models.max_batch)
        models.memory.make_room(models.max_batch)

    assert sizes == [8, 4, 2, 2]


def test_progress_bars_are_turned_off_only_on_request(monkeypatch):
    def enabled() -> list[bool]:
        libraries = transformers_logging.is_progress_bar_enabled(), diffusers_logging.is_progress_bar_enabled()
        return [*libraries, not are_progress_bars_disabled()]

    def enable() -> None:
        for library in (transformers_logging, diffusers_logging):
            library.enable_progress_bar()
        enable_progress_bars()

    monkeypatch.setattr(sys, "stderr", io.StringIO())  # no terminal
    before = enabled()
    enable()  # as they are in a new process
    try:
        importlib.reload(progress_bars)
        assert enabled() == [True] * 3
        progress_bars.disable_progress_bars()
        assert enabled() == [False] * 3
    finally:
        if all(before):
            enable()


def test_loading_models_leaves_the_thread_count_alone(tiny):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        Models(tiny, device="cpu")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_the_latent_cache_keeps_the_last_picture():
    cache, encoded = LatentCache(), []

    def latents_of(key: str) -> torch.Tensor:
        def encode() -> torch.Tensor:
            encoded.append(key)
            return torch.full((1,), float(ord(key)))

        return cache.get(key, encode)

    assert [latents_of(key).item() for key in "aabba"] == [97, 97, 98, 98, 97]
    assert encoded == ["a", "b", "a"]
    cache.clear()
    latents_of("a")
    assert encoded == ["a", "b", "a", "a"]


def test_the_latent_cache_never_mixes_the_pictures_of_two_threads():
    cache, start, seen = LatentCache(), threading.Barrier(2), {0: set(), 1: set()}

    def ask(number: int) -> None:
        start.wait()
        for _ in range(2000):
            seen[number].add(cache.get(str(number), lambda: torch.tensor(number)).item())

    threads = [threading.Thread(target=ask, args=(number,)) for number in seen]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert seen == {0: {0}, 1: {1}}


def test_sizes(models):
    assert models.size == 64
    assert models.vae_scale_factor == 4


def test_racing_threads_share_one_load(tiny, monkeypatch):
    loads = spy(monkeypatch, loading.UNet2DConditionModel, "from_pretrained")
    models, start, seen = Models(tiny), threading.Barrier(4), []

    def ask():
        start.wait()
        seen.append(models.unet)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(loads) == 1
    assert len(set(map(id, seen))) == 1


@pytest.mark.parametrize("steps", [1, 20, 50])
def test_both_schedulers_use_the_same_noise_levels(models, steps):
    down, up = models.scheduler("ddim"), models.inverse_scheduler("ddim")
    down.set_timesteps(steps)
    up.set_timesteps(steps)

    assert down.timesteps.tolist() == up.timesteps.tolist()[::-1]
    assert torch.equal(down.alphas_cumprod, up.alphas_cumprod)
    assert down.final_alpha_cumprod == up.initial_alpha_cumprod
    assert not down.config.clip_sample
    assert not up.config.clip_sample
    assert models.scheduler("ddim") is not down, "a scheduler holds the state of one run"


def test_the_configuration_of_another_scheduler_is_accepted(tiny, tmp_path, capsys):
    """Stable Diffusion 1.5 has a PNDM configuration, and 2.1 predicts v."""
    foreign = {
        "_class_name": "PNDMScheduler",
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "clip_sample": True,
        "prediction_type": "v_prediction",
        "set_alpha_to_one": True,
        "skip_prk_steps": True,
        "steps_offset": 1,
    }
    (tmp_path / "scheduler").mkdir()
    (tmp_path / "scheduler" / "scheduler_config.json").write_text(json.dumps(foreign))
    models = Models(replaced(tiny, diffusion=ModelSource(id=str(tmp_path))))

    for scheduler in (models.scheduler("ddim"), models.inverse_scheduler("ddim")):
        config = scheduler.config
        assert config.prediction_type == "v_prediction"
        assert (config.beta_schedule, config.steps_offset) == ("scaled_linear", 1)
        assert (config.timestep_spacing, config.clip_sample, config.set_alpha_to_one) == ("leading", False, False)
    assert "not expected" not in capsys.readouterr().err


# Identity


def flip_a_weight(directory: Path) -> None:
    path = directory / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_the_identity_of_a_hub_model_needs_no_weights(no_network, monkeypatch):
    models = Models(load_profiles()["sd15"], device="cpu")
    sd15 = "stable-diffusion-v1-5/stable-diffusion-v1-5@451f4fe16113bff5a5d2269ed5ad43b0592e9a14"

    assert models.identity("diffusion") == f"{sd15}/float32/512"
    assert models.identity("prompter") == "google/flan-t5-large@0613663d0d48ea86ba8cb3d7a44f0f65dc596a2a/float32"

    models.dtype = torch.float16
    assert models.identity("diffusion") == f"{sd15}/float16/512/vae-float32"
    assert models.identity("diffusion", ModelGroup.LANGUAGE) == f"{sd15}/float16/512", "the text encoder has no VAE"
    models.vae_dtype = torch.float16
    assert models.identity("diffusion") == f"{sd15}/float16/512"


def test_the_identity_of_a_directory_is_its_content(tiny, models, directory):
    elsewhere = Models(replaced(tiny, prompter=ModelSource(id=str(directory))), device="cpu")
    assert models.identity("prompter") == elsewhere.identity("prompter")

    flip_a_weight(directory)
    changed = Models(replaced(tiny, prompter=ModelSource(id=str(directory))), device="cpu")
    assert models.identity("prompter") != changed.identity("prompter")
    assert models.identity("captioner") == changed.identity("captioner")


# Errors


PARTS = {"captioner": "captioner", "prompter": "prompter", "text_encoder": "diffusion", "unet": "diffusion"}


@pytest.mark.parametrize(("attribute", "part"), PARTS.items())
def test_a_model_that_is_not_downloaded(tiny, no_network, attribute, part):
    models = Models(replaced(tiny, **{part: ModelSource(id="nobody/nothing", revision="v7")}))

    with pytest.raises(ModelUnavailable, match=r"nobody/nothing@v7 cannot be loaded .*--revision v7.*HF_TOKEN"):
        getattr(models, attribute)


@pytest.mark.parametrize("attribute", PARTS)
def test_a_directory_that_is_not_there(tiny, tmp_path, attribute):
    models = Models(replaced(tiny, **{PARTS[attribute]: ModelSource(id=str(tmp_path / "gone"))}))

    with pytest.raises(ModelUnavailable, match=r"gone cannot be loaded \(no such directory\)"):
        getattr(models, attribute)
    with pytest.raises(ModelUnavailable, match="no such directory"):
        models.identity(PARTS[attribute])


def without_weights(directory: Path) -> None:
    (directory / "model.safetensors").unlink()


def without_vocabulary(directory: Path) -> None:
    (directory / "tokenizer.json").unlink()


def with_garbage(directory: Path) -> None:
    (directory / "model.safetensors").write_bytes(b"garbage" * 100)


def of_another_shape(directory: Path) -> None:
    path = directory / "config.json"
    path.write_text(path.read_text().replace('"num_layers": 2', '"num_layers": 3'))


@pytest.mark.parametrize("damage", [without_weights, without_vocabulary, with_garbage, of_another_shape])
def test_a_damaged_model_never_loads(tiny, directory, damage):
    """With most of these, the libraries only warn and load random weights or an empty vocabulary."""
    damage(directory)
    models = Models(replaced(tiny, prompter=ModelSource(id=str(directory))))

    with pytest.raises(ModelUnavailable, match=r"prompter cannot be loaded \(.*\); check that this directory"):
        _ = models.prompter


def test_a_model_that_lacks_weights_never_loads(tiny, tmp_path):
    shutil.copytree(TINY / "diffusion" / "unet", tmp_path / "unet")
    shutil.copy(TINY / "diffusion/vae/diffusion_pytorch_model.safetensors", tmp_path / "unet")
    models = Models(replaced(tiny, diffusion=ModelSource(id=str(tmp_path))))

    with pytest.raises(ModelUnavailable, match=r"weights of UNet2DConditionModel are not in it"):
        _ = models.unet


def test_the_message_contains_no_secret(tiny, monkeypatch):
    def fail(*_, **__):
        raise OSError("403 for https://cdn.example/x?X-Signature=abc&t=1 with token hf_SeCrEt\nmore")

    monkeypatch.setattr(loading.UNet2DConditionModel, "from_pretrained", fail)

    with pytest.raises(ModelUnavailable, match=r"403 for https://cdn\.example/x\[\.\.\.\] with token \[\.\.\.\]\)"):
        _ = Models(tiny).unet
