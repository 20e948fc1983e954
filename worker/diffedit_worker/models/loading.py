"""The models of one profile: loaded on first use, with everything that the stages need to know about them.

Each component is loaded by its own `from_pretrained`. The pipeline class of diffusers that holds them together is
deprecated.
"""

import logging
import threading
import time
from collections.abc import Callable
from functools import cached_property, wraps
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
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

from diffedit.contract.stages import ModelGroup
from diffedit_worker.diffusion.batching import PassCounts, SharedDenoiser
from diffedit_worker.diffusion.denoiser import Denoiser, UNetDenoiser
from diffedit_worker.models.checkpoints import Checkpoint
from diffedit_worker.models.compatibility import check_diffusion_model, check_language_model, text_shape, trained_size
from diffedit_worker.models.device_memory import DeviceMemory
from diffedit_worker.models.devices import resolve_device, resolve_dtype, resolve_memory_format
from diffedit_worker.models.hub import Component, Part, component_of, load_from_files, must_exist
from diffedit_worker.models.latent_cache import LatentCache
from diffedit_worker.models.loading_clock import LoadingClock
from diffedit_worker.models.profiles import ModelSource, Profile, fingerprint
from diffedit_worker.models.proof import prove
from diffedit_worker.models.schedulers import ddim_config, new_inverse_scheduler, new_scheduler

log = logging.getLogger(__name__)

T = TypeVar("T")

NEEDED: dict[ModelGroup, tuple[Part, ...]] = {
    ModelGroup.LANGUAGE: ("captioner", "prompter", "text_encoder", "text_shape"),
    # The scheduler first: its files are the configurations, by which a model is refused before weights are downloaded.
    ModelGroup.DIFFUSION: ("scheduler_config", "text_shape", "unet", "vae"),
}
"""The parts that the stages of each model group use. Each is an attribute of `Models`."""
CONFIGURATIONS: frozenset[Part] = frozenset({"scheduler_config", "text_shape"})
"""The parts without weights."""

_LOADING = threading.RLock()
"""One load at a time: while it runs, `from_pretrained` changes torch's default dtype for the whole process."""


def loaded_once(load: Callable[[Any, Checkpoint], T]) -> "cached_property[T]":
    """Make a method that loads a part a cached property. It is computed once, also if several threads ask for it."""
    part: Any = load.__name__

    @wraps(load)
    def guarded(self: "Models") -> T:
        with self.loading_clock.running(), _LOADING:
            if part not in self.__dict__:
                self._failed.add(part)
                self.__dict__[part] = self._load(part, load)
                self._failed.remove(part)
            value: T = self.__dict__[part]
            return value

    return cached_property(guarded)


