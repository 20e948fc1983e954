"""A job's artifacts: from the bucket to values and back."""

import json
import logging
from typing import Any

from api_client.contract import Job, Slot
from api_client.errors import ArtifactError, BadPicture
from worker.artifacts import CODECS
from worker.models import Models
from worker.pipeline import manifest
from worker.recent import RecentStore, Storage

log = logging.getLogger(__name__)

SHOWN = frozenset({Slot.CAPTION, Slot.PROMPTS, Slot.MASK, Slot.RESULT})
"""What a user may read of a job. No later stage would notice that it is damaged, nor `retry()` mend it."""


class Damaged(Exception):
    """An artifact that a stage has made is not there, or is not what it should be."""

    def __init__(self, slot: Slot, reason: ArtifactError | BadPicture) -> None:
        super().__init__(str(reason))
        self.slot = slot


class Shelf:
    """Where the artifacts lie; the last `recent_bytes` of them within reach."""

    def __init__(self, store: Storage, recent_bytes: int) -> None:
        self._store = store
        self._recent = RecentStore(store, recent_bytes)

    def holds(self, slot: Slot, key: str) -> bool:
        """Whether the artifact is there, and whole if nobody would notice later that it is not."""
        if slot not in SHOWN:
            return self._store.exists(key)
        try:
            data = self._store.get(key)
            CODECS[slot].decode(data)
            if slot is Slot.RESULT:
                json.loads(self._store.get(manifest_key(key)))
        except (ArtifactError, BadPicture, ValueError):
            return False
        self._recent.remember(key, data)
        return True

    def load(self, slot: Slot, job: Job) -> Any:
        """What fills this slot of the job.

        Raises:
            Damaged: a stage made it, and can make it again.
            ArtifactError, BadPicture: the user supplied it.
        """
        request = job.request
        if slot is Slot.CAPTION and request.given_caption:
            return request.given_caption
        if slot is Slot.PROMPTS and request.given_prompts:
            return request.given_prompts
        try:
            return CODECS[slot].decode(self._recent.get(job.identity(slot)))
        except (ArtifactError, BadPicture) as error:
            if slot in job.refs:
                raise Damaged(slot, error) from error
            raise type(error)(f"the {slot.value} cannot be used: {error}") from error

    def save(self, slot: Slot, value: Any, job: Job, models: Models) -> None:
        """Store what fills this slot under the job's key for it; a result with all that it takes to make it again."""
        key = job.refs[slot]
        provenance: dict[str, Any] = {}
        if slot is Slot.RESULT:
            prompts = self.load(Slot.PROMPTS, job).model_dump(mode="json")
            provenance = manifest(job, models, {"caption": self.load(Slot.CAPTION, job), "prompts": prompts})
            # Before the picture: its presence means that everything is there.
            self._store.put(manifest_key(key), json.dumps(provenance, indent=1).encode())
        self._recent.put(key, CODECS[slot].encode(value, provenance))
        log.info("job %s: stored %s", job.id, key)

    def remove(self, key: str) -> None:
        """A damaged artifact would otherwise be found, and taken for done."""
        self._recent.delete(key)


def manifest_key(result: str) -> str:
    """Where the manifest of a result lies: beside it."""
    return result.rpartition(".")[0] + ".json"
