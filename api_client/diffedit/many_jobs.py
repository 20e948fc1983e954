"""The part of `Client` that submits and follows many jobs at once."""

import warnings
from abc import abstractmethod
from collections.abc import Callable, Generator, Iterable, Mapping
from functools import partial
from typing import Any, TypeVar, Unpack

from diffedit.blocking import iterate
from diffedit.bulk import (
    BulkEdits,
    Handle,
    Outcome,
    Row,
    check_limits,
    check_timeout,
    completed,
    ended,
)
from diffedit.engine import Engine
from diffedit.errors import DiffEditError, InvalidRequest, NoWorkerWarning
from diffedit.handle import JobHandle
from diffedit.management import JobManagement
from diffedit.options import EditOptions
from diffedit.result import EditResult
from diffedit.uploads import PictureLike

T = TypeVar("T")

QueuedEdit = tuple[JobHandle, list[str]]
"""A job that was queued, and the texts of warnings."""

PICTURES = ("image", "picture", "uploaded")
"""The names under which a row has its picture."""


class ManyJobs(JobManagement):
    """The part of `Client` that submits and follows many jobs at once. `AsyncClient` has the same methods."""

    def map(
        self, rows: Iterable[Row], in_flight: int = 64, *, timeout: float = 86_400, **common: Unpack[EditOptions]
    ) -> Generator[tuple[Row, Outcome], None, None]:
        """Edit each row in the background, and yield it with its result or its error as soon as it has ended.

        Rows come back in the order in which they end. At most `in_flight` of them are taken and not yet yielded, so the
        queue never holds more of them, and `rows` may be endless. They are taken while the caller waits for the next
        one, in its thread.

            rows = ({"picture": path, "target_prompt": "a bowl of pears"} for path in paths)
            for row, outcome in client.map(rows, lane="batch"):
                if isinstance(outcome, EditResult):
                    outcome.image.save(...)
                else:
                    print(row["picture"], outcome)

        A row that is refused or fails comes with its error; the others go on. While the queue is full (QueueFull,
        OwnerLimit) or a service does not answer, rows wait and are submitted again. An iterator that is closed early
        submits no further rows, and leaves the jobs that it has submitted as they are.

        Args:
            rows: mappings of keyword arguments of `edit`. "picture" or "image" is the picture, or "uploaded" its key.
            in_flight: how many rows are in work at once, 1 to 10,000.
            timeout: seconds that a row may take, from the first attempt to submit it to its end. Default: a day.
            common: options of all rows. Those of a row have priority.

        Returns:
            Each row with an `EditResult`, or with an error: InvalidRequest, BadPicture or UploadNotFound if it was
            refused; JobFailed, JobCancelled or JobExpired if its job did not succeed; JobTimeout if `timeout` was too
            short, and the job goes on; QueueFull, OwnerLimit, BrokerUnavailable or StoreUnavailable if they lasted
            until the timeout.

        Raises:
            InvalidRequest: `in_flight` or `timeout` is out of its range.
            ServiceError: one that is not retryable, such as StoreRefused, because it would be that of each row.

        Warns:
            NoWorkerWarning: as `edit`, once.
        """
        check_limits(in_flight, timeout)
        return self._map(rows, in_flight, timeout, common, lambda _, result: result)

    def as_completed(self, jobs: Iterable[Handle], *, timeout: float = 86_400) -> Generator[Handle, None, None]:
        """Yield each job when it has ended, however it ended. One request asks for all of them.

        Args:
            jobs: handles of jobs; each is yielded once.
            timeout: seconds until the last of them must have ended. Default: a day.

        Raises:
            JobTimeout: a job has not ended in time.
            BrokerUnavailable: the server has not answered until the timeout.
        """
        check_timeout(timeout)
        return iterate((), lambda _, engine: ended(completed(jobs, engine, self.job, timeout)), self._make_engine)

    def results(
        self, jobs: Iterable[Handle], *, timeout: float = 86_400
    ) -> Generator[tuple[Handle, Outcome], None, None]:
        """Yield each job with its result or its error when it has ended, as `map` does with rows.

        Args:
            jobs: handles of jobs, such as those of `edit_many`.
            timeout: seconds until the last of them must have ended. Default: a day. Others then come with JobTimeout.
        """
        check_timeout(timeout)
        return iterate((), lambda _, engine: completed(jobs, engine, self.job, timeout), self._make_engine)

    def _map(
        self,
        rows: Iterable[Row],
        in_flight: int,
        timeout: float,
        common: EditOptions,
        finish: Callable[[Row, EditResult], T],
    ) -> Generator[tuple[Row, T | DiffEditError], None, None]:
        """As `map`, with what `finish` makes of each result. It is called in threads, and may take its time."""
        edits = self._bulk_edits(common, timeout)
        return iterate(rows, lambda items, engine: edits(engine).map(items, in_flight, finish), self._make_engine)

    def _bulk_edits(self, common: EditOptions, timeout: float) -> Callable[[Engine], BulkEdits]:
        return lambda engine: BulkEdits(engine, partial(self._submit_row, common, set()), timeout)

    def _make_engine(self) -> Engine:
        return Engine(self._job_store.statuses, self._settings.max_connections // 2)

    def _submit_row(self, common: EditOptions, warned: set[str], row: Mapping[str, Any]) -> JobHandle:
        if not isinstance(row, Mapping):
            raise InvalidRequest(f"a row must be a mapping of keyword arguments of edit; got a {type(row).__name__}")
        given = {name: row[name] for name in PICTURES if row.get(name) is not None}
        if len(given) != 1:
            raise InvalidRequest(f"a row needs one of {', '.join(PICTURES)}; got {', '.join(given) or 'none'}")
        uploaded = given.pop("uploaded", None)
        options: Any = {**common, **{name: value for name, value in row.items() if name not in PICTURES}}
        job, waiting = self._edit(next(iter(given.values()), None), uploaded, options)
        for text in waiting:
            if text not in warned:
                warned.add(text)
                warnings.warn(NoWorkerWarning(text), stacklevel=2)
        return job

    @abstractmethod
    def job(self, job_id: str) -> JobHandle:
        """Return the handle of a job."""

    @abstractmethod
    def _edit(self, image: PictureLike | None, uploaded: str | None, options: EditOptions) -> QueuedEdit:
        """Queue an edit. Return its job, and warnings if no live worker can run it."""
