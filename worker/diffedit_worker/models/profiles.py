"""Profiles: which models a worker runs, under one name. No torch here, so that anybody may ask."""

import hashlib
import re
import shutil
import tomllib
from pathlib import Path
from typing import Self

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from diffedit.contract.validation import Frozen, ProfileName, explain
from diffedit.errors import InvalidRequest, UnknownProfile

BUILT_IN = Path(__file__).with_name("profiles.toml")
SAMPLES = Path(__file__).with_name("tiny") / "samples"
"""Pictures that the bundled model can edit."""

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
_CHUNK = 1 << 20
_CHUNKS = 64


class ModelSource(Frozen):
    """Where a model comes from: a Hub id at a revision, or a directory."""

    id: str
    revision: str | None = None

    @field_validator("id")
    @classmethod
    def _absolute(cls, value: str, info: ValidationInfo) -> str:
        # By its look and not by what lies on the disk, so that every worker reads a profile alike.
        if value.startswith((".", "/", "~")):
            base = (info.context or {}).get("base", Path.cwd())
            return str((base / Path(value).expanduser()).resolve())
        if not _HUB_ID.fullmatch(value):
            raise ValueError("neither a Hub id (owner/name) nor a directory (start it with ./, / or ~)")
        return value

    @model_validator(mode="after")
    def _revision_is_of_the_hub(self) -> Self:
        if self.directory and self.revision:
            raise ValueError("a directory has no revision; its content identifies it")
        return self

    @property
    def directory(self) -> Path | None:
        """The directory, or None for a Hub id."""
        return Path(self.id) if self.id.startswith("/") else None

    def __str__(self) -> str:
        return self.id if self.directory else f"{self.id}@{self.revision or 'main'}"


class Profile(Frozen):
    """The models that work together.

    `size` is the side in pixels of the square that the diffusion model was trained on. `cpu_threads` bounds torch's
    threads where the models run on a CPU; a very small model gains nothing from more, and waits for all of them
    whenever the machine has other work.
    """

    name: ProfileName
    size: int = Field(ge=64, le=4096, multiple_of=8)
    cpu_threads: int | None = Field(None, ge=1)
    diffusion: ModelSource
    captioner: ModelSource
    prompter: ModelSource


def load_profiles(extra: Path | None = None) -> dict[str, Profile]:
    """The built-in profiles and those of the TOML file `extra`, whose own win where names agree.

    Raises:
        InvalidRequest: the file cannot be read, or a profile in it is not well-formed; names the file and the field.
    """
    profiles = _read(BUILT_IN)
    return {**profiles, **_read(extra)} if extra else profiles


def profile_named(profiles: dict[str, Profile], name: str) -> Profile:
    """The profile of that name.

    Raises:
        UnknownProfile: there is none; names those that there are.
    """
    if name not in profiles:
        raise UnknownProfile(
            f"no profile {name!r} on this worker; there are {', '.join(sorted(profiles))} (DIFFEDIT_PROFILES adds more)"
        )
    return profiles[name]


def default_profile() -> str:
    """What a worker serves if nobody says: "sd21" where there is an NVIDIA GPU, else the bundled "tiny"."""
    return "sd21" if Path("/dev/nvidia0").exists() or shutil.which("nvidia-smi") else "tiny"


def fingerprint(directory: Path) -> str:
    """16 hex digits that identify a directory's content, wherever it lies: of names, sizes and bytes.

    Of files over 64 MB only 64 evenly spaced megabytes are read: training touches weights all over a file. Hidden
    files are left out, since download tools keep timestamps there.
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
        raise InvalidRequest(f"{path}: cannot be read ({error.strerror}); DIFFEDIT_PROFILES names it") from error
    except ValueError as error:
        raise InvalidRequest(f"{path}: not TOML: {error}") from error
    return {name: _profile(name, table, path) for name, table in tables.items()}


def _profile(name: str, table: object, path: Path) -> Profile:
    if not isinstance(table, dict):
        raise InvalidRequest(f"{path}: {name} must be a table: [{name}]")
    try:
        return Profile.model_validate({**table, "name": name}, context={"base": path.resolve().parent})
    except ValidationError as error:
        raise InvalidRequest(f"{path}: [{name}] {explain(error)}") from error
