"""Values that are not finite: found in the stage in which they arise, and blamed on the model that returned them."""

import pickle
from collections.abc import Callable
from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from diffedit.contract.request import Prompts
from diffedit.contract.stages import Artifact, Stage
from diffedit.errors import NotFinite
from diffedit.pictures import Picture, read_picture
from diffedit_worker.diffusion import diffedit
from diffedit_worker.models import latents as latents_module
from diffedit_worker.models.finite import FiniteScores, require_finite
from diffedit_worker.models.latents import encode_picture
from diffedit_worker.models.loading import Models
from diffedit_worker.models.profiles import SAMPLES, load_profiles
from diffedit_worker.pipeline import CODECS, PIPELINE
from tests.support.models import small_models

# When the machine has other work, two threads of a small model wait for each other much longer than they compute.
torch.set_num_threads(1)

NAN, INF = float("nan"), float("inf")
WALK = {"scheduler": "ddim", "num_inference_steps": 5, "strength": 0.8}


def new_models() -> Models:
    return Models(load_profiles()["tiny"], device="cpu")


@cache
def picture() -> Picture:
    return read_picture((SAMPLES / "06.png").read_bytes())


@cache
def text() -> torch.Tensor:
    return torch.randn(1, 77, 96, generator=torch.Generator().manual_seed(0))


def rectangle() -> Image.Image:
    mask = Image.new("L", picture().image.size)
    mask.paste(255, (16, 8, 48, 40))
    return mask


ARGUMENTS: dict[Stage, Callable[[], dict[str, Any]]] = {
    Stage.CAPTION: lambda: {"image": picture()},
    Stage.PROMPTS: lambda: {
        "caption": "a pear",
        "target_prompt": None,
        "source_concept": "pear",
        "target_concept": "cherries",
        "concept_prompts": "sentences",
        "num_prompts": 2,
        "seed": 7,
    },
    Stage.EMBED: lambda: {
        "prompts": Prompts(source=("a pear",), target=("cherries",)),
        "caption": "a pear",
        "negative_prompt": None,
    },
    Stage.MASK: lambda: {
        "image": picture(),
        "embeddings": {"source": text(), "target": -text()},
        "seed": 7,
        "scheduler": "ddim",
        "num_inference_steps": 5,
        "num_maps_per_mask": 2,
        "mask_encode_strength": 0.5,
        "mask_thresholding_ratio": 3.0,
        "mask_cleanup": False,
    },
    Stage.INVERT: lambda: {
        "image": picture(),
        "caption_embedding": {"caption": text(), "unconditional": -text()},
        "inversion_guidance_scale": 1.0,
        "inversion_feature_reuse": 1,
        **WALK,
    },
    Stage.EDIT: lambda: {
        "image": picture(),
        "mask": rectangle(),
        "trajectory": {"latents": torch.zeros(1, 5, 4, 16, 16)},
        "embeddings": {"target": text(), "negative": -text()},
        "guidance_scale": 2.0,
        "guidance_interval": 1.0,
        "feature_reuse": 1,
        **WALK,
    },
}


def run(stage: Stage, models: Models) -> dict[Artifact, Any]:
    return PIPELINE[stage].run(models=models, on_step=lambda *_: None, **ARGUMENTS[stage]())


SICK_WEIGHTS: list[tuple[Stage, str, Callable[[Models], torch.Tensor]]] = [
    (Stage.CAPTION, "captioner", lambda models: models.captioner[1].text_decoder.cls.predictions.bias),
    (Stage.CAPTION, "captioner", lambda models: models.captioner[1].vision_model.post_layernorm.bias),
    (Stage.PROMPTS, "prompter", lambda models: models.prompter[1].encoder.final_layer_norm.weight),
    (Stage.PROMPTS, "prompter", lambda models: models.prompter[1].decoder.final_layer_norm.weight),
    (Stage.EMBED, "text encoder", lambda models: models.text_encoder[1].final_layer_norm.bias),
    (Stage.MASK, "VAE", lambda models: models.vae.quant_conv.bias),
    (Stage.MASK, "UNet", lambda models: models.unet.conv_out.bias),
    (Stage.INVERT, "VAE", lambda models: models.vae.quant_conv.bias),
    (Stage.INVERT, "UNet", lambda models: models.unet.conv_out.bias),
    (Stage.EDIT, "UNet", lambda models: models.unet.conv_out.bias),
    (Stage.EDIT, "VAE", lambda models: models.vae.decoder.conv_out.bias),
]


