"""The client for programs with an event loop, such as FastAPI's: the same names, awaited.

    async with AsyncClient.from_env() as client:
        job = await client.edit("bowl.png", source_prompt="a bowl of fruits", target_prompt="a bowl of pears")
        async for status in job.watch(heartbeat=15):
            print(status.state, status.progress)
        result = await job.result()
        (await result.image()).save("edited.png")

Calls are those of `Client`, made in threads. Waiting is not: one request asks for all jobs that are waited for.
"""

import asyncio
import copy
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from functools import partial
from typing import Self, Unpack

from diffedit.async_admin import AsyncAdmin
from diffedit.async_calls import Asynchronous, forwarded
from diffedit.async_handle import AsyncEditResult, AsyncJobHandle
from diffedit.bulk import Handle, Outcome, Row, check_limits, check_timeout, completed, ended, taken_in_threads
from diffedit.client import Client
from diffedit.engine import Engine
from diffedit.errors import DiffEditError
from diffedit.forks import PerProcess
from diffedit.jobs.backend import JobBackend
from diffedit.objects.store import ObjectStore
from diffedit.options import EditOptions
from diffedit.recording import Send
from diffedit.result import EditResult
from diffedit.settings import Settings

AsyncOutcome = AsyncEditResult | DiffEditError
"""What came of a row: its result, or the error of its submission or of its job."""


