"""What a finished job has made, fetched when it is asked for."""

import functools
import json
from pathlib import Path
from typing import Any

from PIL import Image

from api_client.contract import JobStatus, Prompts, Slot
from api_client.errors import ArtifactError
from api_client.pictures import MAX_RESULT_BYTES, read_mask, read_picture, side_by_side
from api_client.store import Store


class EditResult:
    """The artifacts of a job that succeeded. Each is downloaded at its first use and kept."""

    def __init__(self, status: JobStatus, store: Store) -> None:
        self.status = status
        self._request = status.request
        self._store = store

    @functools.cached_property
    def original(self) -> Image.Image:
        """The picture that was submitted, upright and in RGB."""
        return read_picture(self._store.get(self._request.image)).image

    @functools.cached_property
    def image(self) -> Image.Image:
        """The edited picture, in the original's size; outside of the mask its pixels are the original's."""
        return read_picture(self._png, max_bytes=MAX_RESULT_BYTES).image

    @functools.cached_property
    def mask(self) -> Image.Image:
        """Where the picture might change, as an "L" image of the original's size: 255 inside, 0 outside."""
        return read_mask(self._store.get(self._request.mask or self._key(Slot.MASK)))

    @functools.cached_property
    def caption(self) -> str:
        """The text that describes the original: the user's, or the captioner's."""
        return self._request.given_caption or str(json.loads(self._store.get(self._key(Slot.CAPTION))))

    @functools.cached_property
    def prompts(self) -> Prompts:
        """The sentences that the edit went from and to: the user's, or the language model's."""
        return self._request.given_prompts or Prompts.model_validate_json(self._store.get(self._key(Slot.PROMPTS)))

    @functools.cached_property
    def manifest(self) -> dict[str, Any]:
        """Everything that is needed to make this result again; the result PNG carries the same text."""
        manifest: dict[str, Any] = json.loads(self._store.get(self._key(Slot.RESULT).removesuffix("png") + "json"))
        return manifest

    def grid(self) -> Image.Image:
        """Original, mask and result side by side."""
        return side_by_side([self.original, self.mask.convert("RGB"), self.image])

    def url(self, expires: int = 3600) -> str:
        """A link to the result (of a mask preview: to the mask) that anyone can open for `expires` seconds from now."""
        return self._store.url(self._key(self._request.goal), expires)

    def save(self, directory: str | Path) -> dict[str, Path]:
        """Write result.png, mask.png, grid.png and manifest.json (of a mask preview: mask.png) into `directory`.

        Returns the paths by name. result.png is byte for byte what is stored, so it carries its provenance.
        """
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        paths = {"mask": directory / "mask.png"}
        self.mask.save(paths["mask"])
        if self._request.goal is Slot.RESULT:
            paths |= {name: directory / f"{name}.png" for name in ("result", "grid")}
            paths["result"].write_bytes(self._png)
            self.grid().save(paths["grid"])
            paths["manifest"] = directory / "manifest.json"
            paths["manifest"].write_text(json.dumps(self.manifest, indent=2) + "\n")
        return paths

    @functools.cached_property
    def _png(self) -> bytes:
        return self._store.get(self._key(Slot.RESULT))

    def _key(self, slot: Slot) -> str:
        if slot not in self.status.refs:
            raise ArtifactError(
                f"job {self.status.id} made no {slot.value}: its goal was the {self._request.goal.value}"
            )
        return self.status.refs[slot]
