"""A job's artifacts: from the bucket to values and back.

What a stage asks of the store, it asks all at once: a bucket on AWS takes tens of milliseconds to answer anything.
"""

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, Protocol, TypeVar

from diffedit.contract.job import Job
from diffedit.contract.object_keys import manifest_key
from diffedit.contract.stages import STAGE_OF, Artifact
from diffedit.errors import ArtifactError, BadPicture
from diffedit_worker.models.loading import Models
from diffedit_worker.pipeline import CODECS, PIPELINE, manifest
from diffedit_worker.runtime.byte_cache import ByteCache

log = logging.getLogger(__name__)

T = TypeVar("T")

PROVENANCE = "diffedit"
"""The PNG text chunk that holds the manifest."""

_REQUESTS = ThreadPoolExecutor(8, thread_name_prefix="store")


class Storage(Protocol):
    """What a worker needs of a store."""

    def put(self, key: str, data: bytes) -> None: ...

    def get(self, key: str) -> bytes: ...

    def exists(self, key: str) -> bool: ...

    def delete(self, key: str) -> None: ...


class ArtifactDamaged(Exception):
    """An artifact that a stage has made is not there, or is not what it should be."""

    def __init__(self, artifact: Artifact, reason: ArtifactError | BadPicture) -> None:
        super().__init__(str(reason))
        self.artifact = artifact


class JobArtifacts:
    """The artifacts of `job`, which lie in `store`; `recent` holds copies of some."""

    def __init__(self, object_store: Storage, byte_cache: ByteCache, job: Job) -> None:
        self._object_store = object_store
        self._byte_cache = byte_cache
        self._job = job

    def lacks(self, keys: Mapping[Artifact, str]) -> list[Artifact]:
        """Those of these artifacts that are not there, or not whole where nobody would notice later."""
        there = _together([partial(self._holds, artifact, key) for artifact, key in keys.items()])
        return [artifact for artifact, found in zip(keys, there, strict=True) if not found]

    def load(self, artifacts: Sequence[Artifact]) -> dict[Artifact, Any]:
        """What fills these slots of the job.

        Raises:
            Damaged: a stage made it, and can make it again.
            ArtifactError, BadPicture: the user supplied it.
        """
        values = {artifact: value for artifact in artifacts if (value := self._given(artifact)) is not None}
        stored = [artifact for artifact in artifacts if artifact not in values]
        fetched = _together([partial(self._fetch, artifact) for artifact in stored])
        values |= {artifact: self._decoded(artifact, data) for artifact, data in zip(stored, fetched, strict=True)}
        return values

    def save(self, values: Mapping[Artifact, Any], made: Job, models: Models) -> None:
        """Store these artifacts under the keys that `made`, the job with them, has for them; a result with all that it
        takes to make it again."""
        contents: dict[str, bytes] = {}
        for artifact, value in values.items():
            if artifact is Artifact.RESULT:
                texts = self.load((Artifact.CAPTION, Artifact.PROMPTS))
                prompts = texts[Artifact.PROMPTS].model_dump(mode="json")
                provenance = manifest(made, models, {"caption": texts[Artifact.CAPTION], "prompts": prompts})
                contents[manifest_key(made.artifact_keys[artifact])] = json.dumps(provenance, indent=1).encode()
                value = replace(value, text={PROVENANCE: json.dumps(provenance)})
            contents[made.artifact_keys[artifact]] = CODECS[artifact].encode(value)
        _together([partial(self._put, key, data) for key, data in contents.items()])
        log.info("job %s: stored %s", made.id, ", ".join(contents))

    def remove(self, key: str) -> None:
        """A damaged artifact would otherwise be found, and taken for done."""
        self._byte_cache.forget(key)
        self._object_store.delete(key)

    def _holds(self, artifact: Artifact, key: str) -> bool:
        if not PIPELINE[STAGE_OF[artifact]].outputs[artifact].user_visible:
            return self._object_store.exists(key)
        try:
            data = self._object_store.get(key)
            CODECS[artifact].decode(data)
            if artifact is Artifact.RESULT:
                json.loads(self._object_store.get(manifest_key(key)))
        except (ArtifactError, BadPicture, ValueError):
            return False
        self._byte_cache.remember(key, data)
        return True

    def _given(self, artifact: Artifact) -> Any:
        """What the request itself says, if it does."""
        given = {Artifact.CAPTION: self._job.request.given_caption, Artifact.PROMPTS: self._job.request.given_prompts}
        return given.get(artifact)

    def _fetch(self, artifact: Artifact) -> bytes:
        with self._blaming(artifact):
            key = self._job.cache_identity(artifact)
            data = self._byte_cache.get(key)
            if data is None:
                data = self._object_store.get(key)
                self._byte_cache.remember(key, data)
            return data

    def _decoded(self, artifact: Artifact, data: bytes) -> Any:
        with self._blaming(artifact):
            return CODECS[artifact].decode(data)

    @contextmanager
    def _blaming(self, artifact: Artifact) -> Iterator[None]:
        """What is wrong with an artifact, as the matter of whoever it comes from."""
        try:
            yield
        except (ArtifactError, BadPicture) as error:
            if artifact in self._job.artifact_keys:
                raise ArtifactDamaged(artifact, error) from error
            raise type(error)(f"the {artifact.value} cannot be used: {error}") from error

    def _put(self, key: str, data: bytes) -> None:
        self._object_store.put(key, data)
        self._byte_cache.remember(key, data)


def _together(calls: Sequence[Callable[[], T]]) -> list[T]:
    """The answers of all calls, when all have come; the first failure, if there is one."""
    others = [_REQUESTS.submit(call) for call in calls[1:]]
    try:
        mine = [call() for call in calls[:1]]
    finally:
        wait(others)
    return mine + [each.result() for each in others]
