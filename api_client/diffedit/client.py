"""Submit edits, follow them, fetch their results.

    client = Client.from_env()
    job = client.edit("bowl.png", source_prompt="a bowl of fruits", target_prompt="a bowl of pears")
    job.result(timeout=120).image.save("edited.png")

Everything that can be wrong with a request is found here, before anything is queued.
"""

import functools
import os
import re
import uuid
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any, Self

from PIL import Image
from pydantic import Field, ValidationError

from diffedit.contract.job import PARAMETERS, Job, JobOptions, JobStatus, State
from diffedit.contract.object_keys import input_key
from diffedit.contract.request import EditParams, EditRequest
from diffedit.contract.stages import Artifact, Lane, queue_name, queue_names
from diffedit.contract.validation import Frozen, explain
from diffedit.errors import BadPicture, InvalidRequest, JobNotFound, NoWorkerWarning, ServiceError
from diffedit.garbage import Collected, age, collect
from diffedit.handle import JobHandle
from diffedit.jobs.backend import JobBackend, redis_backend
from diffedit.jobs.dispatch import celery_app, send
from diffedit.jobs.store import WorkerInfo
from diffedit.objects.s3 import S3ObjectStore
from diffedit.objects.store import ObjectStore
from diffedit.pictures import MAX_BYTES, read_mask, read_picture
from diffedit.settings import Settings

PictureLike = str | Path | bytes | Image.Image
Send = Callable[[Job], None]

TEXTS = frozenset(EditRequest.model_fields) - {"image", "mask", "goal", "params"}
"""What of an edit is asked in words."""
MAX_KEY = 200
"""Characters of an idempotency key."""


