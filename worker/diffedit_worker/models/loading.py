"""The models of one profile: loaded on first use, with everything that the stages need to know about them.

Each component is loaded by its own `from_pretrained`. The pipeline class of diffusers that holds them together is
deprecated.
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
from diffusers import AutoencoderKL, DDIMInverseScheduler, DDIMScheduler, UNet2DConditionModel
from diffusers.utils import logging as diffusers_logging
from transformers import (
    AutoTokenizer,
    BlipForConditionalGeneration,
    # The class without "Pil" needs torchvision; without torchvision it warns and uses this one.
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
from diffedit_worker.models.devices import resolve_device, resolve_dtype, resolve_memory_format
from diffedit_worker.models.latent_cache import LatentCache
from diffedit_worker.models.profiles import ModelSource, Profile, fingerprint

log = logging.getLogger(__name__)

Component = Literal["captioner", "prompter", "diffusion"]
T = TypeVar("T")

NEEDED: dict[ModelGroup, dict[str, Component]] = {
    ModelGroup.LANGUAGE: {"captioner": "captioner", "prompter": "prompter", "text_encoder": "diffusion"},
    ModelGroup.DIFFUSION: {"unet": "diffusion", "vae": "diffusion", "_scheduler_config": "diffusion"},
}
"""For each model group, the attributes of `Models` that its stages use, and the component that each is part of."""

_LOADING = threading.RLock()
"""One load at a time: while it runs, `from_pretrained` changes torch's default dtype for the whole process."""

_DDIM = {"clip_sample": False, "thresholding": False, "timestep_spacing": "leading", "set_alpha_to_one": False}
"""Settings of both DDIM schedulers, so that inversion and edit use the same noise levels."""


def disable_progress_bars() -> None:
    """Turn off the progress bars of diffusers and transformers, unless a person reads them in a terminal."""
    if not sys.stderr.isatty():
        transformers_logging.disable_progress_bar()
        diffusers_logging.disable_progress_bar()


def loaded_once(load: Callable[[Any], T]) -> "cached_property[T]":
    """Make a method a cached property that is computed once, also when several threads ask for it at the same time."""

    @wraps(load)
    def guarded(self: Any) -> T:
        with _LOADING:
            if load.__name__ not in self.__dict__:
                self.__dict__[load.__name__] = load(self)
            value: T = self.__dict__[load.__name__]
            return value

    return cached_property(guarded)


