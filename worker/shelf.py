"""A job's artifacts: from the bucket to values and back.

What a stage asks of the store, it asks all at once: a bucket on AWS takes tens of milliseconds to answer anything.
"""

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol, TypeVar

from api_client.contract import Job, Slot
from api_client.errors import ArtifactError, BadPicture
from worker.artifacts import CODECS
from worker.models import Models
from worker.pipeline import manifest
from worker.recent import Recent

log = logging.getLogger(__name__)

T = TypeVar("T")

SHOWN = frozenset({Slot.CAPTION, Slot.PROMPTS, Slot.MASK, Slot.RESULT})
"""What a user may read of a job. No later stage would notice that it is damaged, nor `retry()` mend it."""

_REQUESTS = ThreadPoolExecutor(8, thread_name_prefix="store")


class Storage(Protocol):
    """What a worker needs of a store."""

    def put(self, key: str, data: bytes) -> None: ...

    def get(self, key: str) -> bytes: ...

    def exists(self, key: str) -> bool: ...

    def delete(self, key: str) -> None: ...


class Damaged(Exception):
    """An artifact that a stage has made is not there, or is not what it should be."""

    def __init__(self, slot: Slot, reason: ArtifactError | BadPicture) -> None:
        super().__init__(str(reason))
        self.slot = slot


class Shelf:
    """The artifacts of `job`, which lie in `store`; `recent` holds copies of some."""

    def __init__(self, store: Storage, recent: Recent, job: Job) -> None:
        self._store = store
        self._recent = recent
        self._job = job

    def lacks(self, keys: Mapping[Slot, str]) -> list[Slot]:
        """Those of these artifacts that are not there, or not whole where nobody would notice later."""
        there = _together([partial(self._holds, slot, key) for slot, key in keys.items()])
        return [slot for slot, found in zip(keys, there, strict=True) if not found]

    def load(self, slots: Sequence[Slot]) -> dict[Slot, Any]:
        """What fills these slots of the job.

        Raises:
            Damaged: a stage made it, and can make it again.
            ArtifactError, BadPicture: the user supplied it.
        """
        values = {slot: value for slot in slots if (value := self._given(slot)) is not None}
        stored = [slot for slot in slots if slot not in values]
        fetched = _together([partial(self._fetch, slot) for slot in stored])
        values |= {slot: self._decoded(slot, data) for slot, data in zip(stored, fetched, strict=True)}
        return values

    def save(self, values: Mapping[Slot, Any], made: Job, models: Models) -> None:
        """Store these artifacts under the keys that `made`, the job with them, has for them; a result with all that it
        takes to make it again."""
        contents: dict[str, bytes] = {}
        for slot, value in values.items():
            provenance: dict[str, Any] = {}
            if slot is Slot.RESULT:
                texts = self.load((Slot.CAPTION, Slot.PROMPTS))
                prompts = texts[Slot.PROMPTS].model_dump(mode="json")
                provenance = manifest(made, models, {"caption": texts[Slot.CAPTION], "prompts": prompts})
                contents[manifest_key(made.refs[slot])] = json.dumps(provenance, indent=1).encode()
            contents[made.refs[slot]] = CODECS[slot].encode(value, provenance)
        _together([partial(self._put, key, data) for key, data in contents.items()])
        log.info("job %s: stored %s", made.id, ", ".join(contents))

    def remove(self, key: str) -> None:
        """A damaged artifact would otherwise be found, and taken for done."""
        self._recent.forget(key)
        self._store.delete(key)

    def _holds(self, slot: Slot, key: str) -> bool:
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

    def _given(self, slot: Slot) -> Any:
        """What the request itself says, if it does."""
        given = {Slot.CAPTION: self._job.request.given_caption, Slot.PROMPTS: self._job.request.given_prompts}
        return given.get(slot)

    def _fetch(self, slot: Slot) -> bytes:
        with self._blaming(slot):
            key = self._job.identity(slot)
            data = self._recent.get(key)
            if data is None:
                data = self._store.get(key)
                self._recent.remember(key, data)
            return data

    def _decoded(self, slot: Slot, data: bytes) -> Any:
        with self._blaming(slot):
            return CODECS[slot].decode(data)

    @contextmanager
    def _blaming(self, slot: Slot) -> Iterator[None]:
        """What is wrong with an artifact, as the matter of whoever it comes from."""
        try:
            yield
        except (ArtifactError, BadPicture) as error:
            if slot in self._job.refs:
                raise Damaged(slot, error) from error
            raise type(error)(f"the {slot.value} cannot be used: {error}") from error

    def _put(self, key: str, data: bytes) -> None:
        self._store.put(key, data)
        self._recent.remember(key, data)


def manifest_key(result: str) -> str:
    """Where the manifest of a result lies: beside it."""
    return result.rpartition(".")[0] + ".json"


def _together(calls: Sequence[Callable[[], T]]) -> list[T]:
    """The answers of all calls, when all have come; the first failure, if there is one."""
    others = [_REQUESTS.submit(call) for call in calls[1:]]
    try:
        mine = [call() for call in calls[:1]]
    finally:
        wait(others)
    return mine + [each.result() for each in others]
