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

from diffedit.contract.content import Content, ContentsOf, check_stored, content_of
from diffedit.contract.job import Job, JobStatus
from diffedit.contract.object_keys import manifest_key, thumbnail_key
from diffedit.contract.stages import STAGE_OF, Artifact, Stage
from diffedit.errors import ArtifactError, ArtifactMissing, BadPicture, UnreadableArtifact
from diffedit.forks import PerProcess
from diffedit.objects.store import check_size
from diffedit.pictures import PROVENANCE, Picture, Size
from diffedit.thumbnails import encode_thumbnail
from diffedit_worker.models.loading import Models
from diffedit_worker.pipeline import CODECS, check_artifact, manifest
from diffedit_worker.runtime.byte_cache import ByteCache
from diffedit_worker.runtime.retrying_store import RetryingStore

log = logging.getLogger(__name__)

T = TypeVar("T")

_requests = PerProcess(partial(ThreadPoolExecutor, 8, thread_name_prefix="object-store"))


class ArtifactDamaged(Exception):
    """An artifact that a stage has made is missing or cannot be read. Its stage can make it again."""

    def __init__(self, artifact: Artifact, reason: ArtifactError | BadPicture) -> None:
        super().__init__(f"the {artifact.value} is damaged: {reason}")
        self.artifact = artifact


