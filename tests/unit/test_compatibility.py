"""Checkpoints that load and cannot work are refused by their configuration, before any weights are read."""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from diffedit.contract.stages import ModelGroup
from diffedit.errors import ModelUnavailable
from diffedit_worker.models.loading import Models
from diffedit_worker.models.profiles import BUILT_IN, ModelSource, Profile, load_profiles
from tests.support.checkpoints import SCHEDULER, SIZE, WIDTH, change_json, ddim_config, write_checkpoint, write_json

# When the machine has other work, two threads of a small model wait for each other much longer than they compute.
torch.set_num_threads(1)

SDXL = {
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 80,
    "cross_attention_dim": 64,
}
FLOW_MATCHING = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0}
EDM = {"_class_name": "EDMEulerScheduler", "prediction_type": "epsilon", "sigma_data": 0.5, "sigma_max": 80.0}
FLOW_SIGMAS = {**SCHEDULER, "_class_name": "DPMSolverMultistepScheduler", "use_flow_sigmas": True}
TWO_ENCODERS = {"_class_name": "StableDiffusionXLPipeline", "text_encoder_2": ["transformers", "CLIPTextModel"]}

REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("SDXL", {"unet": SDXL, "index": TWO_ENCODERS}, "StableDiffusionXLPipeline with several text encoders"),
    ("a UNet with addition embeddings", {"unet": SDXL}, "addition_embed_type 'text_time' and none is wanted"),
    ("inpainting", {"unet": {"in_channels": 9}}, r"takes 9 channels \(9 are those of an inpainting model\) and 4 are"),
    ("depth", {"unet": {"in_channels": 5}}, "takes 5 channels and 4 are wanted"),
    (
        "an upscaler",
        {"unet": {"in_channels": 7, "num_class_embeds": 1000}},
        "takes 7 channels .* num_class_embeds 1000",
    ),
    ("class labels", {"unet": {"class_embed_type": "timestep"}}, "class_embed_type 'timestep' and none is wanted"),
    ("another text encoder", {"text_encoder": {"hidden_size": 48}}, "has 48 dimensions and its UNet wants 32"),
    ("a VAE of 16 channels", {"vae": {"latent_channels": 16}}, "VAE has 16 latent channels and its UNet wants 4"),
    ("a shifted VAE", {"vae": {"shift_factor": 0.06}}, "VAE has shift_factor 0.06 and none is wanted"),
    ("sample", {"scheduler": ddim_config(prediction_type="sample")}, "type is 'sample' and epsilon or v_prediction is"),
    ("flow matching", {"scheduler": FLOW_MATCHING}, r"flow matching \(FlowMatchEulerDiscreteScheduler\)"),
    ("flow sigmas", {"scheduler": FLOW_SIGMAS}, r"flow matching \(DPMSolverMultistepScheduler\)"),
    ("EDM", {"scheduler": EDM}, "EDMEulerScheduler has no betas and a noise schedule with betas is wanted"),
]


def profile_of(directory: Path, size: int = SIZE) -> Profile:
    return load_profiles()["tiny"].model_copy(update={"diffusion": ModelSource(id=str(directory)), "size": size})


def load_all(directory: Path) -> None:
    models = Models(profile_of(directory), device="cpu")
    for part in ("text_encoder", "unet", "vae", "scheduler_config"):
        getattr(models, part)


@pytest.fixture
def tokenizer() -> Path:
    return BUILT_IN.parent / "tiny/diffusion/tokenizer"


@pytest.mark.parametrize(
    "prediction", [{}, {"scheduler": ddim_config()}, {"scheduler": ddim_config(prediction_type="v_prediction")}]
)
def test_a_model_of_the_kind_of_stable_diffusion_loads(tmp_path, tokenizer, prediction) -> None:
    write_checkpoint(tmp_path, **prediction)
    shutil.copytree(tokenizer, tmp_path / "tokenizer")
    load_all(tmp_path)


