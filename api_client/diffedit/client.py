"""Submit edits, follow them, fetch their results.

    client = Client.from_env()
    job = client.edit("bowl.png", source_prompt="a bowl of fruits", target_prompt="a bowl of pears")
    job.result(timeout=120).image.save("edited.png")

Invalid requests are refused here, before anything is queued.
"""

import uuid
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Self, Unpack

from diffedit.contract.job import Job, JobOptions, JobStatus, State
from diffedit.contract.request import EditRequest, random_seed
from diffedit.contract.stages import Artifact
from diffedit.contract.validation import JOB_ID
from diffedit.decoding import decoding_limits
from diffedit.errors import InvalidRequest, JobNotFound, NoWorkerWarning, UnreadableJobsWarning
from diffedit.fleet import Fleet
from diffedit.garbage import Collected, age, collect
from diffedit.handle import JobHandle
from diffedit.health import Health, check_health
from diffedit.idempotency import scoped_key
from diffedit.jobs.backend import JobBackend, redis_backend
from diffedit.jobs.unsent import add_remark, taken_back
from diffedit.objects.s3 import S3ObjectStore
from diffedit.objects.store import ObjectStore
from diffedit.options import EditOptions
from diffedit.settings import Settings
from diffedit.submission import Submission, check_keys, no_worker_warnings, prepare
from diffedit.uploads import PictureLike, image_upload, store

Send = Callable[[Job], None]
Queued = tuple[list[JobHandle], list[str]]