class Models:
    """The models of a profile on one device. Each is loaded on first use, or raises ModelUnavailable.

    Threads may share it.
    """

    def __init__(self, profile: Profile, device: str | None = None) -> None:
        self.profile = profile
        self.device = resolve_device(device)
        self.dtype = resolve_dtype(self.device)
        self.latent_cache = LatentCache()
        self._max_batch = 8
        self._max_batch_lock = threading.Lock()
        self._fingerprints: dict[Component, str] = {}

    @property
    def size(self) -> int:
        """The side of the square that the diffusion model was trained on, in pixels."""
        return self.profile.size

    @property
    def vae_scale_factor(self) -> int:
        """The side of a latent cell, in pixels."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    @property
    def max_batch(self) -> int:
        """The most samples in one forward pass of the UNet."""
        return self._max_batch

    def make_room(self) -> None:
        """Free unused memory and halve `max_batch` for good. To be called after an out-of-memory error."""
        with self._max_batch_lock:
            self._max_batch = max(2, self._max_batch // 2)
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def prove(self) -> None: ...

    def load(self, group: ModelGroup) -> None:
        """Load all models of a group now.

        Raises:
            ModelUnavailable: one of the models cannot be loaded; the message names it and says what to do.
        """
        for attribute, component in NEEDED[group].items():
            log.info("loading the %s (%s)", attribute.strip("_").replace("_", " "), self.name(component))
            self.identity(component)
            getattr(self, attribute)

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
        return tokenizer, self._placed(model)

    @loaded_once
    def unet(self) -> Any:
        return self._placed(self._diffusers(UNet2DConditionModel, "unet"))

    @loaded_once
    def vae(self) -> Any:
        vae = self._diffusers(AutoencoderKL, "vae")
        vae.enable_slicing()
        return self._placed(vae)

    def scheduler(self, name: str) -> Any:
        """Return a new scheduler that goes from noise to the picture. `name` is "ddim" or "dpmsolver++"."""
        ddim = DDIMScheduler.from_config(self._scheduler_config, **_DDIM)
        return ddim if name == "ddim" else DPMSolverPlusPlus(ddim)

    def inverse_scheduler(self, name: str) -> Any:
        """Return a new scheduler that goes from the picture to noise, over the noise levels of `scheduler(name)`."""
        if name == "ddim":
            return DDIMInverseScheduler.from_config(self._scheduler_config, **_DDIM)
        return DPMSolverPlusPlus(self.scheduler("ddim"), inverse=True)

    def identity(self, component: Component) -> str:
        """Return what the results of a component depend on: "id@revision/dtype", for "diffusion" with "/size".

        It is part of the cache keys. It is the same on every worker, and no weights are loaded for it. A directory is
        identified by its content, not by its path.

        Raises:
            ModelUnavailable: the directory does not exist.
        """
        source: ModelSource = getattr(self.profile, component)
        if source.directory and component not in self._fingerprints:
            _must_exist(source)
            self._fingerprints[component] = fingerprint(source.directory)
        name = f"local@{self._fingerprints[component]}" if source.directory else str(source)
        dtype = str(self.dtype).removeprefix("torch.")
        return f"{name}/{dtype}/{self.size}" if component == "diffusion" else f"{name}/{dtype}"

    def name(self, component: Component) -> str:
        """Return the name of a component for people: its Hub id, or the last part of a directory's path."""
        source: ModelSource = getattr(self.profile, component)
        return source.directory.name if source.directory else str(source)

    @loaded_once
    def _scheduler_config(self) -> Any:
        config = self._pretrained(DDIMScheduler, self.profile.diffusion, subfolder="scheduler").config
        # Stable Diffusion 1.5 has the configuration of a PNDM scheduler; diffusers warns of each entry unknown to DDIM.
        known = {"_class_name", *inspect.signature(DDIMScheduler.__init__).parameters}
        return {key: value for key, value in config.items() if key in known}

    def _diffusers(self, kind: Any, subfolder: str) -> Any:
        model = self._weights(
            kind, self.profile.diffusion, subfolder=subfolder, torch_dtype=self.dtype, use_safetensors=True
        )
        return model.to(memory_format=resolve_memory_format(self.device))

    def _weights(self, kind: Any, source: ModelSource, **options: Any) -> Any:
        model, info = self._pretrained(kind, source, output_loading_info=True, **options)
        # If weights are missing, both libraries only warn and use random numbers.
        if info["missing_keys"]:
            raise _unavailable(source, f"{len(info['missing_keys'])} weights of {kind.__name__} are not in it")
        return model

    def _tokenizer(self, kind: Any, source: ModelSource, model: Any, **options: Any) -> Any:
        tokenizer = self._pretrained(kind, source, **options)
        # A tokenizer without its vocabulary file loads without an error and knows only a few special tokens.
        rows = model.get_input_embeddings().num_embeddings
        if not rows // 2 < len(tokenizer) <= rows:
            raise _unavailable(source, f"its tokenizer has {len(tokenizer)} tokens and its model {rows}")
        return tokenizer

    def _pretrained(self, kind: Any, source: ModelSource, **options: Any) -> Any:
        _must_exist(source)
        options |= {"local_files_only": True} if source.directory else {"revision": source.revision or "main"}
        try:
            return kind.from_pretrained(source.id, **options)
        # With a foreign or damaged checkpoint these loaders may raise anything, AttributeError included.
        except Exception as error:
            log.debug("loading %s from %s", kind.__name__, source, exc_info=True)
            raise _unavailable(source, f"{kind.__name__}: {_first_line(error)}") from error

    def _placed(self, model: Any) -> Any:
        return model.eval().requires_grad_(False).to(self.device)


def _must_exist(source: ModelSource) -> None:
    # The libraries would treat the path as a Hub id and complain about its slashes.
    if source.directory and not source.directory.is_dir():
        raise _unavailable(source, "no such directory")


def _unavailable(source: ModelSource, reason: str) -> ModelUnavailable:
    if source.directory:
        advice = "check that this directory holds the whole model"
    else:
        revision = source.revision or "main"
        advice = (
            f"download it once with `hf download {source.id} --revision {revision}` (HF_TOKEN if it needs a login), "
            "or write a profile with a local directory (DIFFEDIT_PROFILES)"
        )
    return ModelUnavailable(f"{source} cannot be loaded ({reason}); {advice}")


def _first_line(error: Exception) -> str:
    """Return the first line of an error's message, without possible secrets: tokens, and the query of a signed URL."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return re.sub(r"hf_\w+|(?<=\S)\?\S+=\S*", "[...]", line)[:300]
