"""Lists of jobs, owners and their limits, and which objects nobody needs, in the memory of this process."""

import time
from collections.abc import Collection, Sequence
from datetime import date

from diffedit.contract.job import Job, JobStatus, State
from diffedit.contract.owners import OwnerLimits
from diffedit.contract.usage import Usage
from diffedit.errors import BadRecord, OwnerLimit
from diffedit.jobs.filters import JobFilter
from diffedit.jobs.index import JobPage, RemovedJob
from diffedit.jobs.memory_statuses import MemoryStatuses
from diffedit.jobs.pages import Place, TagFilter, decode_cursor, encode_cursor
from diffedit.jobs.record_objects import object_keys_in, objects_of, unused_of


class MemoryIndex(MemoryStatuses):
    """The part of a `JobStore` in this process that is not about one job."""

    def list_jobs(
        self,
        state: State | None = None,
        limit: int = 50,
        *,
        owner: str | None = None,
        tag: TagFilter | None = None,
        cursor: str | None = None,
    ) -> JobPage:
        return self.find_jobs(JobFilter(state=state, owner=owner, tag=tag), limit, cursor)

    def find_jobs(self, wanted: JobFilter, limit: int = 50, cursor: str | None = None) -> JobPage:
        after = decode_cursor(cursor) if cursor is not None else None
        found: list[JobStatus] = []
        unreadable: list[str] = []
        with self._state.lock:
            records = {job_id: record for job_id, record in self._state.records.items() if _is_of(record, wanted.owner)}
            places = sorted((Place(self._state.submitted[job_id], job_id) for job_id in records), reverse=True)
            places = [place for place in places if after is None or place < after]
            for place in places:
                match self._read(place.job_id, None).answer:
                    case BadRecord():
                        unreadable.append(place.job_id)
                    case JobStatus() as status if wanted.matches(status):
                        found.append(status)
                if len(found) == limit:
                    return JobPage(found, unreadable, None if place is places[-1] else encode_cursor(place))
        return JobPage(found, unreadable)

    def remove_job(self, job_id: str) -> RemovedJob:
        state = self._state
        with state.lock:
            record = self._record(job_id)
            if "outcome" not in record:
                self._end(job_id, State.CANCELLED)
            objects = objects_of(record)
            for key in objects:
                state.kept.setdefault(key, time.time())
            self._forget(job_id)
            mentioned = {key for other in state.records.values() for key in object_keys_in(other)}
            return RemovedJob(frozenset(objects), frozenset(unused_of(record, objects, mentioned)))

    def kept_objects(self) -> dict[str, float]:
        with self._state.lock:
            return dict(self._state.kept)

    def forget_kept(self, object_keys: Collection[str]) -> None:
        with self._state.lock:
            for key in object_keys:
                self._state.kept.pop(key, None)

    def mentioned(self, object_keys: Collection[str]) -> set[str]:
        with self._state.lock:
            return set(object_keys) & {key for record in self._state.records.values() for key in object_keys_in(record)}

    def owner_limits(self, owner: str | None) -> OwnerLimits | None:
        with self._state.lock:
            return self._state.owner_limits.get(owner)

    def all_owner_limits(self) -> dict[str | None, OwnerLimits]:
        with self._state.lock:
            return dict(sorted(self._state.owner_limits.items(), key=lambda item: item[0] or ""))

    def set_owner_limits(self, owner: str | None, limits: OwnerLimits | None) -> None:
        with self._state.lock:
            if limits is None:
                self._state.owner_limits.pop(owner, None)
            else:
                self._state.owner_limits[owner] = limits
            self._unpark(owner)

    def usage(self, days: Sequence[date]) -> list[Usage]:
        with self._state.lock:
            wanted = {day.isoformat() for day in days}
            return [
                Usage.model_validate({"day": day, "owner": owner, "profile": profile, **measures})
                for (day, owner, profile), measures in self._state.usage.items()
                if day in wanted
            ]

    def secret(self) -> str:
        return self._state.secret

    def _room_of(self, owner: str | None) -> int:
        """Return how many more jobs of the owner may start."""
        limits = self._state.owner_limits.get(owner) or self._state.owner_limits.get(None)
        if owner is None or limits is None or limits.max_running is None:
            return 100
        records = [record for record in self._state.records.values() if _is_of(record, owner)]
        return limits.max_running - sum("started" in record and "outcome" not in record for record in records)

    def _end(self, job_id: str, outcome: State) -> None:
        super()._end(job_id, outcome)
        self._unpark(self._record(job_id).get("owner"))

    def _unpark(self, owner: str | None) -> None:
        """Let as many of the owner's jobs that wait for others of the owner wait for a message as may start now."""
        waiting = [job_id for job_id in self._state.parked if self._record(job_id).get("owner") == owner]
        for job_id in waiting[: max(self._room_of(owner), 0)]:
            del self._state.parked[job_id]

    def _check_owner_limits(self, job: Job, pixels: int | None) -> None:
        """Raise OwnerLimit if the job would exceed a limit of its owner."""
        owner, state = job.options.owner, self._state
        limits = state.owner_limits.get(owner) or state.owner_limits.get(None)
        if owner is None or limits is None:
            return
        records = [record for record in state.records.values() if _is_of(record, owner)]
        queued = sum("outcome" not in record and "started" not in record for record in records)
        steps = job.request.params.num_inference_steps
        for name, wanted in (("max_queued", queued + 1), ("max_pixels", pixels or 0), ("max_steps", steps)):
            limit = getattr(limits, name)
            if limit is not None and wanted > limit:
                raise OwnerLimit(owner, name, limit)

    def stage_seconds(self, profile: str) -> dict[str, float]:
        with self._state.lock:
            return dict(self._state.durations.get(profile, {}))

    def _forget(self, job_id: str) -> None:
        """Delete the record of a job and everything that names the job."""
        self._state.clear_open(job_id)
        self._state.watched_until.pop(job_id, None)
        self._state.previews.pop(job_id, None)
        record = self._state.records.pop(job_id, {})
        self._state.submitted.pop(job_id, None)
        if self._state.idempotency.get(key := record.get("idempotency", "")) == job_id:
            del self._state.idempotency[key]


def _is_of(record: dict[str, str], owner: str | None) -> bool:
    return owner is None or record.get("owner") == owner
