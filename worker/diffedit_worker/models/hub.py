"""Where the files of a model lie: in a directory, or in the cache of the Hugging Face Hub.

The loaders of diffusers and transformers ask the Hub for each optional file that a repository does not have, and retry
for 23 seconds when they cannot reach it. So the files are downloaded here, all at once and only those that are needed,
and every model is loaded from a directory.
"""

import logging
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, TypeVar

from huggingface_hub import snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError

from diffedit.errors import ModelUnavailable
from diffedit_worker.models.profiles import ModelSource

log = logging.getLogger(__name__)

Component = Literal["captioner", "prompter", "diffusion"]
"""A model of a profile."""
Part = Literal["captioner", "prompter", "text_encoder", "unet", "vae", "scheduler_config", "text_shape"]
"""What is loaded by itself: a component, or a part of the diffusion model."""
T = TypeVar("T")

_LANGUAGE_MODEL = ("*.json", "*.txt", "spiece.model", "model.safetensors", "model-*.safetensors")
_PICKLED = ("pytorch_model.bin", "pytorch_model-*.bin")

# The variants (`.fp16.`, `.non_ema.`) and the single-file checkpoints match no pattern.
FILES: dict[Part, tuple[str, ...]] = {
    "captioner": _LANGUAGE_MODEL,
    "prompter": _LANGUAGE_MODEL,
    "text_encoder": ("*.json", "tokenizer/*", "text_encoder/model.safetensors", "text_encoder/model-*.safetensors"),
    "unet": ("*.json", "unet/*_model.safetensors", "unet/*_model-*.safetensors"),
    "vae": ("*.json", "vae/*_model.safetensors", "vae/*_model-*.safetensors"),
    "scheduler_config": ("*.json",),
    "text_shape": ("*.json",),
}
"""The files of a repository that a part needs, as patterns. Of 31 GB of Stable Diffusion 2.1, they are 5.2 GB."""

_ADVISED: dict[Component, tuple[str, ...]] = {
    # BLIP base has no safetensors. Flan-T5 has both forms, and both would be 6.2 GB.
    "captioner": (*FILES["captioner"], *_PICKLED),
    "prompter": FILES["prompter"],
    "diffusion": tuple(dict.fromkeys(FILES["text_encoder"] + FILES["unet"] + FILES["vae"])),
}


def load_from_files(source: ModelSource, part: Part, load: Callable[[Path], T]) -> T:
    """Return what `load` makes of the directory that holds the part's files. They are downloaded if they are missing.

    The files of a pinned commit cannot change, so the Hub is asked only if they are not all there. Without a commit, it
    is asked for the newest one. If it cannot be reached, what is in the cache is loaded.

    Raises:
        ModelUnavailable: there are no such files, they cannot be downloaded, or `load` raised it.
    """
    if source.directory:
        must_exist(source)
        return load(source.directory)
    problem: ModelUnavailable | None = None
    cached, complete = _cached_snapshot(source, part)
    if cached and complete and source.is_pinned:
        try:
            return load(cached)
        except ModelUnavailable as error:
            problem = error
    try:
        directory = _download(source, part)
    # The Hub's client raises errors of its own, of httpx and of the operating system.
    except Exception as error:
        log.debug("downloading %s", source, exc_info=True)
        if problem or not cached:
            raise problem or unavailable(source, part, f"the Hub: {first_line(error)}") from error
        log.warning("loading %s from what is in the cache, because the Hub: %s", source, first_line(error))
        directory = cached
    return load(directory)


def must_exist(source: ModelSource) -> None:
    """Raise ModelUnavailable if the source is a directory that does not exist."""
    if source.directory and not source.directory.is_dir():
        raise ModelUnavailable(
            f"{source} cannot be loaded (no such directory); check that this directory holds the whole model"
        )


def unavailable(source: ModelSource, part: Part, reason: str) -> ModelUnavailable:
    """Return the error for a part that cannot be loaded, with advice how to get its files."""
    if source.directory:
        advice = "check that this directory holds the whole model"
    else:
        component = component_of(part)
        included = " ".join(f"--include '{pattern}'" for pattern in _ADVISED[component])
        command = f"hf download {source.id} --revision {source.revision or 'main'} {included}"
        advice = (
            f"download it once with `{command}` (HF_TOKEN if it needs a login), or write a profile with a local "
            "directory (DIFFEDIT_PROFILES)"
        )
    return ModelUnavailable(f"{source} cannot be loaded ({reason}); {advice}")


def component_of(part: Part) -> Component:
    """Return the component of a profile that a part belongs to."""
    return part if part == "captioner" or part == "prompter" else "diffusion"


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, without possible secrets: tokens, and the query of a signed URL."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return re.sub(r"hf_\w+|(?<=\S)\?\S+=\S*", "[...]", line)[:300]


def _cached_snapshot(source: ModelSource, part: Part) -> tuple[Path | None, bool]:
    """Return the directory of the commit in the cache, if there is one, and whether no file is known to be missing."""
    try:
        return Path(_snapshot(source, FILES[part], local_files_only=True)), True
    except LocalEntryNotFoundError as error:
        # Newer versions of the Hub's client keep the list of a commit's files.
        partial = getattr(error, "snapshot_path", None)
        return Path(partial) if partial else None, False


def _download(source: ModelSource, part: Part) -> Path:
    started_at = time.perf_counter()
    log.info("looking for the files of the %s (%s) on the Hub", part.replace("_", " "), source)
    directory = Path(_snapshot(source, FILES[part]))
    if FILES[part] is _LANGUAGE_MODEL and not any(directory.glob("model*.safetensors")):
        _snapshot(source, _PICKLED)
    log.info("the files of %s are there after %.1f s", source, time.perf_counter() - started_at)
    return directory


def _snapshot(source: ModelSource, patterns: Sequence[str], *, local_files_only: bool = False) -> str:
    return snapshot_download(
        source.id,
        revision=source.revision or "main",
        allow_patterns=list(patterns),
        local_files_only=local_files_only,
    )
