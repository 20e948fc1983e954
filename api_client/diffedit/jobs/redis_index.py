"""Removal of jobs, owners and their limits, and which objects nobody needs, in Redis or Valkey."""

import secrets
from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import date
from typing import cast

from pydantic import ValidationError

from diffedit.contract.owners import OwnerLimits
from diffedit.contract.usage import Usage
from diffedit.errors import JobNotFound
from diffedit.jobs import keys
from diffedit.jobs.index import RemovedJob
from diffedit.jobs.record_objects import object_keys_in, unused_of
from diffedit.jobs.redis_listing import RedisListing
from diffedit.jobs.redis_server import translate_errors
from diffedit.jobs.usage_entries import usage_in

_PAGE = 500
MOST_SIBLINGS = 1000
"""Jobs with the same picture that `remove_job` looks at. If there are more, garbage collection looks for them."""
_ALL_OTHERS = ""
"""The field with the limits of owners that have none of their own."""


class RedisIndex(RedisListing):
    """The part of a `JobStore` in Redis that is not about one job."""

    @translate_errors
    def remove_job(self, job_id: str) -> RemovedJob:
        record = self._entries.records([job_id])[job_id] or {}
        answer = self._server.run("remove_job", job_id=job_id, most_siblings=MOST_SIBLINGS)
        if not isinstance(answer, list):
            raise JobNotFound(job_id)
        objects, *rest = cast(list[list[str]], answer)
        if not objects or not rest:  # too many jobs use the picture
            return RemovedJob(frozenset(objects), frozenset())
        siblings = self._entries.records(list(dict.fromkeys(rest[0])))
        mentioned = {key for fields in siblings.values() for key in object_keys_in(fields or {})}
        if "owner" not in record:
            # A client of 0.2.0 does not note which pictures its jobs use. It knows those without an owner only.
            mentioned |= self.keys_in_use()
        return RemovedJob(frozenset(objects), frozenset(unused_of(record, objects, mentioned)))

    def keys_in_use(self) -> set[str]:
        """As `JobStore.keys_in_use`."""
        raise NotImplementedError

    @translate_errors
    def kept_objects(self) -> dict[str, float]:
        entries = cast(list[tuple[str, float]], self._entries.read("zrange", keys.KEPT, 0, -1, False, True))
        return dict(entries)

    @translate_errors
    def forget_kept(self, object_keys: Collection[str]) -> None:
        names = list(object_keys)
        for start in range(0, len(names), _PAGE):
            self._redis.zrem(keys.KEPT, *names[start : start + _PAGE])

    @translate_errors
    def mentioned(self, object_keys: Collection[str]) -> set[str]:
        wanted, found = set(object_keys), set[str]()
        pages = self._pages(keys.INDEX, None, _PAGE) if wanted else iter(())
        for places, _ in pages:
            for fields in self._entries.records([place.job_id for place in places]).values():
                found |= wanted & object_keys_in(fields or {})
        return found

    @translate_errors
    def owner_limits(self, owner: str | None) -> OwnerLimits | None:
        text = self._entries.read("hget", keys.LIMITS, owner or _ALL_OTHERS)
        with suppress(ValidationError):
            return OwnerLimits.model_validate_json(text, extra="ignore") if text else None
        return None

    @translate_errors
    def all_owner_limits(self) -> dict[str | None, OwnerLimits]:
        found: dict[str | None, OwnerLimits] = {}
        for owner, text in sorted(cast(dict[str, str], self._entries.read("hgetall", keys.LIMITS)).items()):
            with suppress(ValidationError):
                found[owner or None] = OwnerLimits.model_validate_json(text, extra="ignore")
        return found

    @translate_errors
    def set_owner_limits(self, owner: str | None, limits: OwnerLimits | None) -> None:
        text = limits.model_dump_json(exclude_none=True) if limits else None
        self._server.run("set_limits", owner=owner or _ALL_OTHERS, limits=text)

    @translate_errors
    def usage(self, days: Sequence[date]) -> list[Usage]:
        found = self._entries.read_all([("hgetall", f"{keys.USAGE}{day:%Y%m%d}") for day in days])
        return [each for day, fields in zip(days, found, strict=True) for each in usage_in(day, fields)]

    @translate_errors
    def secret(self) -> str:
        self._redis.set(keys.SECRET, secrets.token_hex(16), nx=True)
        return cast(str, self._redis.get(keys.SECRET))

    @translate_errors
    def stage_seconds(self, profile: str) -> dict[str, float]:
        found = cast(dict[str, str], self._entries.read("hgetall", keys.DURATIONS + profile) or {})
        measured: dict[str, float] = {}
        for stage, seconds in found.items():
            with suppress(ValueError):  # a damaged one
                measured[stage] = float(seconds)
        return measured