class Health(Frozen):
    """Whether the services answer, who works, and what waits.

    `broker` and `store` are "ok" or say what is wrong; `queues` holds how many messages wait in each queue, `unserved`
    those queues of the client's profile that no live worker reads.
    """

    broker: str
    object_store: str
    workers: tuple[WorkerInfo, ...] = ()
    queues: dict[str, int] = Field(default_factory=dict)
    unserved: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether a job submitted now would be worked on."""
        return self.broker == self.object_store == "ok" and not self.unserved


class Client:
    """Talks to Redis and S3. One per process is enough; safe to share between threads."""

    def __init__(
        self,
        settings: Settings,
        *,
        backend: JobBackend | None = None,
        object_store: ObjectStore | None = None,
        send: Send | None = None,
    ) -> None:
        self._settings = settings
        self._backend = backend or redis_backend(settings)
        self._job_store = self._backend.job_store
        self._worker_registry = self._backend.worker_registry
        self._object_store = object_store or S3ObjectStore(settings)
        self._send_message = send

    @classmethod
    def from_env(cls) -> Self:
        """A client for the services that the environment names (see `Settings`)."""
        return cls(Settings.from_env())

    def edit(
        self,
        image: PictureLike,
        *,
        target_prompt: str | None = None,
        source_prompt: str | None = None,
        source_concept: str | None = None,
        target_concept: str | None = None,
        caption: str | None = None,
        negative_prompt: str | None = None,
        mask: PictureLike | None = None,
        lane: Lane | str = Lane.INTERACTIVE,
        start_timeout: float | None = None,
        deadline: float | None = None,
        idempotency_key: str | None = None,
        **params: Any,
    ) -> JobHandle:
        """Queue an edit of `image` and return at once.

        Ask in one of three ways: two prompts; two concepts, from which the language model writes the prompts; or a
        target prompt alone. What you supply need not be made: a `caption`, a `mask` (a picture of the same size, white
        where it may change).

        Args:
            image: a path, the bytes of a PNG, JPEG or WebP file, or a PIL image.
            lane: "interactive", or "batch" for what nobody waits for: it is worked on while nothing interactive waits.
            start_timeout: seconds from now; the job expires unless it is begun by then.
            deadline: seconds from now; the job expires unless it is done by then.
            idempotency_key: a second call with the same key returns the first call's job and queues nothing.
            params: fields of `EditParams`: `num_inference_steps`, `strength`, `guidance_scale`, `seed`, `profile`, ...

        Raises:
            InvalidRequest: the request contradicts itself or leaves its ranges (BadPicture: the picture is unusable).
            QueueFull: too many jobs wait in this lane already; nothing was queued.
            BrokerUnavailable, StoreUnavailable: a service does not answer. A connection that breaks at the last moment
                leaves open whether the job was recorded, and then it is done, too: called again with the same
                `idempotency_key`, this gives that job; called without one, it makes a second job.
        """
        asked = {
            "target_prompt": target_prompt,
            "source_prompt": source_prompt,
            "source_concept": source_concept,
            "target_concept": target_concept,
            "caption": caption,
            "negative_prompt": negative_prompt,
            "mask": mask,
            "lane": lane,
            "start_timeout": start_timeout,
            "deadline": deadline,
            "idempotency_key": idempotency_key,
        }
        return self._queue(self._prepare(_upload(image), Artifact.RESULT, {**params, **asked}))

    def edit_many(
        self, image: PictureLike, targets: Iterable[str | Mapping[str, Any]], **common: Any
    ) -> list[JobHandle]:
        """Queue several edits of one picture; its caption and inversion are made once and shared.

        Args:
            targets: target prompts, or keyword arguments of `edit` that differ from one edit to the next.
            common: keyword arguments of `edit` for all of them.

        Raises:
            InvalidRequest: one of the requests is not valid; then none is queued. Further errors as `edit`.
        """
        if "idempotency_key" in common:
            raise InvalidRequest("idempotency_key: one for all would give one job; give each edit its own")
        if isinstance(targets, str):
            raise InvalidRequest("targets: give a list of target prompts; for a single one there is edit()")
        # One seed for all, so that what depends on it is shared as well.
        common.setdefault("seed", EditParams(profile="any").seed)
        edits = [{"target_prompt": target} if isinstance(target, str) else dict(target) for target in targets]
        upload = _upload(image)
        prepared = [self._prepare(upload, Artifact.RESULT, {**common, **each}) for each in edits]
        return [self._queue(one) for one in prepared]

    def preview_mask(self, image: PictureLike, **asked: Any) -> JobHandle:
        """Queue only what it takes to find the edit mask; arguments as for `edit`.

        The edit that follows with the same arguments and the same `seed` (`handle.status().request.params.seed`)
        finds this mask done.
        """
        return self._queue(self._prepare(_upload(image), Artifact.MASK, asked))

    def job(self, job_id: str) -> JobHandle:
        """The handle of a job that was submitted earlier, here or in another process. Asks nobody.

        Raises:
            JobNotFound: no job has an id of this form.
        """
        if not (isinstance(job_id, str) and re.fullmatch("[0-9a-f]{32}", job_id)):
            raise JobNotFound(job_id)
        return JobHandle(job_id, self._job_store, self._object_store, self._submit)

    def jobs(self, state: State | str | None = None, limit: int = 50) -> list[JobStatus]:
        """The newest jobs (of this state), newest first."""
        if state is not None and state not in list(State):
            raise InvalidRequest(f"state: {state!r} is none of {', '.join(State)}")
        return self._job_store.list_jobs(State(state) if state else None, limit)

    def collect_garbage(self, older_than: timedelta | str, *, dry_run: bool = False) -> Collected:
        """Delete pictures, artifacts and results that were stored longer ago ("30d") and that no unfinished job needs.

        Raises:
            InvalidRequest: `older_than` is no time, or less than an hour.
        """
        return collect(self._job_store, self._object_store, age(older_than), dry_run=dry_run)

    def health(self) -> Health:
        """Whether broker and store answer, who works, and how much waits in each queue. Raises nothing."""
        workers: list[WorkerInfo] = []
        depths: dict[str, int] = {}
        unserved: set[str] = set()
        broker = object_store = "ok"
        try:
            self._job_store.ping()
            workers = self._worker_registry.workers()
            served = {queue for worker in workers for queue in worker.queues}
            own = set(queue_names(self._profile(workers)))
            depths = self._job_store.queue_lengths(sorted(served | own))
            unserved = own - served
        except ServiceError as error:
            broker = str(error)
        try:
            self._object_store.ping()
        except ServiceError as error:
            object_store = str(error)
        return Health(
            broker=broker,
            object_store=object_store,
            workers=tuple(workers),
            queues=depths,
            unserved=tuple(sorted(unserved)),
        )

    def _prepare(self, image: "_Upload", goal: Artifact, asked: Mapping[str, Any]) -> "_Prepared":
        """Check everything and resolve every default; nothing is uploaded or queued yet."""
        texts = {name: value for name, value in asked.items() if name in TEXTS}
        options = {name: value for name, value in asked.items() if name in JobOptions.model_fields}
        params = {name: asked[name] for name in asked.keys() - TEXTS - options.keys() - {"mask", "idempotency_key"}}
        key = asked.get("idempotency_key")
        if key is not None and not (isinstance(key, str) and 1 <= len(key) <= MAX_KEY and key.isprintable()):
            raise InvalidRequest(f"idempotency_key: give a text of 1 to {MAX_KEY} printable characters")
        mask = None if asked.get("mask") is None else _mask_upload(asked["mask"], image.size)
        workers = self._worker_registry.workers()
        profile = params.pop("profile", self._profile(workers))
        defaults = self._worker_registry.profile_params(str(profile))
        fields = {**texts, "image": image.key, "mask": mask and mask.key, "goal": goal}
        try:
            fields["params"] = EditParams.resolve(profile, defaults, params)
            request, serve = EditRequest.model_validate(fields), JobOptions.model_validate(options)
        except ValidationError as error:
            raise InvalidRequest(explain(error, PARAMETERS)) from None
        return _Prepared(request, serve, [upload for upload in (image, mask) if upload], workers, key)

    def _queue(self, prepared: "_Prepared") -> JobHandle:
        for upload in prepared.uploads:
            if not self._object_store.exists(upload.key):
                self._object_store.put(upload.key, upload.data)
        handle = self._submit(prepared.request, prepared.options, prepared.idempotency_key)
        _warn_unless_served(prepared)
        return handle

    def _profile(self, workers: list[WorkerInfo]) -> str:
        """The profile of a request that names none: the configured one, else the one that is served."""
        served = {worker.profile for worker in workers}
        return self._settings.profile or (served.pop() if len(served) == 1 else "tiny")

    def _submit(self, request: EditRequest, options: JobOptions, idempotency_key: str | None = None) -> JobHandle:
        job = Job(id=uuid.uuid4().hex, request=request, options=options)
        first = self._job_store.create_job(job, idempotency_key)
        if first == job.id:
            try:
                self._send(job)
            except ServiceError:
                # With a key it may have been handed to somebody else by now; a keeper sends it.
                if not idempotency_key:
                    self._job_store.discard_job(job.id)
                raise
        return self.job(first)

    @functools.cached_property
    def _send(self) -> Send:
        return self._send_message or functools.partial(send, celery_app(self._settings))


@dataclass(frozen=True)
class _Upload:
    key: str
    data: bytes
    size: tuple[int, int]


@dataclass(frozen=True)
class _Prepared:
    request: EditRequest
    options: JobOptions
    uploads: list[_Upload]
    workers: list[WorkerInfo]
    idempotency_key: str | None


def _upload(picture: PictureLike) -> _Upload:
    data = _picture_bytes(picture)
    read = read_picture(data)
    return _Upload(input_key(data, read.extension), data, read.image.size)


def _mask_upload(mask: PictureLike, size: tuple[int, int]) -> _Upload:
    data = _picture_bytes(mask)
    read_mask(data, size)
    return _Upload(input_key(data, read_picture(data, what="mask").extension), data, size)


def _picture_bytes(picture: PictureLike) -> bytes:
    if isinstance(picture, bytes):
        return picture
    if isinstance(picture, Image.Image):
        buffer = BytesIO()
        try:
            picture.save(buffer, "PNG", exif=picture.getexif())
        except (OSError, ValueError) as error:
            raise BadPicture(f"the PIL image cannot be sent as PNG ({error}); convert it to RGB first") from error
        return buffer.getvalue()
    # A number would be taken for a file descriptor.
    if not isinstance(picture, str | os.PathLike):
        raise BadPicture(f"a {type(picture).__name__} is no picture; give a path, the bytes of a file or a PIL image")
    try:
        with open(picture, "rb") as file:
            # One byte over the limit is enough to refuse it; what it is may be any size.
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise BadPicture(f"cannot read {picture}: {error.strerror}") from error
    except ValueError as error:  # a NUL in the path, or what the file system's encoding lacks
        raise BadPicture(f"cannot read {picture!r}: {error}") from error


def _warn_unless_served(prepared: _Prepared) -> None:
    request = prepared.request
    wanted = {queue_name(request.params.profile, group, prepared.options.lane) for group in request.groups}
    missing = wanted - {queue for worker in prepared.workers for queue in worker.queues}
    if missing:
        served = ", ".join(sorted({worker.profile for worker in prepared.workers})) or "nothing"
        warnings.warn(
            f"no live worker reads {', '.join(sorted(missing))}, so the job waits; now served: {served}",
            NoWorkerWarning,
            stacklevel=4,
        )
