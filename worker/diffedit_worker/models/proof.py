"""A small forward of each model, which shows that it works on this device in this number type.

Each takes about as long as one step of a stage. A part that fails names itself in the error.
"""

from collections.abc import Callable
from typing import Any

import torch
from diffusers.image_processor import VaeImageProcessor
from PIL import Image
from transformers import LogitsProcessorList

from diffedit.errors import ModelUnavailable, StageError
from diffedit_worker.diffusion import diffedit
from diffedit_worker.models.finite import FiniteScores, require_finite
from diffedit_worker.models.hub import first_line
from diffedit_worker.models.text_encoding import encode_windows

_GREY = Image.new("RGB", (64, 64), (127, 127, 127))
_TOKENS = 2


def prove(name: str, model: Any) -> None:
    """Run a part of `Models` once: what its attribute `name` holds. A part without a proof passes.

    Raises:
        NotFinite: it returned values that are not finite.
        ModelUnavailable: it raised an error. The error of a device is its cause.
        torch.OutOfMemoryError: the memory is too small.
    """
    if name not in _PROOFS:
        return
    try:
        with torch.no_grad():
            _PROOFS[name](model)
    except (StageError, torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:
        raise ModelUnavailable(
            f"the {name.replace('_', ' ')} was loaded and does not work ({type(error).__name__}: {first_line(error)}); "
            "check the device and the model's configuration"
        ) from error


def _prove_captioner(captioner: tuple[Any, Any]) -> None:
    processor, model = captioner
    inputs = processor(images=_GREY, text="a", return_tensors="pt").to(model.device, model.dtype)
    _generate("captioner", model, **inputs)


def _prove_prompter(prompter: tuple[Any, Any]) -> None:
    tokenizer, model = prompter
    _generate("prompter", model, **tokenizer("a", return_tensors="pt").to(model.device))


def _generate(name: str, model: Any, **inputs: Any) -> None:
    scores = LogitsProcessorList([FiniteScores(name, model)])
    model.generate(**inputs, max_new_tokens=_TOKENS, do_sample=False, logits_processor=scores)


def _prove_text_encoder(text_encoder: tuple[Any, Any]) -> None:
    encode_windows(*text_encoder, [[]])


def _prove_unet(unet: Any) -> None:
    # The smallest side that leaves two cells at the lowest level.
    side = 2 ** len(unet.config.block_out_channels)
    latents, text = (
        torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(unet.device, unet.dtype)
        for shape in ((1, unet.config.in_channels, side, side), (1, 77, unet.config.cross_attention_dim))
    )
    require_finite(unet(latents, 1, encoder_hidden_states=text, return_dict=False)[0], "UNet", unet)


def _prove_vae(vae: Any) -> None:
    pixels = VaeImageProcessor(do_resize=False).preprocess(_GREY).to(vae.device, vae.dtype)
    latents = require_finite(diffedit.encode(vae, pixels), "VAE", vae)
    require_finite(diffedit.decode(vae, latents), "VAE", vae)


_PROOFS: dict[str, Callable[[Any], None]] = {
    "captioner": _prove_captioner,
    "prompter": _prove_prompter,
    "text_encoder": _prove_text_encoder,
    "unet": _prove_unet,
    "vae": _prove_vae,
}
