"""What a finished job has made. Each artifact is downloaded when it is used for the first time."""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar, get_args

from PIL import Image

from diffedit.contract.content import ContentsOf, check_stored
from diffedit.contract.job import JobStatus
from diffedit.contract.object_keys import CONTENT_TYPES, thumbnail_key
from diffedit.contract.request import Prompts
from diffedit.contract.stages import Artifact
from diffedit.errors import ArtifactError, BadPicture, InvalidRequest, ServiceError
from diffedit.forks import made_side_by_side
from diffedit.masks import read_mask
from diffedit.notebook import facts_html, pictures_html
from diffedit.objects.links import attachment, check_expires
from diffedit.objects.store import ObjectStore
from diffedit.pictures import Picture, read_picture, read_result, side_by_side
from diffedit.provenance import manifest_of, with_manifest
from diffedit.thumbnails import encode_thumbnail

T = TypeVar("T")

Slot = Literal["result", "mask", "original", "thumbnail"]
"""The pictures of a job."""


class StoredFile(NamedTuple):
    """The file of a picture of a job, as it is stored."""

    data: bytes
    """The bytes of the file."""
    content_type: str
    """"image/png", "image/jpeg" or "image/webp"."""


@made_side_by_side
class EditResult:
    """The artifacts of a job that succeeded. Each is downloaded at its first use and then kept.

    Every attribute and method raises ArtifactError if an artifact is missing or damaged (the job's `retry()` makes it
    again), and StoreUnavailable if the object store does not answer. Damaged means that the bytes are not those that a
    worker has stored, even if they can be decoded.

    Attributes:
        status: the last status of the job.
    """

    def __init__(self, status: JobStatus, object_store: ObjectStore, contents_of: ContentsOf) -> None:
        """Use `JobHandle.result` to get a result. `contents_of` returns what was last stored at some keys."""
        self.status = status
        self._contents_of = contents_of
        self._request = status.request
        self._object_store = object_store

    @functools.cached_property
    def original(self) -> Image.Image:
        """The picture that was submitted, upright and in RGB."""
        return read_picture(self._object_store.get(self._request.image)).image

    @functools.cached_property
    def image(self) -> Image.Image:
        """The edited picture in the size of the original. Outside the mask its pixels are the original's.

        In RGB, or in RGBA if the original is transparent in parts outside the mask.
        """
        return self._picture.layer or self._picture.image

    @functools.cached_property
    def mask(self) -> Image.Image:
        """The mask as an "L" image in the size of the original: 255 where the picture may change, 0 elsewhere."""
        given = self._request.mask
        return _decoded("mask", self._object_store.get(given) if given else self._bytes(Artifact.MASK), read_mask)

    @functools.cached_property
    def caption(self) -> str:
        """The text that describes the original: the user's, or the captioner's."""
        given = self._request.given_caption
        return given or str(_decoded("caption", self._bytes(Artifact.CAPTION), json.loads))

    @functools.cached_property
    def prompts(self) -> Prompts:
        """The sentences that describe the picture before and after the edit.

        They are the user's, or those made of two concepts: one each from the caption, or `num_prompts` each by the
        language model.
        """
        given = self._request.given_prompts
        return given or _decoded("prompts", self._bytes(Artifact.PROMPTS), Prompts.model_validate_json)

    @functools.cached_property
    def manifest(self) -> dict[str, Any]:
        """Everything that is needed to make this result again: the request of this job, the texts, models and software.

        All but the request is read from the file of the result. If it was found in the cache, another job has made it.
        """
        return _decoded("result", self._png, lambda png: manifest_of(png, self._request))

    def grid(self) -> Image.Image:
        """Return the original, the mask and the result side by side. Small pictures are enlarged."""
        return side_by_side([self.original, self.mask, self.image])

    @functools.cached_property
    def thumbnail(self) -> Image.Image:
        """The edited picture, its longer side scaled to 320 pixels unless it is smaller, in sRGB."""
        thumbnail = read_picture(self.file("thumbnail").data)
        return thumbnail.layer or thumbnail.image

    def file(self, slot: Slot | None = None) -> StoredFile:
        """Return a picture of the job as a file, for programs that pass it on.

        Args:
            slot: "result" (PNG), "mask" (PNG, or the file that the user drew), "original" (the file that the user
                sent) or "thumbnail" (WebP, some KB). Default: the result, or the mask after `preview_mask`.

        Raises:
            InvalidRequest: there is no such slot.
        """
        slot = self._slot(slot)
        if slot == "thumbnail":
            return StoredFile(self._thumbnail(), CONTENT_TYPES["webp"])
        key = self._key_of(slot)
        made = {"result": Artifact.RESULT, "mask": Artifact.MASK}.get(slot)
        data = self._bytes(made) if made and key != self._request.mask else self._object_store.get(key)
        return StoredFile(data, CONTENT_TYPES[key.rpartition(".")[2]])

    def url(self, expires: int = 3600, *, slot: Slot | None = None, filename: str | None = None) -> str:
        """Return a URL of a picture of the job. Anyone can open it for `expires` seconds. Sends no request.

        Who opens it gets the stored bytes as they are; only this class checks them. Their manifest holds of the request
        only what the result depends on. The host is that of `DIFFEDIT_S3_PUBLIC_URL`.

        Args:
            expires: seconds, from 1 to 7 days, the longest that S3 signs for. A URL that is signed with the temporary
                keys of a role ends with them.
            slot: as for `file`. A result that a worker of 0.2.0 has made has no thumbnail, and its URL is the result's.
            filename: a browser saves the picture under this name and does not show it. At most 150 characters, without
                slashes and control characters.

        Raises:
            InvalidRequest: there is no such slot, or `expires` or `filename` is out of its range.
        """
        check_expires(expires)
        disposition = None if filename is None else attachment(filename)
        return self._object_store.url(self._key_of(self._slot(slot)), expires, disposition)

    def save(self, directory: str | Path) -> dict[str, Path]:
        """Write result.png, mask.png, grid.png and manifest.json into `directory`, after `preview_mask` only mask.png.

        result.png contains the manifest, too; its pixels are those of the stored file. Nothing is written if an
        artifact is missing or damaged.

        Returns:
            The paths by name: "result", "mask", "grid", "manifest".
        """
        # All artifacts are downloaded and checked before the first file is written.
        images, files = {"mask.png": self.mask}, {}
        if self._request.goal is Artifact.RESULT:
            images["grid.png"] = self.grid()
            files["result.png"] = _decoded("result", self._png, lambda png: with_manifest(png, self.manifest))
            files["manifest.json"] = (json.dumps(self.manifest, indent=2) + "\n").encode()
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        for name, image in images.items():
            image.save(directory / name)
        for name, data in files.items():
            (directory / name).write_bytes(data)
        return {Path(name).stem: directory / name for name in (*images, *files)}

    def _repr_html_(self) -> str:
        """Return what a notebook shows of the result: original, mask and edited picture, and what was asked for."""
        asked = self._request.target_prompt or self._request.target_concept or ""
        try:
            pictures = [("original", self.original), ("mask", self.mask)]
            if self._request.goal is Artifact.RESULT:
                pictures.append(("result", self.image))
        except (ArtifactError, ServiceError) as error:
            return facts_html({"job": self.status.id, error.code: error})  # a notebook would show a traceback
        return pictures_html([(name, encode_thumbnail(Picture(image, None, "png"))) for name, image in pictures], asked)

    @functools.cached_property
    def _png(self) -> bytes:
        return self._bytes(Artifact.RESULT)

    @functools.cached_property
    def _picture(self) -> Picture:
        return _decoded("result", self._png, read_result)

    def _thumbnail(self) -> bytes:
        """Return the stored thumbnail, or a new one if there is none that can be decoded."""
        key = thumbnail_key(self._key(Artifact.RESULT))
        try:
            data = self._object_store.get(key)
            read_picture(data)
        except (ArtifactError, BadPicture):
            return encode_thumbnail(self._picture)
        return data

    def _slot(self, slot: Slot | None) -> Slot:
        if slot is None:
            return "mask" if self._request.goal is Artifact.MASK else "result"
        if slot not in get_args(Slot):
            raise InvalidRequest(f"slot: {slot!r} is none of {', '.join(get_args(Slot))}")
        return slot

    def _key_of(self, slot: Slot) -> str:
        if slot == "original":
            return self._request.image
        if slot == "mask":
            return self._request.mask or self._key(Artifact.MASK)
        key = self._key(Artifact.RESULT)
        # Of a result that a worker of 0.2.0 has made, the record does not know the content.
        return thumbnail_key(key) if slot == "thumbnail" and Artifact.RESULT in self.status.contents else key

    def _bytes(self, artifact: Artifact) -> bytes:
        """Return an artifact that a worker has made. Raises ArtifactError if it is not what was stored."""
        key, expected = self._key(artifact), self.status.contents.get(artifact)
        data = self._object_store.get(key)
        try:
            check_stored(key, data, expected, self._contents_of)
        except ArtifactError as error:
            raise ArtifactError(f"the stored {artifact.value} is damaged ({error}); retry() makes it again") from None
        return data

    def _key(self, artifact: Artifact) -> str:
        if artifact not in self.status.artifact_keys:
            raise ArtifactError(
                f"job {self.status.id} made no {artifact.value}, because its goal was the {self._request.goal.value}"
            )
        return self.status.artifact_keys[artifact]


def _decoded(what: str, data: bytes, decode: Callable[[bytes], T]) -> T:
    try:
        return decode(data)
    except (BadPicture, ValueError) as error:
        raise ArtifactError(f"the stored {what} is damaged; retry() makes it again") from error