class JobArtifacts:
    """The artifacts of `job` in an object store, with a cache in front of it.

    `contents_of` returns what was last stored at some keys (`contract.content`). What this job has made or found is in
    its record as well. `models` are those of its profile.
    """

    def __init__(
        self,
        object_store: RetryingStore,
        byte_cache: ByteCache,
        job: Job,
        contents_of: ContentsOf,
        models: Models,
    ) -> None:
        self._object_store = object_store
        self._byte_cache = byte_cache
        self._job = job
        self._contents_of = contents_of
        self._models = models
        self._size: Size | None = None

    def find(self, keys: Mapping[Artifact, str]) -> dict[Artifact, Content]:
        """Return the content of each artifact that is stored at these keys. Damaged ones are left out.

        What is found is read, even if it is in the cache: the stored file may have changed, and others will read it.
        What is known about its content is compared; what is unknown is checked as before it is stored.
        """
        found = _all_at_once([partial(self._find, artifact, key) for artifact, key in keys.items()])
        return {artifact: content for artifact, content in zip(keys, found, strict=True) if content}

    def require_picture(self) -> None:
        """Raise ArtifactMissing if the picture of the job is not in the bucket."""
        if not self._object_store.exists(self._job.request.image):
            raise ArtifactMissing("the picture of the job is not in the bucket of this worker")

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
        if Artifact.IMAGE in values:
            self._size = values[Artifact.IMAGE].image.size
        for artifact in stored:
            with self._errors_of(artifact):
                self._check(artifact, values[artifact])
        return values

    def save(self, values: Mapping[Artifact, Any], updated_job: Job) -> dict[Artifact, Content]:
        """Store these artifacts at the keys that `updated_job` has for them. Returns what was stored.

        A result is stored with its manifest, which holds everything that is needed to make the result again, and with
        its thumbnail.

        Raises:
            UnreadableArtifact: a reader would refuse one of them. Nothing is stored.
        """
        objects: dict[str, bytes] = {}
        for artifact, value in values.items():
            key = updated_job.artifact_keys[artifact]
            if artifact is Artifact.RESULT:
                provenance = self._manifest(updated_job)
                objects[manifest_key(key)] = json.dumps(provenance, indent=1).encode()
                objects[thumbnail_key(key)] = encode_thumbnail(value)
                value = replace(value, text={PROVENANCE: json.dumps(provenance)})
            objects[key] = CODECS[artifact].encode(value)
            try:
                read = self._read_whole(artifact, key, objects.__getitem__)
                if artifact is Artifact.RESULT and read.icc_profile != value.icc_profile:
                    raise ArtifactError("its colour profile is lost")
            except (ArtifactError, BadPicture, ValueError) as error:
                raise UnreadableArtifact(
                    f"the {artifact.value} cannot be read again after it was written ({error}); report it, with the "
                    "picture and the parameters"
                ) from error
        _all_at_once([partial(self._write, key, data) for key, data in objects.items()])
        log.info("job %s: stored %s", updated_job.id, ", ".join(objects))
        return {artifact: content_of(objects[updated_job.artifact_keys[artifact]]) for artifact in values}

    def still_stored(self, contents: Mapping[str, Content]) -> dict[str, Content]:
        """Return which of these contents, by key, are what is stored now. Others may have written after this job."""

        def is_stored(key: str) -> bool:
            try:
                return content_of(self._object_store.get(key)) == contents[key]
            except ArtifactMissing:
                return False

        return {key: contents[key] for key in contents if is_stored(key)}

    def remove(self, key: str) -> None:
        """Delete a damaged artifact. Otherwise the next search would find it and skip its stage."""
        self._byte_cache.remove(key)
        self._object_store.delete(key)

    def _manifest(self, updated_job: Job) -> dict[str, Any]:
        texts = self.load((Artifact.CAPTION, Artifact.PROMPTS))
        prompts = texts[Artifact.PROMPTS].model_dump(mode="json")
        return manifest(updated_job, self._models, {"caption": texts[Artifact.CAPTION], "prompts": prompts})

    def _find(self, artifact: Artifact, key: str) -> Content | None:
        """Return the content of the artifact, or None if it is missing or damaged."""
        try:
            data = self._object_store.get(key)
            content, known = content_of(data), self._contents_of([key]).get(key)
            if known and content != known:
                raise ArtifactError("its bytes are not those that were stored")
            value = self._read_whole(
                artifact, key, lambda each: data if each == key else self._object_store.get(each), known
            )
        except ArtifactMissing:
            return None
        except (ArtifactError, BadPicture, ValueError) as error:
            log.warning(
                "job %s: the stored %s is damaged, so it is made again: %s", self._job.id, artifact.value, error
            )
            return None
        if artifact is Artifact.RESULT:
            self._add_thumbnail(key, value)
        self._byte_cache.add(key, data)
        return content

    def _add_thumbnail(self, key: str, result: Picture) -> None:
        """Store the thumbnail of a result that has none, because a worker of 0.2.0 has made it."""
        if not self._object_store.exists(thumbnail_key(key)):
            self._object_store.put(thumbnail_key(key), encode_thumbnail(result))

    def _read_whole(
        self, artifact: Artifact, key: str, get: Callable[[str], bytes], known: Content | None = None
    ) -> Any:
        """Read an artifact as its readers do. What is `known` was checked against the job before it was stored.

        Raises:
            ArtifactError, BadPicture, ValueError: a reader would refuse it.
        """
        data = get(key)
        check_size(key, len(data))
        value = CODECS[artifact].decode(data)
        if not known:
            self._check(artifact, value)
        if artifact is Artifact.RESULT:
            _check_manifest(get(manifest_key(key)), value)
        return value

    def _check(self, artifact: Artifact, value: Any) -> None:
        """Raise ArtifactError or BadPicture if this cannot be the artifact of this job."""
        check_artifact(artifact, value, self._job.request, self._models, self._picture_size)

    def _picture_size(self) -> Size:
        if self._size is None:
            self.load((Artifact.IMAGE,))
        assert self._size
        return self._size

    def _text_of_request(self, artifact: Artifact) -> Any:
        """Return the text that the request itself provides for this artifact, or None."""
        texts = {Artifact.CAPTION: self._job.request.given_caption, Artifact.PROMPTS: self._job.request.given_prompts}
        return texts.get(artifact)

    def _read(self, artifact: Artifact) -> bytes:
        with self._errors_of(artifact):
            key, expected = self._job.cache_identity(artifact), self._job.contents.get(artifact)
            data = self._byte_cache.get(key)
            # The copy may be older than what this job found.
            if data is None or (expected and content_of(data) != expected):
                data = self._object_store.get(key)
                check_stored(key, data, expected, self._contents_of)
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


def can_skip_lookup(stage: Stage, artifact: Artifact, status: JobStatus) -> bool:
    """Return whether this artifact cannot exist yet, so that the object store need not be asked.

    That is so if this very job created one of the artifact's inputs, in the first attempt of each stage involved.
    A wrong answer only costs a second computation, and the lock prevents two at the same time.
    """
    inputs = [each for each in stage.outputs[artifact] if each in status.created_artifacts]
    stages = (stage, *(STAGE_OF[each] for each in inputs))
    return bool(inputs) and all(status.attempts[each] == 1 for each in stages)


def _check_manifest(data: bytes, result: Picture) -> None:
    """Raise ArtifactError if the manifest beside a result is not the one in its file, ValueError if it is no JSON."""
    if json.loads(data) != json.loads(result.text.get(PROVENANCE, "null")):
        raise ArtifactError("the manifest beside it is another one than that in the file")


def _all_at_once(calls: Sequence[Callable[[], T]]) -> list[T]:
    """Return the results of all calls. If calls fail, raise the first failure, but only after all have ended."""
    others = [_requests().submit(call) for call in calls[1:]]
    try:
        first = [call() for call in calls[:1]]
    finally:
        wait(others)
    return first + [other.result() for other in others]