class Models:
    """The models of a profile on one device. Each part is loaded and proved on first use.

    An attribute raises ModelUnavailable if its part cannot be loaded or does not work, and NotFinite if it returns
    values that are not finite. Threads may share an instance.

    Args:
        device: as in `resolve_device`.
        dtype: "float32", "float16" or "bfloat16"; None for the default of the device.
        vae_dtype: the number type of the VAE.
        batch_jobs: how many jobs use them at the same time. If there are several, they share passes of the UNet.
        on_loaded: called with the name of a model, such as "unet", and the seconds in which it was loaded and proved.
    """

    def __init__(
        self,
        profile: Profile,
        device: str | None = None,
        dtype: str | None = None,
        vae_dtype: str = "float32",
        batch_jobs: int = 1,
        on_loaded: Callable[[str, float], object] = lambda model, seconds: None,
    ) -> None:
        self.profile = profile
        self._on_loaded = on_loaded
        self.device = resolve_device(device)
        self.dtype = resolve_dtype(self.device, dtype)
        self.vae_dtype = resolve_dtype(self.device, vae_dtype)
        self.batch_jobs = batch_jobs
        self.latent_cache = LatentCache(batch_jobs)
        self.loading_clock = LoadingClock()
        self.memory = DeviceMemory(self.device)
        self._denoiser: Denoiser | None = None
        self._denoiser_lock = threading.Lock()
        self._fingerprints: dict[Component, str] = {}
        self._failed: set[Part] = set()

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
        """The most samples of one job in one forward pass of the UNet."""
        return self.memory.max_batch

    def load(self, group: ModelGroup) -> None:
        """Load all models of a group now. Each runs once, as in `prove`.

        Raises:
            ModelUnavailable: one of the models cannot be loaded or does not work; the message says what to do.
            NotFinite: one of the models returned values that are not finite.
        """
        for part in NEEDED[group]:
            self.identity(component_of(part))
            getattr(self, part)

    def prove(self) -> None:
        """Run each model that is loaded once, on a small input. Load those again that could not be loaded.

        Raises:
            ModelUnavailable: one of the models does not work; the message names it.
            NotFinite: one of the models returned values that are not finite.
        """
        for parts in NEEDED.values():
            for part in parts:
                if part in self.__dict__:
                    prove(part, self.__dict__[part])
                elif part in self._failed:
                    getattr(self, part)

    @loaded_once
    def captioner(self, checkpoint: Checkpoint) -> tuple[Any, Any]:
        """BLIP: (processor, model)."""
        check_language_model(checkpoint.source, checkpoint.directory, "blip")
        model = checkpoint.weights(BlipForConditionalGeneration, dtype=self.dtype)
        image_processor = checkpoint.pretrained(BlipImageProcessorPil)
        processor = BlipProcessor(image_processor, checkpoint.tokenizer(AutoTokenizer, model))
        return processor, self._placed(model)

    @loaded_once
    def prompter(self, checkpoint: Checkpoint) -> tuple[Any, Any]:
        """Flan-T5: (tokenizer, model)."""
        check_language_model(checkpoint.source, checkpoint.directory, "t5", "mt5")
        model = checkpoint.weights(T5ForConditionalGeneration, dtype=self.dtype)
        return checkpoint.tokenizer(AutoTokenizer, model), self._placed(model)

    @loaded_once
    def text_encoder(self, checkpoint: Checkpoint) -> tuple[Any, Any]:
        """The diffusion model's CLIP text encoder: (tokenizer, model)."""
        self._check_diffusion_model(checkpoint)
        options = {"subfolder": "text_encoder", "dtype": self.dtype, "use_safetensors": True}
        model = checkpoint.weights(CLIPTextModel, **options)
        return checkpoint.tokenizer(CLIPTokenizer, model, subfolder="tokenizer"), self._placed(model)

    @loaded_once
    def unet(self, checkpoint: Checkpoint) -> Any:
        self._check_diffusion_model(checkpoint)
        trained, source = trained_size(checkpoint.directory), checkpoint.source
        if trained not in (None, self.size):
            log.warning("%s was trained at %s pixels, and the profile's size is %s", source, trained, self.size)
        return self._placed(self._diffusers(checkpoint, UNet2DConditionModel, self.dtype))

    @loaded_once
    def vae(self, checkpoint: Checkpoint) -> Any:
        self._check_diffusion_model(checkpoint)
        vae = self._diffusers(checkpoint, AutoencoderKL, self.vae_dtype)
        vae.enable_slicing()
        return self._placed(vae)

    @property
    def denoiser(self) -> Denoiser:
        """The UNet as the algorithm calls it. It is one object, whichever thread asks."""
        unet = self.unet
        with self._denoiser_lock:
            if self._denoiser is None:
                self._denoiser = UNetDenoiser(unet)
                if self.batch_jobs > 1:
                    # Room for a guided step of each job, or for one mask beside them.
                    self._denoiser = SharedDenoiser(self._denoiser, 2 * self.batch_jobs + self.max_batch)
            return self._denoiser

    @property
    def pass_counts(self) -> PassCounts | None:
        """What went through the UNet so far, if jobs share its passes."""
        return self._denoiser.counts if isinstance(self._denoiser, SharedDenoiser) else None

    def scheduler(self, name: str) -> Any:
        """Return a new scheduler that goes from noise to the picture. `name` is "ddim" or "dpmsolver++"."""
        return new_scheduler(self.scheduler_config, name)

    def inverse_scheduler(self, name: str) -> Any:
        """Return a new scheduler that goes from the picture to noise, over the noise levels of `scheduler(name)`."""
        return new_inverse_scheduler(self.scheduler_config, name)

    def identity(self, component: Component, group: ModelGroup = ModelGroup.DIFFUSION) -> str:
        """Return what the results of a component depend on: "id@revision/dtype", for "diffusion" with "/size".

        If the VAE has another number type, "/vae-dtype" follows in the group whose stages use the VAE. The identity is
        part of the cache keys. It is the same on every worker with the same settings, and no weights are loaded for it.
        A directory is identified by its content, not by its path.

        Raises:
            ModelUnavailable: the directory does not exist.
        """
        source: ModelSource = getattr(self.profile, component)
        if source.directory and component not in self._fingerprints:
            must_exist(source)
            self._fingerprints[component] = fingerprint(source.directory)
        identity = f"local@{self._fingerprints[component]}" if source.directory else str(source)
        identity += f"/{_name(self.dtype)}"
        if component == "diffusion":
            identity += f"/{self.size}"
            if self.vae_dtype is not self.dtype and "vae" in NEEDED[group]:
                identity += f"/vae-{_name(self.vae_dtype)}"
        return identity

    def name(self, component: Component) -> str:
        """Return the name of a component for people: its Hub id, or the last part of a directory's path."""
        source: ModelSource = getattr(self.profile, component)
        return source.directory.name if source.directory else str(source)

    @loaded_once
    def scheduler_config(self, checkpoint: Checkpoint) -> dict[str, Any]:
        """The noise schedule, as the configuration of a DDIM scheduler."""
        self._check_diffusion_model(checkpoint)
        return ddim_config(checkpoint.pretrained(DDIMScheduler, subfolder="scheduler").config)

    @loaded_once
    def text_shape(self, checkpoint: Checkpoint) -> tuple[int | None, int | None]:
        """The tokens and the width of a text embedding (`compatibility.text_shape`). No weights are loaded."""
        return text_shape(checkpoint.directory)

    def _load(self, part: Part, load: Callable[["Models", Checkpoint], T]) -> T:
        component, spoken, started_at = component_of(part), part.replace("_", " "), time.perf_counter()
        source: ModelSource = getattr(self.profile, component)
        log.info("loading the %s (%s)", spoken, self.name(component))

        def load_from(directory: Path) -> T:
            return load(self, Checkpoint(source, part, directory))

        value = load_from_files(source, part, load_from)
        prove(part, value)
        seconds = time.perf_counter() - started_at
        log.info("loaded the %s in %.1f s", spoken, seconds)
        if part not in CONFIGURATIONS:
            self._on_loaded(part, seconds)
        return value

    def _check_diffusion_model(self, checkpoint: Checkpoint) -> None:
        check_diffusion_model(checkpoint.source, checkpoint.directory, self.size)

    def _diffusers(self, checkpoint: Checkpoint, kind: Any, dtype: torch.dtype) -> Any:
        model = checkpoint.weights(kind, subfolder=checkpoint.part, torch_dtype=dtype, use_safetensors=True)
        return model.to(memory_format=resolve_memory_format(self.device))

    def _placed(self, model: Any) -> Any:
        return model.eval().requires_grad_(False).to(self.device)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
