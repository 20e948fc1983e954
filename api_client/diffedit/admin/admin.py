"""What an administrator of a fleet does from a program. `diffedit admin` does the same from a terminal."""

import functools
from collections.abc import Callable, Iterable
from typing import Unpack

from diffedit.admin import changes
from diffedit.admin.explain import explain
from diffedit.admin.models import Changed, Explanation, QueueState
from diffedit.admin.queues import queue_states, selected
from diffedit.admin.selection import JobQuery, filter_of, ids_of
from diffedit.contract.job import State
from diffedit.contract.owners import OwnerLimits
from diffedit.contract.stages import Lane, ModelGroup
from diffedit.contract.validation import JOB_ID
from diffedit.errors import InvalidRequest, JobNotFound
from diffedit.jobs.backend import JobBackend
from diffedit.jobs.pages import Page
from diffedit.jobs.workers import WorkerInfo
from diffedit.objects.store import ObjectStore
from diffedit.submission_copies import explaining_absence

FIRST_WITH_DRAIN = 2
"""The contract from which on a worker can be asked to drain."""


class Admin:
    """The methods for administrators: `client.admin`.

    All methods raise BrokerUnavailable if Redis does not answer. A method with `dry_run=True` says what it would do,
    and changes nothing. What is done to many jobs is done to one after the other. After an error or an interruption,
    the same call goes on with the others.
    """

    def __init__(
        self, backend: JobBackend, object_store: ObjectStore, retention: int, check_profile: Callable[[str], None]
    ) -> None:
        """Use `Client.admin`."""
        self._backend = backend
        self._job_store = backend.job_store
        self._object_store = object_store
        self._copies = changes.Copies(object_store, retention)
        self._check_profile = check_profile

    def queues(self) -> list[QueueState]:
        """Return all queues that a worker reads, that a job ever waited in, or that are paused; by profile."""
        return queue_states(self._backend)

    def workers(self) -> list[WorkerInfo]:
        """Return the live workers, by name."""
        return self._backend.worker_registry.workers()

    def pause(
        self,
        *,
        profile: str | None = None,
        group: ModelGroup | str | None = None,
        lane: Lane | str | None = None,
        reason: str,
        dry_run: bool = False,
    ) -> list[str]:
        """Pause queues: no stage of theirs starts until `resume`. Stages that run go on, and jobs can be submitted.

        The pause is kept in Redis, so workers that start later obey it, too. Workers of 0.2.0 do not.

        Args:
            profile: the profile of the queues. Default: all profiles that have queues.
            group: "language" or "diffusion". Default: both.
            lane: "interactive" or "batch". Default: both.
            reason: why, for other administrators: 1 to 200 printable characters, not only spaces.
            dry_run: only return the names.

        Returns:
            The names of the paused queues.

        Raises:
            InvalidRequest: an argument is not valid.
            UnknownProfile: nobody has ever announced this profile.
        """
        if not (isinstance(reason, str) and len(reason) <= 200 and reason.isprintable() and reason.strip()):
            raise InvalidRequest("reason: say why in 1 to 200 printable characters")
        if profile is not None:
            self._check_profile(profile)
        names = selected(self.queues(), profile, group, lane)
        if not dry_run:
            self._job_store.pause_queues(names, reason)
        return names

    def resume(
        self,
        *,
        profile: str | None = None,
        group: ModelGroup | str | None = None,
        lane: Lane | str | None = None,
        dry_run: bool = False,
    ) -> list[str]:
        """End the pause of queues. Arguments as for `pause`.

        Returns:
            The names of the queues that were paused.

        Raises:
            InvalidRequest: an argument is not valid.
        """
        paused = self._job_store.paused_queues()
        names = [name for name in selected(self.queues(), profile, group, lane) if name in paused]
        if not dry_run:
            self._job_store.resume_queues(names)
        return names

    def drain(self, worker: str, *, dry_run: bool = False) -> list[str]:
        """Let a worker take no more messages, end when its running stages have ended, and exit with status 0.

        The worker learns of it with its next heartbeat, after a fifth of `DIFFEDIT_WORKER_TTL` at most. If its
        supervisor starts it again, the new process takes jobs.

        Args:
            worker: its name ("gpu-3@host"), the part before the "@", or its id.

        Returns:
            The names of the workers, several if the same part before the "@" is there on several hosts.

        Raises:
            InvalidRequest: there is no such live worker, or it is of 0.2.0, which cannot drain: send it SIGTERM.
        """
        workers = self.workers()
        meant = [each for each in workers if worker in (each.name, each.name.partition("@")[0], each.id)]
        if not meant:
            names = ", ".join(each.name for each in workers)
            raise InvalidRequest(f"worker: no live worker is named {worker!r}; live: {names or 'none'}")
        old = [each.name for each in meant if each.contract < FIRST_WITH_DRAIN]
        if old:
            raise InvalidRequest(f"worker: {', '.join(old)} of 0.2.0 cannot drain; send the process SIGTERM")
        if not dry_run:
            self._backend.worker_registry.request_drain([each.id for each in meant])
        return [each.name for each in meant]

    def jobs(self, limit: int = 50, cursor: str | None = None, **query: Unpack[JobQuery]) -> Page:
        """Return the newest `limit` jobs of a query, newest first, as `Client.jobs`. It reads indexes, not all records.

        Args:
            limit: jobs at most.
            cursor: the `cursor` of the page before.
            query: `state`, `code`, `stage`, `profile`, `owner`, `tag`, `since`, `older_than`, as in `JobQuery`.

        Raises:
            InvalidRequest: an argument is not valid.
        """
        page = self._job_store.find_jobs(filter_of(query, self._job_store.now), limit, cursor)
        return Page(page.statuses, cursor=page.cursor, unreadable=page.unreadable)

    def retry(
        self,
        *ids: str,
        no_deadline: bool = False,
        limit: int | None = None,
        dry_run: bool = False,
        **query: Unpack[JobQuery],
    ) -> list[Changed]:
        """Let jobs that failed, were cancelled or have expired start over under their ids.

        A job waits as if it were new, and finds the artifacts that exist. Its time of submission, its idempotency key
        and its webhook stay; its events get ids of their own. It may exceed `DIFFEDIT_MAX_QUEUED` and the `max_queued`
        of its owner.

        Args:
            ids: the jobs. Without ids, all jobs of the query; their `state` is "failed" unless it is given.
            no_deadline: drop the time limits of the jobs. Without it, a job whose limit is over is refused.
            limit: jobs of the query at most.
            dry_run: only say what would happen.
            query: as for `jobs`.

        Returns:
            The result for each job. A job is refused if it has not ended or has succeeded, if its picture is not in the
            bucket any more, or if its time limit is over.

        Raises:
            InvalidRequest: an argument is not valid, or there are neither ids nor a query.
            CannotChange, JobNotFound: the only id that was given was refused.
            BrokerUnavailable, StoreUnavailable: a service does not answer. The jobs before are changed.
        """
        exists = functools.cache(self._object_store.exists)

        def change(job_id: str) -> None:
            changes.retry_in_place(
                self._job_store, exists, self._copies, job_id, drop_time_limits=no_deadline, dry_run=dry_run
            )

        return self._change(ids, query, State.FAILED, limit, change)

    def cancel(
        self, *ids: str, limit: int | None = None, dry_run: bool = False, **query: Unpack[JobQuery]
    ) -> list[Changed]:
        """Cancel jobs: those with these ids, or all of a query that have not ended.

        Arguments and errors as for `retry`. Without ids and `state`, jobs that wait and jobs that run are cancelled.
        """

        def change(job_id: str) -> None:
            changes.cancel(self._job_store, job_id, dry_run=dry_run)

        if ids or "state" in query:
            return self._change(ids, query, State.QUEUED, limit, change)
        self._require_query(query)
        first = self._change((), query, State.QUEUED, limit, change)
        left = None if limit is None else limit - len(first)
        return first + (self._change((), query, State.RUNNING, left, change) if left is None or left > 0 else [])

    def move(
        self,
        *ids: str,
        to: str,
        limit: int | None = None,
        dry_run: bool = False,
        **query: Unpack[JobQuery],
    ) -> list[Changed]:
        """Let jobs that wait start over in another profile, under their ids. Artifacts of the old one are not used.

        All parameters stay, also those that were defaults of the old profile.

        Args:
            to: the profile. A worker must have announced it.
            query: as for `jobs`. `state` is "queued" unless it is given: jobs of which no stage has started.

        Returns:
            The result for each job. A job is refused if a worker runs it, or if it has ended.

        Raises:
            UnknownProfile: nobody has ever announced this profile.
            InvalidRequest, CannotChange, JobNotFound, BrokerUnavailable: as `retry`.
        """
        self._check_profile(to)
        workers = self.workers()

        def change(job_id: str) -> None:
            changes.move(self._job_store, workers, self._copies, job_id, to, dry_run=dry_run)

        return self._change(ids, query, State.QUEUED, limit, change)

    def why(self, job_id: str) -> Explanation:
        """Say in words what a job waits for, since when, and which workers could run it; or how it ended.

        Raises:
            JobNotFound: there is no record of this job. JobLost: because the server has lost its data.
            BadRecord: the record cannot be read.
        """
        with explaining_absence(_checked(job_id), self._job_store, self._object_store):
            return explain(self._backend, job_id)

    def owners(self) -> dict[str | None, OwnerLimits]:
        """Return the limits of each owner that has its own; under None those of all others, if there are any."""
        return self._job_store.all_owner_limits()

    def _change(
        self,
        ids: Iterable[str],
        query: JobQuery,
        state: State,
        limit: int | None,
        change: Callable[[str], object],
    ) -> list[Changed]:
        """Change the jobs with these ids, or those of the query, which has this state unless it names one."""
        named = list(dict.fromkeys(ids))

        def change_named(job_id: str) -> None:
            with explaining_absence(_checked(job_id), self._job_store, self._object_store):
                change(job_id)

        if named and query:
            raise InvalidRequest("name jobs by their ids or by what they have in common, not both")
        if len(named) == 1:
            change_named(named[0])
            return [Changed(id=named[0], done=True)]
        if named:
            return changes.each(named, change_named)
        self._require_query(query)
        wanted = filter_of({"state": state, **query}, self._job_store.now)
        return changes.each(ids_of(self._job_store, wanted, limit), change)

    @staticmethod
    def _require_query(query: JobQuery) -> None:
        if not any(value is not None for value in query.values()):
            raise InvalidRequest("name the jobs: by their ids, or by what they have in common, such as their state")


def _checked(job_id: str) -> str:
    if not (isinstance(job_id, str) and JOB_ID.fullmatch(job_id)):
        raise JobNotFound(job_id)
    return job_id
