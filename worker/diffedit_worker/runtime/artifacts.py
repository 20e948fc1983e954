"""A job's artifacts: from the object store to values and back.

All requests of a stage to the object store run at once, because each of them takes tens of milliseconds on AWS.
"""

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from diffedit.contract.job import Job
from diffedit.contract.object_keys import manifest_key
from diffedit.contract.stages import STAGE_OF, Artifact
from diffedit.errors import ArtifactError, BadPicture
from diffedit.forks import PerProcess
from diffedit_worker.models.loading import Models
from diffedit_worker.pipeline import CODECS, PIPELINE, manifest
from diffedit_worker.runtime.byte_cache import ByteCache
from diffedit_worker.runtime.retrying_store import RetryingStore

log = logging.getLogger(__name__)

T = TypeVar("T")

PROVENANCE = "diffedit"
"""The PNG text chunk that holds the manifest."""

_requests = PerProcess(partial(ThreadPoolExecutor, 8, thread_name_prefix="object-store"))


class ArtifactDamaged(Exception):
    """An artifact that a stage has made is missing or cannot be read. Its stage can make it again."""

    def __init__(self, artifact: Artifact, reason: ArtifactError | BadPicture) -> None:
        super().__init__(f"the {artifact.value} is damaged: {reason}")
        self.artifact = artifact


class JobArtifacts:
    """The artifacts of `job` in an object store, with a cache in front of it."""

    def __init__(self, object_store: RetryingStore, byte_cache: ByteCache, job: Job) -> None:
        self._object_store = object_store
        self._byte_cache = byte_cache
        self._job = job

    def find_missing(self, keys: Mapping[Artifact, str]) -> list[Artifact]:
        """Return the artifacts that are not stored at these keys. A damaged user-visible artifact counts as missing."""
        stored = _all_at_once([partial(self._is_stored, artifact, key) for artifact, key in keys.items()])
        return [artifact for artifact, found in zip(keys, stored, strict=True) if not found]

    def load(self, artifacts: Sequence[Artifact]) -> dict[Artifact, Any]:
        """Return the values of these artifacts.

        Raises:
            ArtifactDamaged: a stage made the artifact and can make it again.
            ArtifactError, BadPicture: the user provided the artifact.
        """
        values = {artifact: text for artifact in artifacts if (text := self._text_of_request(artifact)) is not None}
        stored = [artifact for artifact in artifacts if artifact not in values]
        objects = _all_at_once([partial(self._read, artifact) for artifact in stored])
        values |= {artifact: self._decode(artifact, data) for artifact, data in zip(stored, objects, strict=True)}
        return values

    def save(self, values: Mapping[Artifact, Any], updated_job: Job, models: Models) -> None:
        """Store these artifacts at the keys that `updated_job` has for them.

        A result is stored with its manifest, which holds everything that is needed to make the result again.
        """
        objects: dict[str, bytes] = {}
        for artifact, value in values.items():
            key = updated_job.artifact_keys[artifact]
            if artifact is Artifact.RESULT:
                provenance = self._manifest(updated_job, models)
                objects[manifest_key(key)] = json.dumps(provenance, indent=1).encode()
                value = replace(value, text={PROVENANCE: json.dumps(provenance)})
            objects[key] = CODECS[artifact].encode(value)
        _all_at_once([partial(self._write, key, data) for key, data in objects.items()])
        log.info("job %s: stored %s", updated_job.id, ", ".join(objects))

    def remove(self, key: str) -> None:
        """Delete a damaged artifact. Otherwise the next search would find it and skip its stage."""
        self._byte_cache.remove(key)
        self._object_store.delete(key)

    def _manifest(self, updated_job: Job, models: Models) -> dict[str, Any]:
        texts = self.load((Artifact.CAPTION, Artifact.PROMPTS))
        prompts = texts[Artifact.PROMPTS].model_dump(mode="json")
        return manifest(updated_job, models, {"caption": texts[Artifact.CAPTION], "prompts": prompts})

    def _is_stored(self, artifact: Artifact, key: str) -> bool:
        if not PIPELINE[STAGE_OF[artifact]].outputs[artifact].user_visible:
            return self._object_store.exists(key)
        try:
            data = self._object_store.get(key)
            CODECS[artifact].decode(data)
            if artifact is Artifact.RESULT:
                json.loads(self._object_store.get(manifest_key(key)))
        except (ArtifactError, BadPicture, ValueError):
            return False
        self._byte_cache.add(key, data)
        return True

    def _text_of_request(self, artifact: Artifact) -> Any:
        """Return the text that the request itself provides for this artifact, or None."""
        texts = {Artifact.CAPTION: self._job.request.given_caption, Artifact.PROMPTS: self._job.request.given_prompts}
        return texts.get(artifact)

    def _read(self, artifact: Artifact) -> bytes:
        with self._errors_of(artifact):
            key = self._job.cache_identity(artifact)
            data = self._byte_cache.get(key)
            if data is None:
                data = self._object_store.get(key)
                self._byte_cache.add(key, data)
            return data

    def _decode(self, artifact: Artifact, data: bytes) -> Any:
        with self._errors_of(artifact):
            return CODECS[artifact].decode(data)

    @contextmanager
    def _errors_of(self, artifact: Artifact) -> Iterator[None]:
        """Raise ArtifactDamaged for an artifact that a stage made, and name the artifact if the user provided it."""
        try:
            yield
        except (ArtifactError, BadPicture) as error:
            if artifact in self._job.artifact_keys:
                raise ArtifactDamaged(artifact, error) from error
            raise type(error)(f"the {artifact.value} cannot be used: {error}") from error

    def _write(self, key: str, data: bytes) -> None:
        self._object_store.put(key, data)
        self._byte_cache.add(key, data)


def _all_at_once(calls: Sequence[Callable[[], T]]) -> list[T]:
    """Return the results of all calls. If calls fail, raise the first failure, but only after all have ended."""
    others = [_requests().submit(call) for call in calls[1:]]
    try:
        first = [call() for call in calls[:1]]
    finally:
        wait(others)
    return first + [other.result() for other in others]
