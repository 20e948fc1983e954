"""A submitted job and its result, for programs with asyncio."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TypeVar

from diffedit.async_calls import Asynchronous, AsyncMethod, forwarded
from diffedit.contract.job import JobStatus
from diffedit.errors import JobNotFound
from diffedit.handle import JobHandle, raise_unless_succeeded
from diffedit.result import EditResult

R = TypeVar("R")


def _read(attribute: Callable[[EditResult], R]) -> AsyncMethod[[], R]:
    """Return a coroutine method that reads an attribute of the result in a thread."""
    return forwarded(attribute)


class AsyncEditResult(Asynchronous[EditResult]):
    """The artifacts of a job that succeeded. Each is downloaded at its first use, in a thread, and then kept.

    Every attribute of `EditResult` is a coroutine method here: `(await result.image()).size`. Errors are the same.
    """

    @property
    def status(self) -> JobStatus:
        """The last status of the job."""
        return self._blocking.status

    original = _read(lambda result: result.original)
    """The picture that was submitted, as `EditResult.original`."""
    image = _read(lambda result: result.image)
    """The edited picture, as `EditResult.image`."""
    thumbnail = _read(lambda result: result.thumbnail)
    """The edited picture as a thumbnail, as `EditResult.thumbnail`."""
    mask = _read(lambda result: result.mask)
    """The mask, as `EditResult.mask`."""
    caption = _read(lambda result: result.caption)
    """The text that describes the original, as `EditResult.caption`."""
    prompts = _read(lambda result: result.prompts)
    """The sentences before and after the edit, as `EditResult.prompts`."""
    manifest = _read(lambda result: result.manifest)
    """Everything that is needed to make the result again, as `EditResult.manifest`."""
    grid = forwarded(EditResult.grid)
    """Return the original, the mask and the result side by side, as `EditResult.grid`."""
    file = forwarded(EditResult.file)
    """Return a picture of the job as a file, as `EditResult.file`."""
    url = forwarded(EditResult.url)
    """Return a URL of the result that anyone can open for a while, as `EditResult.url`."""
    save = forwarded(EditResult.save)
    """Write the result, the mask, the grid and the manifest into a directory, as `EditResult.save`."""


class AsyncJobHandle(Asynchronous[JobHandle]):
    """A submitted job. `AsyncClient.job(id)` makes the same handle in another process.

    The methods are those of `JobHandle`, with the same arguments and errors, as coroutines.
    """

    @property
    def id(self) -> str:
        """32 hex digits."""
        return self._blocking.id

    def __repr__(self) -> str:
        return f"AsyncJobHandle({self.id!r})"

    status = forwarded(JobHandle.status)
    """Return the status of the job, as `JobHandle.status`."""

    async def watch(self, timeout: float = 600, heartbeat: float | None = None) -> AsyncGenerator[JobStatus, None]:
        """Yield the status now and at every change, up to and including the terminal one.

        All jobs that are watched in one event loop are polled together, in one request: each every 0.05 s after a
        change, then less and less often, down to once a second. Who takes statuses more slowly than they change gets
        the newest one, and never misses the terminal one. Polling stops when nobody watches any more.

        Args:
            timeout: seconds, 600 by default.
            heartbeat: seconds after which the last status (the same object) is yielded again if nothing has changed, so
                that a server notices whether anybody still listens. Default: never.

        Raises:
            JobTimeout: the job has not ended after `timeout` seconds.
            JobNotFound: there is no record of this job.
            BadRecord: the record cannot be read.
            BrokerUnavailable: the server has not answered for 30 seconds, or until `timeout`.
            InvalidRequest: `timeout` is NaN, or `heartbeat` is not positive.
        """
        async with aclosing(self._engine().watchers.changes(self.id, timeout, heartbeat)) as changes:
            try:
                async for status in changes:
                    yield self._blocking._own(status)
            except JobNotFound as error:
                raise await self._engine().threads.run(self._blocking._absence) from error

    async def wait(self, timeout: float = 600) -> JobStatus:
        """Wait until the job has succeeded, and return its status.

        Args:
            timeout: seconds, 600 by default.

        Raises:
            JobFailed, JobCancelled, JobExpired: the job ended in another way.
            JobTimeout: the job has not ended after `timeout` seconds. It goes on.
            JobNotFound, BadRecord, BrokerUnavailable: as `watch`.
        """
        (status,) = [status async for status in self.watch(timeout) if status.is_terminal]
        raise_unless_succeeded(status)
        return status

    async def result(self, timeout: float = 600) -> AsyncEditResult:
        """Wait until the job has succeeded, and return its result. Arguments and errors as for `wait`."""
        return AsyncEditResult(self._blocking._result_of(await self.wait(timeout)), self._engine)

    preview = forwarded(JobHandle.preview)
    """Return a small picture of the edit as it forms, as `JobHandle.preview`."""
    result_so_far = forwarded(JobHandle.result_so_far, lambda result, engine: AsyncEditResult(result, engine))
    """Return what the job has made so far, without waiting for more, as `JobHandle.result_so_far`."""
    cancel = forwarded(JobHandle.cancel)
    """Cancel the job, as `JobHandle.cancel`."""
    delete = forwarded(JobHandle.delete)
    """Delete the job and what no other job uses, as `JobHandle.delete`."""
    resend_webhook = forwarded(JobHandle.resend_webhook)
    """Send the last event of the job to its webhook again, as `JobHandle.resend_webhook`."""
    retry = forwarded(JobHandle.retry, lambda job, engine: AsyncJobHandle(job, engine))
    """Submit the same request again as a new job, as `JobHandle.retry`."""