@pytest.mark.parametrize("value", [NAN, INF])
@pytest.mark.parametrize(
    ("stage", "name", "weight"), SICK_WEIGHTS, ids=[f"{stage}-{name}" for stage, name, _ in SICK_WEIGHTS]
)
def test_a_stage_blames_the_model_that_returned_values_that_are_not_finite(stage, name, weight, value) -> None:
    models = new_models()
    weight(models).fill_(value)

    with pytest.raises(NotFinite, match=f"the {name} returned values that are not finite, on cpu in float32") as caught:
        run(stage, models)
    assert (caught.value.model, caught.value.device, caught.value.dtype) == (name, "cpu", "float32")


@pytest.mark.parametrize("stage", Stage)
def test_a_stage_with_sound_models_runs(stage) -> None:
    assert run(stage, new_models()).keys() == set(stage.gives)


def test_a_single_bad_value_of_a_single_noise_spoils_no_mask(monkeypatch) -> None:
    """Without the check, the mean over all cells is NaN, and the mask is empty."""
    models, predict_noise = new_models(), diffedit.predict_noise

    def one_is_nan(*args: Any, **kwargs: Any) -> tuple[torch.Tensor, torch.Tensor]:
        eps, features = predict_noise(*args, **kwargs)
        eps[0, 0, 0, 0] = NAN
        return eps, features

    monkeypatch.setattr(diffedit, "predict_noise", one_is_nan)
    with pytest.raises(NotFinite, match="UNet"):
        run(Stage.MASK, models)


def test_latents_that_are_not_finite_are_not_kept_for_the_next_stage(monkeypatch) -> None:
    models, encode = new_models(), diffedit.encode
    with monkeypatch.context() as sick:
        sick.setattr(latents_module.diffedit, "encode", lambda *args: encode(*args) * NAN)
        with pytest.raises(NotFinite, match="VAE"):
            encode_picture(models, picture())
    assert encode_picture(models, picture())[1].isfinite().all()


def test_latents_that_overflow_the_number_type_of_the_unet_are_found(monkeypatch) -> None:
    models, encode = Models(load_profiles()["tiny"], device="cpu", dtype="float16"), diffedit.encode
    monkeypatch.setattr(latents_module.diffedit, "encode", lambda *args: encode(*args) + 1e6)
    with pytest.raises(NotFinite, match="VAE"):
        encode_picture(models, picture())


def test_decoding_hides_no_infinity() -> None:
    vae = small_models().vae
    vae.decoder.conv_out.bias.data.fill_(INF)
    assert diffedit.decode(vae, torch.zeros(1, 4, 16, 16)).isinf().all()


def test_an_empty_caption_of_a_sound_model_is_allowed(monkeypatch) -> None:
    models = new_models()
    # The bias of the token that ends the text
    models.captioner[1].text_decoder.cls.predictions.bias[3] = 1000
    assert run(Stage.CAPTION, models) == {Artifact.CAPTION: "a photograph of"}


MODEL = SimpleNamespace(device=torch.device("cuda:1"), dtype=torch.bfloat16)


@pytest.mark.parametrize("row", [[1.0, -INF, -INF], [0.0, 0.0, 0.0]])
def test_excluded_tokens_are_regular(row) -> None:
    scores = torch.tensor([row])
    assert FiniteScores("captioner", MODEL)(torch.zeros(1, 1), scores) is scores


@pytest.mark.parametrize("row", [[1.0, NAN, 2.0], [1.0, INF, 2.0], [-INF, -INF, -INF]])
def test_scores_without_a_most_likely_token_are_not_finite(row) -> None:
    with pytest.raises(NotFinite, match="the captioner .* on cuda:1 in bfloat16"):
        FiniteScores("captioner", MODEL)(torch.zeros(2, 1), torch.tensor([[1.0, 2.0, 3.0], row]))


def test_finite_values_pass_unchanged() -> None:
    values = torch.ones(2)
    assert require_finite(values, "UNet", MODEL) is values


def test_the_error_says_what_to_do_and_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(NotFinite("VAE", "cuda:0", "float16")))
    assert (error.model, error.device, error.dtype) == ("VAE", "cuda:0", "float16")
    for advice in ("DIFFEDIT_DTYPE=float32", "DIFFEDIT_VAE_DTYPE=float32", "another device"):
        assert advice in str(error)


def test_a_stage_that_forgets_the_check_stores_nothing() -> None:
    with pytest.raises(NotFinite, match="the model that made the latents .* on cpu in float16"):
        CODECS[Artifact.TRAJECTORY].encode({"latents": torch.full((1, 1, 4, 2, 2), NAN, dtype=torch.float16)})
