"""Checkpoints that load and cannot work, told by their configuration files before any weights are read.

DiffEdit as we run it wants a text-to-image model in the manner of Stable Diffusion 1 and 2: one CLIP text encoder, a
UNet on the VAE's latents that predicts noise or a velocity, and nothing else that conditions it.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from diffedit.errors import ModelUnavailable
from diffedit_worker.models.profiles import ModelSource

Config = Mapping[str, Any]

_CLASSES = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL", "text_encoder": "CLIPTextModel"}
_CONDITIONS = ("addition_embed_type", "class_embed_type", "num_class_embeds", "encoder_hid_dim")
"""Entries of a UNet's configuration that give it a further condition, which we do not have."""
_PREDICTIONS = ("epsilon", "v_prediction")


def check_diffusion_model(source: ModelSource, directory: Path, size: int) -> None:
    """Check whether the diffusion model in this directory can work, at pictures of `size` pixels a side.

    Parts that are not there are not checked: a worker for one model group may have only the parts of its group.

    Raises:
        ModelUnavailable: it cannot; the message says what was found and what is wanted.
    """
    unet, vae, text_encoder, scheduler = (
        _read(directory / path)
        for path in (
            "unet/config.json",
            "vae/config.json",
            "text_encoder/config.json",
            "scheduler/scheduler_config.json",
        )
    )
    problems = [
        *_problems_of_pipeline(_read(directory / "model_index.json")),
        *_problems_of_unet(unet, text_encoder),
        *_problems_of_vae(vae, unet, size),
        *_problems_of_text_encoder(text_encoder),
        *_problems_of_scheduler(scheduler),
    ]
    if problems:
        raise ModelUnavailable(
            f"{source} cannot be used: {'; '.join(problems)}; choose a text-to-image model of the kind of Stable "
            "Diffusion 1 or 2 for the profile (DIFFEDIT_PROFILES)"
        )


def check_language_model(source: ModelSource, directory: Path, *wanted: str) -> None:
    """Check whether the model in this directory is of one of the wanted types (`model_type` of transformers).

    Raises:
        ModelUnavailable: it is not; the message says what was found and what is wanted.
    """
    found = _read(directory / "config.json").get("model_type", wanted[0])
    if found not in wanted:
        raise ModelUnavailable(
            f"{source} cannot be used: it is a {found} model, and {' or '.join(wanted)} is wanted; choose another one "
            "for the profile (DIFFEDIT_PROFILES)"
        )


def trained_size(directory: Path) -> int | None:
    """Return the side in pixels of the pictures that the diffusion model was trained on, if its configuration says."""
    side = _read(directory / "unet/config.json").get("sample_size")
    vae = _read(directory / "vae/config.json")
    return side * _cell(vae) if isinstance(side, int) and vae else None


def text_shape(directory: Path) -> tuple[int | None, int | None]:
    """Return the tokens and the width of a text embedding; None for what the configurations do not say.

    A worker for one model group may have only the UNet or only the text encoder.
    """
    text_encoder, unet = (_read(directory / part / "config.json") for part in ("text_encoder", "unet"))
    hidden = text_encoder.get("hidden_size") or unet.get("cross_attention_dim")
    return text_encoder.get("max_position_embeddings"), hidden if isinstance(hidden, int) else None


def _read(path: Path) -> Config:
    """Return a configuration; {} if there is no such file, or if it cannot be read, which its loader will report."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


def _cell(vae: Config) -> int:
    return int(2 ** (len(vae.get("block_out_channels", (64,))) - 1))


def _problems_of_pipeline(index: Config) -> Iterator[str]:
    if not index:
        return
    name = index.get("_class_name", "pipeline")
    # A part that a pipeline may have and this one does not is [null, null].
    parts = {part for part, value in index.items() if isinstance(value, list) and any(value)}
    for part in _CLASSES.keys() - parts:
        yield f"it is a {name} without {part} and {_CLASSES[part]} is wanted"
    if parts & {"text_encoder_2", "text_encoder_3"}:
        yield f"it is a {name} with several text encoders and one is wanted"


def _problems_of_unet(unet: Config, text_encoder: Config) -> Iterator[str]:
    if not unet:
        return
    yield from _problem_of_class("unet", unet)
    inputs, outputs = unet.get("in_channels", 4), unet.get("out_channels", 4)
    if inputs != outputs:
        kind = " (9 are those of an inpainting model)" if inputs == 9 else ""
        yield f"its UNet takes {inputs} channels{kind} and {outputs} are wanted, as many as it returns"
    for entry in _CONDITIONS:
        if unet.get(entry) is not None:
            yield f"its UNet has {entry} {unet[entry]!r} and none is wanted"
    width, hidden = unet.get("cross_attention_dim", 1280), text_encoder.get("hidden_size")
    widths = set(width) if isinstance(width, list) else {width}
    if hidden is not None and widths != {hidden}:
        yield f"its text encoder has {hidden} dimensions and its UNet wants {' and '.join(sorted(map(str, widths)))}"


def _problems_of_vae(vae: Config, unet: Config, size: int) -> Iterator[str]:
    if not vae:
        return
    yield from _problem_of_class("vae", vae)
    latents, wanted = vae.get("latent_channels", 4), unet.get("out_channels", 4)
    if unet and latents != wanted:
        yield f"its VAE has {latents} latent channels and its UNet wants {wanted}"
    for entry in ("shift_factor", "latents_mean", "latents_std"):
        if vae.get(entry):
            yield f"its VAE has {entry} {vae[entry]} and none is wanted"
    if size % _cell(vae):
        yield f"its VAE has cells of {_cell(vae)} pixels, which do not divide the profile's size, {size}"


def _problems_of_text_encoder(text_encoder: Config) -> Iterator[str]:
    found = text_encoder.get("model_type", "clip_text_model")
    if found not in ("clip_text_model", "clip"):
        yield f"its text encoder is a {found} model and clip_text_model is wanted"


def _problems_of_scheduler(scheduler: Config) -> Iterator[str]:
    if not scheduler:
        return
    name = scheduler.get("_class_name", "scheduler")
    if scheduler.get("use_flow_sigmas") or "flow" in str(scheduler.get("prediction_type", name)).lower():
        yield f"it is trained by flow matching ({name}) and one that predicts noise or a velocity is wanted"
    elif "beta_start" not in scheduler and scheduler.get("trained_betas") is None:
        yield f"its {name} has no betas and a noise schedule with betas is wanted"
    elif (prediction := scheduler.get("prediction_type", "epsilon")) not in _PREDICTIONS:
        yield f"its prediction type is {prediction!r} and {' or '.join(_PREDICTIONS)} is wanted"


def _problem_of_class(part: str, config: Config) -> Iterator[str]:
    found, wanted = config.get("_class_name", _CLASSES[part]), _CLASSES[part]
    if found != wanted:
        yield f"its {part} is {found} and {wanted} is wanted"
