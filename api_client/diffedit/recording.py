"""How checked submissions become jobs: what they need goes into the bucket, then they are recorded one by one."""

import functools
import math
import time
import uuid
from collections.abc import Callable, Sequence
from typing import NamedTuple

from diffedit import tracing
from diffedit.at_once import all_at_once
from diffedit.contract.job import Job, JobOptions
from diffedit.contract.object_keys import submission_key
from diffedit.contract.request import EditRequest
from diffedit.errors import DiffEditError, IdempotencyConflict, OwnerLimit, QueueFull
from diffedit.idempotency import scoped_key
from diffedit.jobs.store import JobStore
from diffedit.jobs.unsent import add_remark, taken_back, unrecorded_settled
from diffedit.objects.store import ObjectStore
from diffedit.settings import Settings
from diffedit.submission import attributes_of
from diffedit.submission_copies import encoded
from diffedit.tracing import ActiveSpan
from diffedit.uploads import Upload, store

Send = Callable[[Job], None]
ASKED_AGAIN = 60.0
"""Seconds after which the clock of the server is asked again."""
REFUSALS = (QueueFull, OwnerLimit, IdempotencyConflict)


class NewJob(NamedTuple):
    """A job that is about to be recorded.

    Attributes:
        job: the job.
        idempotency_key: the key as the job store knows it (`idempotency.scoped_key`), if there is one.
        request_digest: what a second call with this key must repeat.
        pixels: those of the picture, for the limit of its owner; None if they were checked before.
        span: what the trace knows of the submission, the parent of all that the job causes.
    """

    job: Job
    idempotency_key: str | None
    request_digest: str
    pixels: int | None
    span: ActiveSpan


class ServerClock:
    """The clock of the server, asked once a minute: each submission needs its time, and a round trip would slow it."""

    def __init__(self, ask: Callable[[], float]) -> None:
        self._ask = ask
        self._ahead, self._asked_at = 0.0, -math.inf

    def now(self) -> float:
        """Return the server's time, in seconds since 1970."""
        if time.monotonic() - self._asked_at > ASKED_AGAIN:
            self._ahead = self._ask() - time.monotonic()
            self._asked_at = time.monotonic()
        return self._ahead + time.monotonic()


class Recorder:
    """Records jobs.

    `send` puts a job into its queue; without it, the job store does so in the step in which it records the job.
    """

    def __init__(
        self, settings: Settings, job_store: JobStore, object_store: ObjectStore, send: Send | None = None
    ) -> None:
        self._settings = settings
        self._job_store = job_store
        self._object_store = object_store
        self._send = send
        self._clock = ServerClock(job_store.now)

    def new_job(
        self,
        request: EditRequest,
        options: JobOptions,
        idempotency_key: str | None,
        request_digest: str,
        pixels: int | None = None,
        *,
        began_at: int | None = None,
    ) -> NewJob:
        """Return a job with a new id, whose submission began at this time (`tracing.span`). Nothing is recorded yet."""
        span = tracing.begun_span("diffedit submit", began_at)
        options = options.model_copy(update={"traceparent": span.traceparent})
        key = scoped_key(self._settings.namespace, options.owner, idempotency_key)
        return NewJob(Job(id=uuid.uuid4().hex, request=request, options=options), key, request_digest, pixels, span)

    def record(self, new: Sequence[NewJob], uploads: Sequence[Upload] = ()) -> list[str]:
        """Store what these jobs need and what they ask for, all at once. Then record them in this order.

        Returns:
            Their ids, or those of the jobs that their keys name. If one raises, the error says which were recorded.
        """
        try:
            return self._store_and_record(new, uploads)
        finally:
            for each in new:
                each.span.end()

    def _store_and_record(self, new: Sequence[NewJob], uploads: Sequence[Upload]) -> list[str]:
        ids: list[str] = []
        with unrecorded_settled(self._job_store, [each.job.id for each in new]) as recorded:
            with new[0].span.current(), tracing.span("upload", "CLIENT"):
                self._store(new, uploads)
            try:
                for each in new:
                    recorded.add(each.job.id)
                    ids.append(self._record(each))
            except BaseException as error:
                if isinstance(error, REFUSALS):
                    recorded.remove(each.job.id)
                if ids:
                    add_remark(error, f"{len(ids)} of {len(new)} edits were queued before and run: {', '.join(ids)}")
                    if isinstance(error, DiffEditError):
                        error.queued = tuple(ids)
                raise
            recorded.intersection_update(ids)
        return ids

    def _store(self, new: Sequence[NewJob], uploads: Sequence[Upload]) -> None:
        """Store the pictures, and a copy of each submission, from which the job can be restored."""
        now, retention, put = self._clock.now(), self._settings.retention, self._object_store.put
        calls = [functools.partial(store, upload, self._object_store) for upload in uploads]
        for place, (job, key, digest, *_) in enumerate(new):
            # Jobs that are submitted together keep their order.
            copy = encoded(job, retention, now + place * 1e-6, key, digest)
            calls.append(functools.partial(put, submission_key(job.id), copy))
        all_at_once(calls)

    def _record(self, new: NewJob) -> str:
        """Record the job and send its message. Return its id, or that of the job that its key names."""
        job, key, digest, pixels, span = new
        with (
            span.current(),
            tracing.span("enqueue", "PRODUCER"),
            taken_back(self._job_store, job.id, has_key=key is not None),
        ):
            first = self._job_store.create_job(job, key, digest, pixels=pixels, send=self._send is None)
            if self._send and first == job.id:
                self._send(job)
        span.set(attributes_of(first, job.request, job.options))
        return first
