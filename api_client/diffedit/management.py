"""What a client does with jobs that were submitted before, and with what they have left."""

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

from pydantic import TypeAdapter, ValidationError

from diffedit.admin import Admin
from diffedit.api_keys import DEFAULT_RATE, Admission, ApiKey, NewApiKey, add_key, admit
from diffedit.contract.job import State
from diffedit.contract.owners import MAX_OWNER, Owner, OwnerLimits
from diffedit.contract.usage import Usage, UsageKey
from diffedit.deletion import Deleted, delete_jobs_of
from diffedit.errors import InvalidRequest, UnknownProfile, UnreadableJobsWarning
from diffedit.garbage import Collected, age, collect
from diffedit.health import Health, check_health
from diffedit.jobs.backend import JobBackend
from diffedit.jobs.pages import Page, TagFilter, checked_tag
from diffedit.objects.store import ObjectStore
from diffedit.restoring import Moment, Restored, moment, restore
from diffedit.settings import Settings
from diffedit.usage import usage_of
from diffedit.warned import warn
from diffedit.webhooks.signing import secrets_of

_OWNER = TypeAdapter[str](Owner)


def checked_owner(owner: Any) -> str:
    """Return an owner that is valid. Raises InvalidRequest."""
    try:
        return _OWNER.validate_python(owner)
    except ValidationError:
        raise InvalidRequest(f"owner: give a text of 1 to {MAX_OWNER} printable characters") from None


