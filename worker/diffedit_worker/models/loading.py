"""The models of one profile, loaded when first asked for, and what the stages need to know about them.

Everything comes through `from_pretrained` of the single components, the bundled model like any other: the pipeline
class that used to hold them together is deprecated.
"""

import gc
import inspect
import logging
import re
import sys
import threading
from collections.abc import Callable
from functools import cached_property, wraps
from typing import Any, Literal, TypeVar

import torch
from accelerate import cpu_offload_with_hook
from diffusers import AutoencoderKL, DDIMInverseScheduler, DDIMScheduler, UNet2DConditionModel
from diffusers.utils import logging as diffusers_logging
from transformers import (
    AutoTokenizer,
    BlipForConditionalGeneration,
    # The class without "Pil" wants torchvision and warns when it falls back to this one.
    BlipImageProcessorPil,
    BlipProcessor,
    CLIPTextModel,
    CLIPTokenizer,
    T5ForConditionalGeneration,
)
from transformers.utils import logging as transformers_logging

from diffedit.contract.stages import ModelGroup
from diffedit.errors import ModelUnavailable
from diffedit_worker.diffusion.solvers import DPMSolverPlusPlus
from diffedit_worker.models.profiles import ModelSource, Profile, fingerprint

log = logging.getLogger(__name__)

Component = Literal["captioner", "prompter", "diffusion"]
T = TypeVar("T")

NEEDED: dict[ModelGroup, dict[str, Component]] = {
    ModelGroup.LANGUAGE: {"captioner": "captioner", "prompter": "prompter", "text_encoder": "diffusion"},
    ModelGroup.DIFFUSION: {"unet": "diffusion", "vae": "diffusion", "_scheduler_config": "diffusion"},
}
"""The attributes of `Models` that the stages of a family use, and the part of the profile that each comes from."""

_LOADING = threading.RLock()
"""`from_pretrained` swaps torch's default dtype for the whole process while it works: one load at a time."""

_DDIM = {"clip_sample": False, "thresholding": False, "timestep_spacing": "leading", "set_alpha_to_one": False}
"""For both directions alike, so that inversion and edit walk the same noise levels."""

if not sys.stderr.isatty():
    transformers_logging.disable_progress_bar()
    diffusers_logging.disable_progress_bar()


