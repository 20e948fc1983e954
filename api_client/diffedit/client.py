"""Submit edits, follow them, fetch their results.

    client = Client.from_env()
    job = client.edit("bowl.png", source_prompt="a bowl of fruits", target_prompt="a bowl of pears")
    job.result(timeout=120).image.save("edited.png")

Invalid requests are refused here, before anything is queued.
"""

import copy
import functools
import time
from collections.abc import Iterable, Sequence
from typing import Self, Unpack

from diffedit.contract.job import JobOptions
from diffedit.contract.request import EditRequest, random_seed
from diffedit.contract.stages import Artifact
from diffedit.contract.validation import JOB_ID
from diffedit.decoding import decoding_limits
from diffedit.direct_uploads import given_picture, new_upload
from diffedit.errors import JobNotFound, NoWorkerWarning
from diffedit.fleet import Fleet
from diffedit.handle import JobHandle
from diffedit.jobs.backend import JobBackend, redis_backend
from diffedit.management import checked_owner
from diffedit.many_jobs import ManyJobs, QueuedEdit
from diffedit.objects.links import UploadUrl
from diffedit.objects.s3 import S3ObjectStore
from diffedit.objects.store import ObjectStore
from diffedit.options import EditOptions
from diffedit.recording import Recorder, Send
from diffedit.salts import salt_of
from diffedit.settings import Settings
from diffedit.submission import check_keys, no_worker_warnings, options_of_each, prepare
from diffedit.uploads import PictureLike, Upload, image_upload, salted
from diffedit.warned import warn

Queued = tuple[list[JobHandle], list[str]]