class JobManagement:
    """The part of `Client` that submits nothing."""

    def __init__(self, settings: Settings, backend: JobBackend, object_store: ObjectStore) -> None:
        self._settings = settings
        self._backend = backend
        self._job_store = backend.job_store
        self._object_store = object_store
        self._owner: str | None = None

    def webhook_secrets(self, owner: str | None = None) -> list[str]:
        """Return the secrets with which webhooks of an owner are signed, the newest first; default: of nobody's jobs.

        Each is `whsec_` and Base64, as libraries of Standard Webhooks take it. Give it to the receiver, and to no other
        owner. There are several while `DIFFEDIT_WEBHOOK_SECRETS` names several. Sends no request.

        Raises:
            InvalidRequest: `DIFFEDIT_WEBHOOK_SECRETS` is not set or not valid, or this client is another owner's.
        """
        secret = self._settings.webhook_secrets
        whose = self._require_owner(None if owner is None else checked_owner(owner))
        return secrets_of(secret.get_secret_value() if secret else None, whose)

    def jobs(
        self,
        state: State | str | None = None,
        limit: int = 50,
        *,
        owner: str | None = None,
        tag: TagFilter | None = None,
        cursor: str | None = None,
    ) -> Page:
        """Return the newest `limit` jobs, newest first: a list of their statuses, with the `cursor` of the next page.

        Records that cannot be read are left out. Jobs of a newer version are shown as far as this version knows them.

            page = client.jobs(tag=("album", "9"))
            while page:
                ...
                page = client.jobs(tag=("album", "9"), cursor=page.cursor) if page.cursor else None

        Args:
            state: only jobs in this state, such as "failed".
            limit: jobs at most.
            owner: only jobs of this owner.
            tag: only jobs with a tag of this name ("album"), or of this name and value (("album", "9")).
            cursor: the `cursor` of the page before. Jobs that are submitted meanwhile do not move the pages.

        Raises:
            InvalidRequest: there is no such state, no page had this cursor, or this client is another owner's.
            BrokerUnavailable: the server does not answer.

        Warns:
            UnreadableJobsWarning: there are records that cannot be read; the text has their ids.
        """
        if state is not None and state not in list(State):
            raise InvalidRequest(f"state: {state!r} is none of {', '.join(State)}")
        owner, tag = self._require_owner(owner), checked_tag(tag)
        page = self._job_store.list_jobs(State(state) if state else None, limit, owner=owner, tag=tag, cursor=cursor)
        if page.unreadable:
            text = f"the records of these jobs cannot be read: {', '.join(page.unreadable)}"
            warn(UnreadableJobsWarning(text), stacklevel=2)
        return Page(page.statuses, cursor=page.cursor, unreadable=page.unreadable)

    def delete_owner(self, owner: str) -> Deleted:
        """Delete all jobs of an owner: their records, and the pictures, artifacts and results that no other job uses.

        Jobs that have not ended are cancelled first. Limits of the owner stay. Do not submit for this owner meanwhile.
        All records are read once, so it takes longer the more there are.

        Returns:
            How many jobs and objects were deleted.

        Raises:
            InvalidRequest: this client is another owner's.
            BrokerUnavailable, StoreUnavailable: a service does not answer. Call it again.
        """
        return delete_jobs_of(self._job_store, self._object_store, self._require_owner(checked_owner(owner)) or owner)

    def owner_limits(self, owner: str | None = None) -> OwnerLimits:
        """Return the limits that are in force for an owner; without one, those of owners that have none of their own.

        Raises:
            BrokerUnavailable: the server does not answer.
        """
        owner = self._require_owner(owner)
        own = self._job_store.owner_limits(owner) if owner is not None else None
        return own or self._job_store.owner_limits(None) or OwnerLimits()

    def set_owner_limits(self, owner: str | None = None, limits: OwnerLimits | None = None) -> None:
        """Set the limits of an owner, instead of all that it had. Jobs that wait already stay.

        Args:
            owner: whose; None for all owners that have none of their own. Jobs without an owner have no limits.
            limits: the limits. None deletes those of the owner, so that those of all others are in force.

        Raises:
            InvalidRequest: this client is an owner's.
            BrokerUnavailable: the server does not answer.
        """
        self._require_all("set_owner_limits")
        self._job_store.set_owner_limits(self._require_owner(owner), limits)

    def usage(
        self,
        since: timedelta | date | str = "30d",
        *,
        by: UsageKey | Sequence[UsageKey] = "owner",
        owner: str | None = None,
    ) -> list[Usage]:
        """Return what jobs have used: seconds of the device, ended jobs, pixels. The largest comes first, after days.

            for each in client.usage("7d", by=("owner", "day")):
                print(each.day, each.owner, each.gpu_seconds, each.jobs)

        Days begin at midnight UTC, by the clock of the Redis server. They are kept for 400 days.

        Args:
            since: how long ago the first day is ("30d"), or the first day (`date`, "2026-01-31").
            by: what to add up by: "owner", "profile", "day", or several of them.
            owner: only jobs of this owner. A client of one owner sees only its own.

        Raises:
            InvalidRequest: an argument is not valid, or this client is another owner's.
            BrokerUnavailable: the server does not answer.
        """
        return usage_of(self._job_store, since, by, self._require_owner(owner))

    def add_api_key(self, owner: str, *, name: str = "", rate: int = DEFAULT_RATE) -> NewApiKey:
        """Make an API key, with which a program uses the HTTP API as this owner (`diffedit serve`).

        Args:
            owner: whose jobs the key makes and sees.
            name: what the key is for, for people.
            rate: requests a minute.

        Raises:
            InvalidRequest: an argument is not valid, or this client is an owner's.
            BrokerUnavailable: the server does not answer.
        """
        self._require_all("add_api_key")
        return add_key(self._backend.api_keys, owner, name, rate)

    def api_keys(self) -> list[ApiKey]:
        """Return what is known of all API keys, the oldest first.

        Raises:
            InvalidRequest: this client is an owner's.
            BrokerUnavailable: the server does not answer.
        """
        self._require_all("api_keys")
        return list(self._backend.api_keys.list())

    def revoke_api_key(self, key_id: str) -> bool:
        """Forget an API key. The next request with it is refused. Returns whether there was one of this id.

        Raises:
            InvalidRequest: this client is an owner's.
            BrokerUnavailable: the server does not answer.
        """
        self._require_all("revoke_api_key")
        return self._backend.api_keys.revoke(key_id)

    def admit(self, api_key: str) -> Admission:
        """Count a request with an API key, for a server that speaks for its owner.

        Raises:
            InvalidKey: there is no such key, or it was revoked.
            RateLimited: too many requests come with it.
            InvalidRequest: this client is an owner's.
            BrokerUnavailable: the server does not answer.
        """
        self._require_all("admit")
        return admit(self._backend.api_keys, api_key)

    def collect_garbage(self, older_than: timedelta | str, *, dry_run: bool = False) -> Collected:
        """Delete old pictures, artifacts and results that no unfinished job needs.

        Args:
            older_than: the age from which on objects are deleted, such as "30d"; at least an hour.
            dry_run: delete nothing, only count.

        Raises:
            InvalidRequest: `older_than` is not a duration, or under an hour; or this client is an owner's.
            BrokerUnavailable, StoreUnavailable: a service does not answer.
        """
        self._require_all("collect_garbage")
        return collect(self._job_store, self._object_store, age(older_than), dry_run=dry_run)

    def restore(self, since: Moment, until: Moment | None = None, *, dry_run: bool = False) -> Restored:
        """Record those jobs again that had not ended when Redis lost its data. They run, under their own ids.

        Each submission has a copy in the bucket until its job has ended. A job that is recorded stays as it is, so this
        can be interrupted and repeated. Time limits run since the submission. No limit of an owner or of the queue
        refuses a job. A job that ended in the last seconds before the loss may run again.

        Args:
            since: only jobs that were submitted after this time, such as "2h" (ago), a `timedelta`, or a date.
            until: only jobs that were submitted before this time. Default: all.
            dry_run: record nothing, only count.

        Raises:
            InvalidRequest: `since` or `until` is no time; or this client is an owner's.
            BrokerUnavailable, StoreUnavailable: a service does not answer. Call it again.
        """
        self._require_all("restore")
        first, last = moment(since, "since"), None if until is None else moment(until, "until")
        return restore(self._job_store, self._object_store, first, last, dry_run=dry_run)

    def health(self) -> Health:
        """Return whether the services answer, the live workers, and the length of each queue.

        An error of a service becomes a part of the answer and is not raised.
        """
        return check_health(self._backend, self._object_store, self._settings.profile)

    @property
    def admin(self) -> Admin:
        """What an administrator of the fleet sees and does: queues, workers, and jobs of all owners.

        Raises:
            InvalidRequest: this client is an owner's.
        """
        self._require_all("admin")
        return Admin(self._backend, self._object_store, self._settings.retention, self.check_profile)

    def check_profile(self, profile: str) -> None:
        """Raise UnknownProfile if no worker serves this profile, and none ever did.

        `edit` queues such a job, and warns, because a worker may start later. A program that shows its users no
        warnings can ask here first. The profile of the settings is always known.

        Raises:
            UnknownProfile: nobody has ever announced this profile. The message lists the served ones.
            BrokerUnavailable: the server does not answer.
        """
        registry = self._backend.worker_registry
        if profile == self._settings.profile or registry.has_announced(profile):
            return
        served = sorted({worker.profile for worker in registry.workers()})
        if profile not in served:  # workers of 0.2.0 announce it in their heartbeat only
            raise UnknownProfile(
                f"profile: no worker serves {profile!r} or ever did; now served: {', '.join(served) or 'nothing'}"
            )

    def _require_owner(self, owner: str | None) -> str | None:
        """Return this client's owner, or the one that is asked for. Raises InvalidRequest if it is another one."""
        if self._owner is not None and owner not in (None, self._owner):
            raise InvalidRequest("owner: this client is another owner's; use the one that it was made from")
        if self._owner is None and owner is not None:
            return checked_owner(owner)
        return self._owner

    def _require_all(self, method: str) -> None:
        if self._owner is not None:
            raise InvalidRequest(f"{method} is not about one owner; call it on the client that this one was made from")