@pytest.mark.parametrize(("changes", "problem"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_a_checkpoint_that_cannot_work_is_refused_and_told_why(tmp_path, tokenizer, changes, problem) -> None:
    write_checkpoint(tmp_path, **changes)
    shutil.copytree(tokenizer, tmp_path / "tokenizer")
    with pytest.raises(ModelUnavailable, match=rf"{tmp_path} cannot be used: .*{problem}.*; choose a text-to-image"):
        load_all(tmp_path)


@pytest.mark.parametrize("group", ModelGroup)
def test_each_model_group_refuses_it_before_any_weights_are_read(tmp_path, group) -> None:
    write_checkpoint(tmp_path, text_encoder={"hidden_size": 48})
    for weights in tmp_path.rglob("*.safetensors"):
        weights.unlink()
    with pytest.raises(ModelUnavailable, match="has 48 dimensions and its UNet wants 32"):
        Models(profile_of(tmp_path), device="cpu").load(group)


def test_all_problems_are_named_at_once(tmp_path) -> None:
    write_checkpoint(tmp_path, unet={"in_channels": 9}, scheduler=FLOW_MATCHING)
    with pytest.raises(ModelUnavailable, match="9 channels .*; it is trained by flow matching"):
        load_all(tmp_path)


@pytest.mark.parametrize("name", ["FluxPipeline", "StableDiffusion3Pipeline"])
def test_a_pipeline_without_a_unet_is_named(tmp_path, name) -> None:
    transformer = {"transformer": ["diffusers", "FluxTransformer2DModel"], "vae": ["diffusers", "AutoencoderKL"]}
    write_json(tmp_path / "model_index.json", {"_class_name": name, **transformer})
    with pytest.raises(ModelUnavailable, match=f"it is a {name} without unet and UNet2DConditionModel is wanted"):
        _ = Models(profile_of(tmp_path)).unet


def swap(part: str, **entries: Any) -> Callable[[Path], None]:
    return lambda directory: change_json(directory / part / "config.json", **entries)


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (swap("unet", _class_name="Kandinsky3UNet"), "its unet is Kandinsky3UNet and UNet2DConditionModel is wanted"),
        (swap("vae", _class_name="AutoencoderTiny"), "its vae is AutoencoderTiny and AutoencoderKL is wanted"),
        (swap("text_encoder", model_type="t5"), "its text encoder is a t5 model and clip_text_model is wanted"),
        (swap("unet", cross_attention_dim=[32, 64]), "has 32 dimensions and its UNet wants 32 and 64"),
    ],
)
def test_parts_of_other_classes_are_refused(tmp_path, damage, problem) -> None:
    damage(write_checkpoint(tmp_path))
    with pytest.raises(ModelUnavailable, match=problem):
        load_all(tmp_path)


def test_a_size_that_the_cells_of_the_vae_do_not_divide_is_refused(tmp_path) -> None:
    five = {"block_out_channels": (8,) * 5}
    write_checkpoint(
        tmp_path,
        vae={**five, "down_block_types": ("DownEncoderBlock2D",) * 5, "up_block_types": ("UpDecoderBlock2D",) * 5},
    )
    with pytest.raises(ModelUnavailable, match="cells of 16 pixels, which do not divide the profile's size, 72"):
        _ = Models(profile_of(tmp_path, size=72)).vae


def test_a_size_that_the_model_was_not_trained_on_is_logged(tmp_path, caplog) -> None:
    write_checkpoint(tmp_path)
    with caplog.at_level(logging.WARNING, logger="diffedit_worker"):
        _ = Models(profile_of(tmp_path, size=128)).unet
    assert "was trained at 64 pixels, and the profile's size is 128" in caplog.text


@pytest.mark.parametrize(
    ("part", "model_type", "wanted"), [("captioner", "blip-2", "blip"), ("prompter", "bert", "t5 or mt5")]
)
def test_a_language_model_of_another_type_is_refused(tmp_path, part, model_type, wanted) -> None:
    write_json(tmp_path / "config.json", {"model_type": model_type})
    profile = load_profiles()["tiny"].model_copy(update={part: ModelSource(id=str(tmp_path))})
    with pytest.raises(ModelUnavailable, match=f"it is a {model_type} model, and {wanted} is wanted"):
        getattr(Models(profile), part)


@pytest.mark.parametrize(
    ("missing", "unet", "expected"),
    [
        ((), {}, (77, WIDTH)),
        (("unet",), {}, (77, WIDTH)),
        (("text_encoder",), {}, (None, WIDTH)),
        (("text_encoder",), {"cross_attention_dim": [WIDTH, WIDTH]}, (None, None)),
        (("text_encoder", "unet"), {}, (None, None)),
    ],
)
def test_the_shape_of_a_text_embedding_is_known_from_the_parts_that_are_there(
    tmp_path, missing: tuple[str, ...], unet: dict[str, Any], expected: tuple[int | None, int | None]
) -> None:
    write_checkpoint(tmp_path)
    change_json(tmp_path / "unet/config.json", **unet)
    for part in missing:
        shutil.rmtree(tmp_path / part)
    assert Models(profile_of(tmp_path)).text_shape == expected


def test_every_built_in_model_on_this_disk_is_accepted() -> None:
    models = Models(load_profiles()["tiny"], device="cpu")
    for group in ModelGroup:
        models.load(group)
