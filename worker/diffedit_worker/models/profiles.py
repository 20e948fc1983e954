"""Profiles: named sets of models, each with its parameter defaults. This module does not import torch."""

import hashlib
import re
import shutil
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from diffedit.contract.presets import DEFAULT, GUIDE, preset_params
from diffedit.contract.request import EditParams
from diffedit.contract.validation import Frozen, ProfileName, explain
from diffedit.errors import InvalidRequest, UnknownProfile

BUILT_IN = Path(__file__).with_name("profiles.toml")
SAMPLES = Path(__file__).with_name("tiny") / "samples"
"""Pictures that the bundled model can edit."""

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_CHUNK = 1 << 20
_CHUNKS = 64


class ModelSource(Frozen):
    """Where a model is loaded from: a Hub id at a revision, or a directory."""

    id: str
    revision: str | None = None

    @field_validator("id")
    @classmethod
    def _make_absolute(cls, value: str, info: ValidationInfo) -> str:
        # Decided by the text and not by the files on the disk, so that every worker reads a profile in the same way.
        if value.startswith((".", "/", "~")):
            base = (info.context or {}).get("base", Path.cwd())
            return str((base / Path(value).expanduser()).resolve())
        if not _HUB_ID.fullmatch(value):
            raise ValueError("neither a Hub id (owner/name) nor a directory (which starts with ./, / or ~)")
        return value

    @model_validator(mode="after")
    def _check_revision(self) -> Self:
        if self.directory and self.revision:
            raise ValueError("a directory has no revision; its content identifies it")
        return self

    @property
    def directory(self) -> Path | None:
        """The directory, or None for a Hub id."""
        return Path(self.id) if self.id.startswith("/") else None

    @property
    def is_pinned(self) -> bool:
        """Whether the revision is a whole commit hash, whose files never change."""
        return bool(_COMMIT.fullmatch(self.revision or ""))

    def __str__(self) -> str:
        return self.id if self.directory else f"{self.id}@{self.revision or 'main'}"


class Profile(Frozen):
    """A set of models that work together.

    Attributes:
        about: what the models know, for people.
        size: the side in pixels of the square that the diffusion model was trained on.
        cpu_threads: the most threads of torch where the models run on a CPU. A very small model is not faster with
            more threads, and slower when other processes use the same cores.
        cpu_jobs: how many stages a worker runs at once where the models run on a CPU. It pays if a pass of several
            samples takes less time for each of them, as with a very small model.
        params: defaults of `EditParams` that differ from the DiffEdit guide's.
        presets: named sets of such defaults, each with what differs from `params`.
    """

    name: ProfileName
    about: str = Field("", max_length=500)
    size: int = Field(ge=64, le=4096, multiple_of=8)
    cpu_threads: int | None = Field(None, ge=1)
    cpu_jobs: int = Field(1, ge=1, le=64)
    diffusion: ModelSource
    captioner: ModelSource
    prompter: ModelSource
    params: dict[str, Any] = Field(default_factory=dict)
    presets: dict[ProfileName, dict[str, Any]] = Field(default_factory=dict)

    @field_validator("params", mode="before")
    @classmethod
    def _check_params(cls, params: Any) -> Any:
        return _checked("params", params)

    @model_validator(mode="after")
    def _check_presets(self) -> Self:
        for name, params in self.presets.items():
            if name in (GUIDE, DEFAULT):
                raise ValueError(f"presets: {name} is the name of a preset that every profile has")
            _checked(f"presets.{name}", params, self.params)
        return self

    def params_of(self, preset: str) -> dict[str, Any]:
        """Return the parameter defaults of a preset.

        Raises:
            UnknownPreset: the profile has none of this name.
        """
        return preset_params(self.name, preset, self.params, self.presets)


def _checked(name: str, params: Any, others: Mapping[str, Any] | None = None) -> Any:
    """Return a table of parameters that is valid together with others. Raises ValueError, which names the table."""
    if not isinstance(params, dict) or "profile" in params:
        raise ValueError(f"{name}: must be a table of parameters, without profile")
    try:
        EditParams.model_validate({**(others or {}), **params, "profile": "any"})
    except ValidationError as error:
        raise ValueError(f"{name}: {explain(error, EditParams.model_fields)}") from None
    return params


def load_profiles(extra: Path | None = None) -> dict[str, Profile]:
    """Return the built-in profiles and those of the TOML file `extra`, which replace built-in ones of the same name.

    Raises:
        InvalidRequest: the file cannot be read, or a profile in it is not valid; the message names file and field.
    """
    profiles = _read(BUILT_IN)
    return {**profiles, **_read(extra)} if extra else profiles


def profile_named(profiles: dict[str, Profile], name: str) -> Profile:
    """Return the profile of this name.

    Raises:
        UnknownProfile: there is none; the message lists the known names.
    """
    if name not in profiles:
        raise UnknownProfile(
            f"no profile {name!r} on this worker; known: {', '.join(sorted(profiles))} (DIFFEDIT_PROFILES adds more)"
        )
    return profiles[name]


def default_profile() -> str:
    """Return the profile of a worker without a setting: "sd21" on a machine with an NVIDIA GPU, else "tiny"."""
    return "sd21" if Path("/dev/nvidia0").exists() or shutil.which("nvidia-smi") else "tiny"


def fingerprint(directory: Path) -> str:
    """Return 16 hex digits that identify the content of a directory: the names, sizes and bytes of its files.

    Of a file over 64 MB only 64 evenly spaced megabytes are read; training changes weights in all parts of a file.
    Hidden files are ignored, because download tools keep timestamps in them.
    """
    digest = hashlib.sha256()
    for path in sorted(path for path in directory.rglob("*") if path.is_file()):
        name = path.relative_to(directory)
        if any(part.startswith(".") for part in name.parts):
            continue
        size = path.stat().st_size
        digest.update(f"{name.as_posix()}\0{size}\0".encode())
        with path.open("rb") as file:
            for offset in range(0, size, max(_CHUNK, size // _CHUNKS)):
                file.seek(offset)
                digest.update(file.read(_CHUNK))
    return digest.hexdigest()[:16]


def _read(path: Path) -> dict[str, Profile]:
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidRequest(f"{path}: cannot be read ({error.strerror}); check DIFFEDIT_PROFILES") from error
    except ValueError as error:
        raise InvalidRequest(f"{path}: not TOML: {error}") from error
    return {name: _profile(name, table, path) for name, table in tables.items()}


def _profile(name: str, table: object, path: Path) -> Profile:
    if not isinstance(table, dict):
        raise InvalidRequest(f"{path}: {name} must be a table: [{name}]")
    try:
        return Profile.model_validate({**table, "name": name}, context={"base": path.resolve().parent})
    except ValidationError as error:
        known = Profile.model_fields.keys() | ModelSource.model_fields.keys()
        raise InvalidRequest(f"{path}: [{name}] {explain(error, known)}") from error