class Client:
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
        self._settings = settings
        self._backend = backend or redis_backend(settings)
        self._job_store = self._backend.job_store
        self._object_store = object_store or S3ObjectStore(settings)
        self._send = send

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

    def edit(self, image: PictureLike, **options: Unpack[EditOptions]) -> JobHandle:
        """Queue an edit of a picture, and return at once.

        Say what to change in one of three ways: two prompts; two concepts, of which the caption or the language
        model makes prompts; or a target prompt alone. A stage is skipped when you provide its output: `caption`, both
        prompts, or `mask`.

        Args:
            image: the path of a PNG, JPEG or WebP file (a `str` is a path), its bytes, an open binary file or upload,
                or a PIL image.
            options: the keyword arguments that `EditOptions` lists: texts, mask, parameters such as
                `num_inference_steps`, `strength` and `seed`, and how the job is served.

        Raises:
            InvalidRequest: an option is unknown, out of its range, or contradicts another one.
            BadPicture: the picture or the mask cannot be used.
            IdempotencyConflict: the `idempotency_key` names the job of another request.
            QueueFull: too many jobs wait in this lane of the profile.
            BrokerUnavailable, StoreUnavailable: a service does not answer. The job does not run, unless the message
                says so. That is so if it was recorded under an `idempotency_key`, with which another call returns it,
                or if the connection broke and the record could not be deleted. A further call without a key makes a
                second job.

        Warns:
            NoWorkerWarning: no live worker can run the job, so it waits.
        """
        (job,), waiting = self._queue(image, Artifact.RESULT, [options])
        _warn(waiting)
        return job

    def edit_many(
        self, image: PictureLike, targets: Iterable[str | EditOptions], **common: Unpack[EditOptions]
    ) -> list[JobHandle]:
        """Queue several edits of one picture. Its caption and its inversion are made once and shared.

        Args:
            image: as for `edit`.
            targets: target prompts, or the options in which one edit differs from the others.
            common: the options of all edits, without `idempotency_key`. All edits get the same random seed by default.

        Raises:
            InvalidRequest: one of the edits is not valid, or two have the same key; none is queued.
            BadPicture: as `edit`; none is queued.
            IdempotencyConflict, QueueFull, BrokerUnavailable, StoreUnavailable: as `edit`. The edits before the one
                that raised are queued, and the message has their ids.

        Warns:
            NoWorkerWarning: as `edit`.
        """
        if "idempotency_key" in common:
            raise InvalidRequest("idempotency_key: the same key for all edits gives one job; give each edit its own")
        if isinstance(targets, str | Mapping) or not isinstance(targets, Iterable):
            raise InvalidRequest("targets: give a list of target prompts; for a single one use edit()")
        targets = list(targets)
        if not all(isinstance(target, str | Mapping) for target in targets):
            raise InvalidRequest("targets: each one must be a target prompt, or a dict of options")
        edits = [EditOptions(target_prompt=target) if isinstance(target, str) else target for target in targets]
        jobs, waiting = self._queue(image, Artifact.RESULT, [{**common, **each} for each in edits])
        _warn(waiting)
        return jobs

    def preview_mask(self, image: PictureLike, **options: Unpack[EditOptions]) -> JobHandle:
        """Queue only the stages that find the mask. Arguments, errors and warnings as for `edit`.

        An edit with the same arguments and the same `seed` (`job.status().request.params.seed`) reuses this mask.
        """
        (job,), waiting = self._queue(image, Artifact.MASK, [options])
        _warn(waiting)
        return job

    def job(self, job_id: str) -> JobHandle:
        """Return the handle of a job that was submitted before, here or in another process. Sends no request.

        Raises:
            JobNotFound: no job has an id of this form.
        """
        if not (isinstance(job_id, str) and JOB_ID.fullmatch(job_id)):
            raise JobNotFound(job_id)
        return JobHandle(job_id, self._job_store, self._object_store, self._submit)

    def jobs(self, state: State | str | None = None, limit: int = 50) -> list[JobStatus]:
        """Return the newest `limit` jobs, newest first; with `state` ("failed") only jobs in that state.

        Records that cannot be read are left out. Jobs of a newer version are shown as far as this version knows them.

        Raises:
            InvalidRequest: there is no such state.
            BrokerUnavailable: the server does not answer.

        Warns:
            UnreadableJobsWarning: there are records that cannot be read; the text has their ids.
        """
        if state is not None and state not in list(State):
            raise InvalidRequest(f"state: {state!r} is none of {', '.join(State)}")
        page = self._job_store.list_jobs(State(state) if state else None, limit)
        if page.unreadable:
            text = f"the records of these jobs cannot be read: {', '.join(page.unreadable)}"
            warnings.warn(text, UnreadableJobsWarning, stacklevel=2)
        return page.statuses

    def collect_garbage(self, older_than: timedelta | str, *, dry_run: bool = False) -> Collected:
        """Delete old pictures, artifacts and results that no unfinished job needs.

        Args:
            older_than: the age from which on objects are deleted, such as "30d"; at least an hour.
            dry_run: delete nothing, only count.

        Raises:
            InvalidRequest: `older_than` is not a duration, or under an hour.
            BrokerUnavailable, StoreUnavailable: a service does not answer.
        """
        return collect(self._job_store, self._object_store, age(older_than), dry_run=dry_run)

    def health(self) -> Health:
        """Return whether the services answer, the live workers, and the length of each queue.

        An error of a service becomes a part of the answer and is not raised.
        """
        return check_health(self._backend, self._object_store, self._settings.profile)

    def _queue(self, image: PictureLike, goal: Artifact, edits: Sequence[EditOptions]) -> Queued:
        """Check all edits, then queue them. Return their jobs, and warnings if no live worker can run them."""
        with decoding_limits(self._settings.max_pixels):
            upload = image_upload(image)
            fleet = Fleet(self._backend.worker_registry, self._settings.profile)
            # With one seed, artifacts that depend on it are shared as well.
            seed = random_seed()
            submissions = [prepare(upload, goal, options, fleet, seed) for options in edits]
        check_keys(submissions)
        jobs: list[JobHandle] = []
        stored: set[str] = set()
        try:
            for submission in submissions:
                jobs.append(self._store_and_submit(submission, stored))
        except BaseException as error:
            if jobs:
                ids = ", ".join(job.id for job in jobs)
                add_remark(error, f"{len(jobs)} of {len(submissions)} edits were queued before and run: {ids}")
            raise
        return jobs, no_worker_warnings(submissions, fleet)

    def _store_and_submit(self, submission: Submission, stored: set[str]) -> JobHandle:
        store(submission.uploads, self._object_store, stored)
        return self._submit(
            submission.request, submission.options, submission.idempotency_key, submission.request_digest
        )

    def _submit(
        self, request: EditRequest, options: JobOptions, idempotency_key: str | None, request_digest: str
    ) -> JobHandle:
        job = Job(id=uuid.uuid4().hex, request=request, options=options)
        key = scoped_key(self._settings.namespace, idempotency_key)
        with taken_back(self._job_store, job.id, has_key=key is not None):
            first = self._job_store.create_job(job, key, request_digest, send=self._send is None)
            if self._send and first == job.id:
                self._send(job)
        return self.job(first)


def _warn(texts: Iterable[str]) -> None:
    """Issue the warnings with the line of the program that called a public method, which must call this itself."""
    for text in texts:
        warnings.warn(text, NoWorkerWarning, stacklevel=3)
