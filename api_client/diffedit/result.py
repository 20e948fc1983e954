"""What a finished job has made, fetched when it is asked for."""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image

from diffedit.contract.job import JobStatus
from diffedit.contract.request import Prompts
from diffedit.contract.stages import Artifact
from diffedit.errors import ArtifactError, BadPicture
from diffedit.objects.store import ObjectStore
from diffedit.pictures import read_mask, read_picture, read_result, side_by_side

T = TypeVar("T")


class EditResult:
    """The artifacts of a job that succeeded. Each is downloaded at its first use and kept.

    Using one raises ArtifactError if it is gone or damaged; the job's `retry()` has it made again.
    """

    def __init__(self, status: JobStatus, object_store: ObjectStore) -> None:
        self.status = status
        self._request = status.request
        self._object_store = object_store

    @functools.cached_property
    def original(self) -> Image.Image:
        """The picture that was submitted, upright and in RGB."""
        return read_picture(self._object_store.get(self._request.image)).image

    @functools.cached_property
    def image(self) -> Image.Image:
        """The edited picture, in the original's size; outside of the mask its pixels are the original's."""
        return _decoded("result", self._png, read_result).image

    @functools.cached_property
    def mask(self) -> Image.Image:
        """Where the picture might change, as an "L" image of the original's size: 255 inside, 0 outside."""
        return _decoded("mask", self._object_store.get(self._request.mask or self._key(Artifact.MASK)), read_mask)

    @functools.cached_property
    def caption(self) -> str:
        """The text that describes the original: the user's, or the captioner's."""
        given = self._request.given_caption
        return given or str(_decoded("caption", self._object_store.get(self._key(Artifact.CAPTION)), json.loads))

    @functools.cached_property
    def prompts(self) -> Prompts:
        """The sentences that the edit went from and to: the user's, or the language model's."""
        given = self._request.given_prompts
        return given or _decoded(
            "prompts", self._object_store.get(self._key(Artifact.PROMPTS)), Prompts.model_validate_json
        )

    @functools.cached_property
    def manifest(self) -> dict[str, Any]:
        """Everything that is needed to make this result again; the result PNG carries the same text."""
        key = self._key(Artifact.RESULT).removesuffix("png") + "json"
        manifest: dict[str, Any] = _decoded("manifest", self._object_store.get(key), json.loads)
        return manifest

    def grid(self) -> Image.Image:
        """Original, mask and result side by side."""
        return side_by_side([self.original, self.mask.convert("RGB"), self.image])

    def url(self, expires: int = 3600) -> str:
        """A link to the result (of a mask preview: to the mask) that anyone can open for `expires` seconds from now."""
        return self._object_store.url(self._key(self._request.goal), expires)

    def save(self, directory: str | Path) -> dict[str, Path]:
        """Write result.png, mask.png, grid.png and manifest.json (of a mask preview: mask.png) into `directory`.

        Returns the paths by name. result.png is byte for byte what is stored, so it carries its provenance.
        """
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        paths = {"mask": directory / "mask.png"}
        self.mask.save(paths["mask"])
        if self._request.goal is Artifact.RESULT:
            paths |= {name: directory / f"{name}.png" for name in ("result", "grid")}
            paths["result"].write_bytes(self._png)
            self.grid().save(paths["grid"])
            paths["manifest"] = directory / "manifest.json"
            paths["manifest"].write_text(json.dumps(self.manifest, indent=2) + "\n")
        return paths

    @functools.cached_property
    def _png(self) -> bytes:
        return self._object_store.get(self._key(Artifact.RESULT))

    def _key(self, artifact: Artifact) -> str:
        if artifact not in self.status.artifact_keys:
            raise ArtifactError(
                f"job {self.status.id} made no {artifact.value}: its goal was the {self._request.goal.value}"
            )
        return self.status.artifact_keys[artifact]


def _decoded(what: str, data: bytes, decode: Callable[[bytes], T]) -> T:
    try:
        return decode(data)
    except (BadPicture, ValueError) as error:
        raise ArtifactError(f"the {what} that is stored is damaged; retry() has it made again") from error