def resolve_device(wanted: str | None = None) -> torch.device:
    """The device to compute on: `wanted` ("cuda", "cuda:1", "mps", "cpu"), or the best there is for None and "auto".

    Raises:
        ModelUnavailable: there is no such device here; names those that there are.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    here = [torch.device("cuda", index) for index in range(gpus)]
    here += [torch.device("mps")] if torch.backends.mps.is_available() else []
    here += [torch.device("cpu")]
    if wanted in (None, "", "auto"):
        return here[0]
    kind, _, index = wanted.partition(":")
    for device in here:
        if device.type == kind and (index or "0") == str(device.index or 0):
            return device
    raise ModelUnavailable(
        f"no device {wanted!r} here; set DIFFEDIT_DEVICE to one of {', '.join(map(str, here))}, or to auto"
    )


def resolve_dtype(device: torch.device) -> torch.dtype:
    """float16 on CUDA, else float32.

    A CPU without half-precision units is slower by orders of magnitude in them. On MPS float16 would run, but DDIM
    inversion adds up its rounding errors over the steps and nobody has measured that there; memory is shared, so
    float32 costs less than elsewhere.
    """
    return torch.float16 if device.type == "cuda" else torch.float32


def resolve_memory_format(device: torch.device) -> torch.memory_format:
    """How UNet and VAE lay out the weights of convolutions: channels last on CUDA, as they come elsewhere.

    cuDNN's half-precision kernels work in that layout; what it gains has not been measured. Measured on a CPU, the
    UNet loses up to 9 % at the two samples of a guided step, and what the VAE gains is a thousandth of an edit.
    """
    return torch.channels_last if device.type == "cuda" else torch.preserve_format


def loaded_once(load: Callable[[Any], T]) -> "cached_property[T]":
    """A cached property that threads may race for: a preloading thread and the one that runs stages."""

    @wraps(load)
    def guarded(self: Any) -> T:
        with _LOADING:
            if load.__name__ not in self.__dict__:
                self.__dict__[load.__name__] = load(self)
            value: T = self.__dict__[load.__name__]
            return value

    return cached_property(guarded)


class Models:
    """The models of `profile` on one device. Each loads on first use, or raises ModelUnavailable.

    `max_batch` bounds the samples of one UNet pass; `last_encoded` belongs to `latents.encoded`. `cpu_offload` keeps
    text encoder, UNet and VAE in main memory and moves each to the GPU for its work, for GPUs that do not hold them
    together. CUDA only, without effect elsewhere, and not measured. Captioner and prompter stay on the GPU: the hook
    sits on `forward`, and `generate` goes past it to encoder and decoder.
    """

    def __init__(self, profile: Profile, device: str | None = None, cpu_offload: bool = False) -> None:
        self.profile = profile
        self.max_batch = 8
        self.last_encoded: tuple[str, torch.Tensor] | None = None
        self.device = resolve_device(device)
        self.dtype = resolve_dtype(self.device)
        if self.device.type == "cpu" and profile.cpu_threads:
            torch.set_num_threads(profile.cpu_threads)
        self._offload = cpu_offload and self.device.type == "cuda"
        self._hooks: list[Any] = []
        self._fingerprints: dict[Component, str] = {}

    @property
    def size(self) -> int:
        """The side of the square that the diffusion model was trained on, in pixels."""
        return self.profile.size

    @property
    def vae_scale_factor(self) -> int:
        """How many pixels a side one latent cell covers."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    def load(self, group: ModelGroup) -> None:
        """Load now what the stages of this family would load when they first run.

        Raises:
            ModelUnavailable: one of the models cannot be loaded; names it and says what to do.
        """
        for attribute, part in NEEDED[group].items():
            log.info("loading the %s (%s)", attribute.strip("_").replace("_", " "), self.name(part))
            self.identity(part)
            getattr(self, attribute)

    def make_room(self) -> None:
        """After an out-of-memory error: free what nobody uses, and halve `max_batch` for good."""
        self.max_batch = max(2, self.max_batch // 2)
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    @loaded_once
    def captioner(self) -> tuple[Any, Any]:
        """BLIP: (processor, model)."""
        source = self.profile.captioner
        model = self._weights(BlipForConditionalGeneration, source, dtype=self.dtype)
        image_processor = self._pretrained(BlipImageProcessorPil, source)
        processor = BlipProcessor(image_processor, self._tokenizer(AutoTokenizer, source, model))
        return processor, self._placed(model)

    @loaded_once
    def prompter(self) -> tuple[Any, Any]:
        """Flan-T5: (tokenizer, model)."""
        source = self.profile.prompter
        model = self._weights(T5ForConditionalGeneration, source, dtype=self.dtype)
        return self._tokenizer(AutoTokenizer, source, model), self._placed(model)

    @loaded_once
    def text_encoder(self) -> tuple[Any, Any]:
        """The diffusion model's CLIP text encoder: (tokenizer, model)."""
        source = self.profile.diffusion
        model = self._weights(CLIPTextModel, source, subfolder="text_encoder", dtype=self.dtype, use_safetensors=True)
        tokenizer = self._tokenizer(CLIPTokenizer, source, model, subfolder="tokenizer")
        return tokenizer, self._placed(model, offload=self._offload)

    @loaded_once
    def unet(self) -> Any:
        return self._placed(self._diffusers(UNet2DConditionModel, "unet"), offload=self._offload)

    @loaded_once
    def vae(self) -> Any:
        vae = self._diffusers(AutoencoderKL, "vae")
        vae.enable_slicing()
        return self._placed(vae, offload=self._offload)

    def scheduler(self, name: str) -> Any:
        """A new scheduler that walks down from noise. `name` is "ddim" or "dpmsolver++"."""
        ddim = DDIMScheduler.from_config(self._scheduler_config, **_DDIM)
        return ddim if name == "ddim" else DPMSolverPlusPlus(ddim)

    def inverse_scheduler(self, name: str) -> Any:
        """A new scheduler that walks up to noise, over the same levels as `scheduler(name)`."""
        if name == "ddim":
            return DDIMInverseScheduler.from_config(self._scheduler_config, **_DDIM)
        return DPMSolverPlusPlus(self.scheduler("ddim"), inverse=True)

    def identity(self, part: Component) -> str:
        """What the results of this part depend on, for recipes: "id@revision/dtype", with the size for "diffusion".

        The same on every worker and without loading weights; of a directory its content counts, not its place.

        Raises:
            ModelUnavailable: the directory is not there.
        """
        source: ModelSource = getattr(self.profile, part)
        if source.directory and part not in self._fingerprints:
            _must_exist(source)
            self._fingerprints[part] = fingerprint(source.directory)
        name = f"local@{self._fingerprints[part]}" if source.directory else str(source)
        dtype = str(self.dtype).removeprefix("torch.")
        return f"{name}/{dtype}/{self.size}" if part == "diffusion" else f"{name}/{dtype}"

    def name(self, part: Component) -> str:
        """What this part is called in the profile; of a directory its name alone, for its path is private."""
        source: ModelSource = getattr(self.profile, part)
        return source.directory.name if source.directory else str(source)

    @loaded_once
    def _scheduler_config(self) -> Any:
        config = self._pretrained(DDIMScheduler, self.profile.diffusion, subfolder="scheduler").config
        # Stable Diffusion 1.5 comes with the configuration of a PNDM scheduler, and diffusers warns of each odd entry.
        known = {"_class_name", *inspect.signature(DDIMScheduler.__init__).parameters}
        return {key: value for key, value in config.items() if key in known}

    def _diffusers(self, kind: Any, subfolder: str) -> Any:
        model = self._weights(
            kind, self.profile.diffusion, subfolder=subfolder, torch_dtype=self.dtype, use_safetensors=True
        )
        return model.to(memory_format=resolve_memory_format(self.device))

    def _weights(self, kind: Any, source: ModelSource, **options: Any) -> Any:
        model, info = self._pretrained(kind, source, output_loading_info=True, **options)
        # Both libraries fill up with random numbers what a checkpoint lacks, and only warn.
        if info["missing_keys"]:
            raise _unavailable(source, f"{len(info['missing_keys'])} weights of {kind.__name__} are not in it")
        return model

    def _tokenizer(self, kind: Any, source: ModelSource, model: Any, **options: Any) -> Any:
        tokenizer = self._pretrained(kind, source, **options)
        # Without its vocabulary file a tokenizer loads all the same, with a handful of special tokens.
        rows = model.get_input_embeddings().num_embeddings
        if not rows // 2 < len(tokenizer) <= rows:
            raise _unavailable(source, f"its tokenizer knows {len(tokenizer)} tokens and its model {rows}")
        return tokenizer

    def _pretrained(self, kind: Any, source: ModelSource, **options: Any) -> Any:
        _must_exist(source)
        options |= {"local_files_only": True} if source.directory else {"revision": source.revision or "main"}
        try:
            return kind.from_pretrained(source.id, **options)
        # A foreign or damaged checkpoint breaks these loaders in any way, AttributeError included.
        except Exception as error:
            log.debug("loading %s from %s", kind.__name__, source, exc_info=True)
            raise _unavailable(source, f"{kind.__name__}: {_first_line(error)}") from error

    def _placed(self, model: Any, offload: bool = False) -> Any:
        model = model.eval().requires_grad_(False)
        if not offload:
            return model.to(self.device)
        previous = self._hooks[-1] if self._hooks else None
        model, hook = cpu_offload_with_hook(model, self.device, prev_module_hook=previous)
        self._hooks.append(hook)
        # A ring, since edits go from VAE to UNet and back: each sends its predecessor home.
        if len(self._hooks) > 1:
            self._hooks[0].hook.prev_module_hook = hook
        return model


def _must_exist(source: ModelSource) -> None:
    # The libraries would take the path for a Hub id and complain of its slashes.
    if source.directory and not source.directory.is_dir():
        raise _unavailable(source, "no such directory")


def _unavailable(source: ModelSource, reason: str) -> ModelUnavailable:
    if source.directory:
        advice = "check that this directory holds the whole model"
    else:
        revision = source.revision or "main"
        advice = (
            f"download it once with `hf download {source.id} --revision {revision}` (HF_TOKEN if it asks for a login), "
            "or name a local directory in a profile of your own (DIFFEDIT_PROFILES)"
        )
    return ModelUnavailable(f"{source} cannot be loaded ({reason}); {advice}")


def _first_line(error: Exception) -> str:
    """Of a foreign message, without what may be a secret: tokens, and the query of a signed URL."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return re.sub(r"hf_\w+|(?<=\S)\?\S+=\S*", "[...]", line)[:300]