class Client(ManyJobs):
    """Submits jobs through Redis and S3. One client for each process is enough; threads can share it.

    A client is a context manager. It opens connections when it needs them, at most `Settings.max_connections` to Redis,
    and keeps them until `close`. A process that is forked from one with a client opens connections of its own.

        with Client.from_env() as client:
            client.edit("bowl.png", target_prompt="a bowl of pears").result().image.save("edited.png")
    """

    def __init__(
        self,
        settings: Settings,
        *,
        backend: JobBackend | None = None,
        object_store: ObjectStore | None = None,
        send: Send | None = None,
    ) -> None:
        """Make a client. Nothing is connected yet.

        Args:
            settings: where the services are; `from_env` reads them from the environment.
            backend: where jobs are recorded. Default: the Redis of the settings.
            object_store: where pictures are stored. Default: the bucket of the settings.
            send: puts a job into its queue. If it raises, the call that submits the job raises the same error. Default:
                the job store does, in the step in which it records the job.
        """
        super().__init__(settings, backend or redis_backend(settings), object_store or S3ObjectStore(settings))
        self._recorder = Recorder(settings, self._job_store, self._object_store, send)
        self._secret = functools.cache(self._job_store.secret)

    @classmethod
    def from_env(cls) -> Self:
        """Return a client of the services that the environment names.

        Raises:
            InvalidRequest: a variable has a value that is not valid.
        """
        return cls(Settings.from_env())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections, when no thread uses the client any more.

        The client, its jobs and its results remain usable: they connect again when they need to.
        """
        self._backend.close()
        self._object_store.close()

    def for_owner(self, owner: str) -> Self:
        """Return a client that submits as this owner, and for which the jobs of others do not exist. Sends no request.

        It shares the connections of this client. Idempotency keys are the owner's own. Its pictures are stored under
        keys of its own, so that whatever it uploads is found in no cache, unless it uploaded the same before.

        Args:
            owner: 1 to 200 printable characters, such as a user's id. Clients and namespaces that name the same owner
                see the same jobs.

        Raises:
            InvalidRequest: this is no valid owner, or this client is another owner's.
        """
        view = copy.copy(self)
        # None would be the client of all jobs.
        view._owner = self._require_owner(checked_owner(owner))
        return view

    def edit(
        self, image: PictureLike | None = None, *, uploaded: str | None = None, **options: Unpack[EditOptions]
    ) -> JobHandle:
        """Queue an edit of a picture, and return at once.

        Say what to change in one of three ways: two prompts; two concepts, of which the caption or the language
        model makes prompts; or a target prompt alone. A stage is skipped when you provide its output: `caption`, both
        prompts, or `mask`.

        Args:
            image: the path of a PNG, JPEG or WebP file (a `str` is a path), its bytes, an open binary file or upload,
                or a PIL image.
            uploaded: instead of `image`, the key of an upload (`upload_url`).
            options: the keyword arguments that `EditOptions` lists: texts, mask, parameters such as
                `num_inference_steps`, `strength` and `seed`, and how the job is served.

        Raises:
            InvalidRequest: an option is unknown, out of its range, or contradicts another one.
            BadPicture: the picture or the mask cannot be used.
            UploadNotFound: you have no upload with this key.
            IdempotencyConflict: the `idempotency_key` names the job of another request.
            QueueFull: too many jobs wait in this lane of the profile.
            OwnerLimit: the job would exceed a limit of its owner.
            BrokerUnavailable, StoreUnavailable: a service does not answer. The job does not run, unless the message
                says so. That is so if it was recorded under an `idempotency_key`, with which another call returns it,
                or if the connection broke and the record could not be deleted. A further call without a key makes a
                second job.

        Warns:
            NoWorkerWarning: no live worker can run the job, so it waits.
        """
        job, waiting = self._edit(image, uploaded, options)
        _warn(waiting)
        return job

    def edit_many(
        self,
        image: PictureLike | None,
        targets: Iterable[str | EditOptions],
        *,
        uploaded: str | None = None,
        **common: Unpack[EditOptions],
    ) -> list[JobHandle]:
        """Queue several edits of one picture. Its caption and its inversion are made once and shared.

        Args:
            image: as for `edit`; None together with `uploaded`.
            uploaded: as for `edit`.
            targets: target prompts, or the options in which one edit differs from the others.
            common: the options of all edits, without `idempotency_key`. All edits get the same random seed by default.

        Raises:
            InvalidRequest: one of the edits is not valid, or two have the same key; none is queued.
            BadPicture, UploadNotFound: as `edit`; none is queued.
            IdempotencyConflict, QueueFull, OwnerLimit, BrokerUnavailable, StoreUnavailable: as `edit`. The edits before
                the one that raised are queued, and the message and `queued` have their ids.

        Warns:
            NoWorkerWarning: as `edit`.
        """
        edits = options_of_each(targets, common)
        jobs, waiting = self._queue(self._given(image, uploaded, common), Artifact.RESULT, edits)
        _warn(waiting)
        return jobs

    def preview_mask(
        self, image: PictureLike | None = None, *, uploaded: str | None = None, **options: Unpack[EditOptions]
    ) -> JobHandle:
        """Queue only the stages that find the mask. Arguments, errors and warnings as for `edit`.

        An edit with the same arguments and the same `seed` (`job.status().request.params.seed`) reuses this mask.
        """
        (job,), waiting = self._queue(self._given(image, uploaded, options), Artifact.MASK, [options])
        _warn(waiting)
        return job

    def upload_url(self, content_type: str, *, size: int, expires: int = 900) -> UploadUrl:
        """Return a request with which a browser sends a picture straight to the bucket. Nothing is sent now.

        `edit(uploaded=url.key)` then takes the picture. It does so within a day, before garbage collection deletes it.

        Args:
            content_type: "image/png", "image/jpeg" or "image/webp".
            size: the bytes of the file. The server refuses another size or content type.
            expires: seconds for which the request is valid, 1 second to 7 days.

        Raises:
            InvalidRequest: an argument is out of its range.
            BadPicture: the file is empty, or takes more than `MAX_PICTURE_BYTES`.
            StoreRefused: there are no AWS keys.
        """
        return new_upload(self._object_store, content_type, size, expires, self._owner)

    def job(self, job_id: str) -> JobHandle:
        """Return the handle of a job that was submitted before, here or in another process. Sends no request.

        Raises:
            JobNotFound: no job has an id of this form.
        """
        if not (isinstance(job_id, str) and JOB_ID.fullmatch(job_id)):
            raise JobNotFound(job_id)
        return JobHandle(job_id, self._job_store, self._object_store, self._submit, self._owner)

    def _edit(self, image: PictureLike | None, uploaded: str | None, options: EditOptions) -> QueuedEdit:
        (job,), waiting = self._queue(self._given(image, uploaded, options), Artifact.RESULT, [options])
        return job, waiting

    def _given(self, image: PictureLike | None, uploaded: str | None, options: EditOptions) -> PictureLike:
        return given_picture(image, uploaded, self._object_store, self._require_owner(options.get("owner")))

    def _queue(self, image: PictureLike, goal: Artifact, edits: Sequence[EditOptions]) -> Queued:
        """Check all edits, then queue them. Return their jobs, and warnings if no live worker can run them."""
        began_at = time.time_ns()
        with decoding_limits(self._settings.max_pixels):
            upload = image_upload(image)
            fleet = Fleet(self._backend.worker_registry, self._settings.profile)
            # With one seed, artifacts that depend on it are shared as well.
            seed = random_seed()
            upload_of = functools.cache(self._upload_of)
            submissions = [prepare(upload, goal, self._owned(each), fleet, seed, upload_of) for each in edits]
        check_keys(submissions)
        new = [
            self._recorder.new_job(
                each.request, each.options, each.idempotency_key, each.request_digest, each.pixels, began_at=began_at
            )
            for each in submissions
        ]
        uploads = {upload.key: upload for each in submissions for upload in each.uploads}
        ids = self._recorder.record(new, list(uploads.values()))
        return [self.job(job_id) for job_id in ids], no_worker_warnings(submissions, fleet)

    def _submit(
        self, request: EditRequest, options: JobOptions, idempotency_key: str | None, request_digest: str
    ) -> JobHandle:
        new = self._recorder.new_job(request, options, idempotency_key, request_digest)
        return self.job(*self._recorder.record([new]))

    def _upload_of(self, upload: Upload, owner: str | None) -> Upload:
        return upload if owner is None else salted(upload, salt_of(owner, self._secret()))

    def _owned(self, options: EditOptions) -> EditOptions:
        return {**options, "owner": self._require_owner(options.get("owner"))}


def _warn(texts: Iterable[str]) -> None:
    """Issue the warnings with the line of the program that called a public method, which must call this itself."""
    for text in texts:
        warn(NoWorkerWarning(text), stacklevel=3)