class AsyncClient(Asynchronous[Client]):
    """Submits jobs through Redis and S3, for programs with an event loop. The methods are those of `Client`.

    One client for each process is enough. It is an asynchronous context manager. Calls run in threads of its own, half
    as many as `Settings.max_connections`; a call that finds no thread free for 60 s raises `ClientBusy`.

    A task that is cancelled while it awaits a call does not interrupt the call: it is made to its end if it has begun,
    and not made if it has not. Who needs to know calls `edit` again with the same `idempotency_key`.

        async with AsyncClient.from_env() as client:
            job = await client.edit("bowl.png", target_prompt="a bowl of pears")
            await job.wait()
    """

    def __init__(
        self,
        settings: Settings,
        *,
        backend: JobBackend | None = None,
        object_store: ObjectStore | None = None,
        send: Send | None = None,
    ) -> None:
        """Make a client. Nothing is connected yet. Arguments as for `Client`."""
        self._wrap(Client(settings, backend=backend, object_store=object_store, send=send))

    @classmethod
    def over(cls, client: Client) -> Self:
        """Return an asynchronous client that makes the calls of this one, over its connections."""
        over = cls.__new__(cls)
        over._wrap(client)
        return over

    @classmethod
    def from_env(cls) -> Self:
        """Return a client of the services that the environment names.

        Raises:
            InvalidRequest: a variable has a value that is not valid.
        """
        return cls.over(Client.from_env())

    def _wrap(self, client: Client) -> None:
        make = partial(Engine, client._job_store.statuses, client._settings.max_connections // 2)
        super().__init__(client, PerProcess(make))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Wait for the calls that were made, then end the threads and close all connections.

        The client, its jobs and its results remain usable: they connect again when they need to.
        """
        await self._engine().close()
        await asyncio.to_thread(self._blocking.close)

    def for_owner(self, owner: str) -> Self:
        """Return a client for which the jobs of others do not exist, as `Client.for_owner`. It shares all else.

        Raises:
            InvalidRequest: this is no valid owner, or this client is another owner's.
        """
        view = copy.copy(self)
        view._blocking = self._blocking.for_owner(owner)
        return view

    edit = forwarded(Client.edit, AsyncJobHandle)
    """Queue an edit of a picture, as `Client.edit`. Return an `AsyncJobHandle`."""
    edit_many = forwarded(Client.edit_many, lambda jobs, engine: [AsyncJobHandle(job, engine) for job in jobs])
    """Queue several edits of one picture, as `Client.edit_many`. Return a list of `AsyncJobHandle`."""
    preview_mask = forwarded(Client.preview_mask, AsyncJobHandle)
    """Queue only the stages that find the mask, as `Client.preview_mask`. Return an `AsyncJobHandle`."""

    async def map(
        self, rows: Iterable[Row], in_flight: int = 64, *, timeout: float = 86_400, **common: Unpack[EditOptions]
    ) -> AsyncGenerator[tuple[Row, AsyncOutcome], None]:
        """Edit each row in the background, and yield it with its result or its error, as `Client.map`.

        Rows are taken in a thread, one at a time. Close the generator (`contextlib.aclosing`) if you leave it early.
        """
        check_limits(in_flight, timeout)
        engine = self._engine()
        edits = self._blocking._bulk_edits(common, timeout)(engine)
        items = taken_in_threads(rows, engine)
        async with aclosing(items), aclosing(edits.map(items, in_flight, lambda _, result: result)) as outcomes:
            async for row, outcome in outcomes:
                yield row, self._outcome(outcome)

    async def as_completed(self, jobs: Iterable[Handle], *, timeout: float = 86_400) -> AsyncGenerator[Handle, None]:
        """Yield each job when it has ended, as `Client.as_completed`."""
        check_timeout(timeout)
        async with aclosing(ended(completed(jobs, self._engine(), self._blocking.job, timeout))) as handles:
            async for job in handles:
                yield job

    async def results(
        self, jobs: Iterable[Handle], *, timeout: float = 86_400
    ) -> AsyncGenerator[tuple[Handle, AsyncOutcome], None]:
        """Yield each job with its result or its error when it has ended, as `Client.results`."""
        check_timeout(timeout)
        async with aclosing(completed(jobs, self._engine(), self._blocking.job, timeout)) as outcomes:
            async for job, outcome in outcomes:
                yield job, self._outcome(outcome)

    def _outcome(self, outcome: Outcome) -> AsyncOutcome:
        return AsyncEditResult(outcome, self._engine) if isinstance(outcome, EditResult) else outcome

    upload_url = forwarded(Client.upload_url)
    """Return a request with which a browser sends a picture straight to the bucket, as `Client.upload_url`."""

    def job(self, job_id: str) -> AsyncJobHandle:
        """Return the handle of a job that was submitted before, here or in another process. Sends no request.

        Raises:
            JobNotFound: no job has an id of this form.
        """
        return AsyncJobHandle(self._blocking.job(job_id), self._engine)

    @property
    def admin(self) -> AsyncAdmin:
        """What an administrator of the fleet sees and does, as `Client.admin`.

        Raises:
            InvalidRequest: this client is an owner's.
        """
        return AsyncAdmin(self._blocking.admin, self._engine)

    jobs = forwarded(Client.jobs)
    """Return the newest jobs, as `Client.jobs`."""
    add_api_key = forwarded(Client.add_api_key)
    """Make an API key, as `Client.add_api_key`."""
    api_keys = forwarded(Client.api_keys)
    """Return what is known of all API keys, as `Client.api_keys`."""
    revoke_api_key = forwarded(Client.revoke_api_key)
    """Forget an API key, as `Client.revoke_api_key`."""
    admit = forwarded(Client.admit)
    """Count a request with an API key, as `Client.admit`."""
    webhook_secrets = forwarded(Client.webhook_secrets)
    """Return the secrets with which webhooks are signed, as `Client.webhook_secrets`."""
    delete_owner = forwarded(Client.delete_owner)
    """Delete all jobs of an owner, as `Client.delete_owner`."""
    owner_limits = forwarded(Client.owner_limits)
    """Return the limits that are in force for an owner, as `Client.owner_limits`."""
    set_owner_limits = forwarded(Client.set_owner_limits)
    """Set the limits of an owner, as `Client.set_owner_limits`."""
    usage = forwarded(Client.usage)
    """Return what jobs have used, as `Client.usage`."""
    check_profile = forwarded(Client.check_profile)
    """Raise UnknownProfile if no worker serves this profile and none ever did, as `Client.check_profile`."""
    restore = forwarded(Client.restore)
    """Record jobs again that Redis has lost, as `Client.restore`."""
    collect_garbage = forwarded(Client.collect_garbage)
    """Delete old pictures, artifacts and results, as `Client.collect_garbage`."""
    health = forwarded(Client.health)
    """Return whether the services answer, and more, as `Client.health`."""
