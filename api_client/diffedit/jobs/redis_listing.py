"""Lists of jobs in Redis or Valkey.

All lists are ordered by the time of submission. Some sorted sets have jobs in this order: all jobs, those of an owner,
and those that ended with one outcome, in one profile, with one error code, in one stage. A list with filters reads the
smallest set that has all its jobs, asks the server which of them are in the other sets, and reads only the records of
those. A record decides in the end, so a set with a job too many does no harm.

Jobs that a process of 0.2.0 has ended, or that ended before there were these sets, are in none of them. So each list
looks for them first, on the server (`unindexed_jobs.lua`), and adds them. It looks at jobs that were submitted after
the oldest one that had not ended when the list before looked.
"""

import heapq
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import cast

import redis

from diffedit.contract.job import JobStatus, State
from diffedit.errors import BadRecord
from diffedit.jobs import keys
from diffedit.jobs.filters import JobFilter
from diffedit.jobs.index import JobPage
from diffedit.jobs.pages import Place, TagFilter, decode_cursor, encode_cursor
from diffedit.jobs.redis_server import translate_errors
from diffedit.jobs.redis_statuses import RedisStatuses

_PAGE = 1000
_CHECKED = 2000
"""Jobs that one run of `unindexed_jobs.lua` looks at: 1 to 2 ms in which the server does nothing else."""
_INDEXED = 100


class RedisListing(RedisStatuses):
    """The part of a `JobStore` in Redis that lists jobs."""

    @property
    def _redis(self) -> redis.Redis:
        return self._server.connection

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

    @translate_errors
    def find_jobs(self, wanted: JobFilter, limit: int = 50, cursor: str | None = None) -> JobPage:
        found: list[JobStatus] = []
        unreadable: list[str] = []
        places = self._places(wanted, decode_cursor(cursor) if cursor is not None else None)
        while batch := list(islice(places, max(limit + 1, 50))):
            records = self._entries.records([place.job_id for place in batch])
            statuses = {each: self._answer(each, fields) for each, fields in records.items() if fields != {}}
            if expired := records.keys() - statuses.keys():
                self._forget_expired(wanted, expired)
            for place in batch:
                match statuses.get(place.job_id):
                    case BadRecord():
                        unreadable.append(place.job_id)
                    case JobStatus() as status if wanted.matches(status):
                        found.append(status)
                if len(found) == limit:
                    is_end = place is batch[-1] and next(places, None) is None
                    return JobPage(found, unreadable, None if is_end else encode_cursor(place))
        return JobPage(found, unreadable)

    def _places(self, wanted: JobFilter, after: Place | None) -> Iterator[Place]:
        """Yield the places, newest first, of all jobs that are wanted, and perhaps of others."""
        if not wanted.needs_indexes:
            yield from self._entries_of(keys.INDEX if wanted.owner is None else keys.OWNER + wanted.owner, after)
            return
        if wanted.may_have_ended and after is None:
            self._index_the_rest()
        opened = self._open_places(wanted, after) if wanted.may_be_open else []
        ended = self._ended_places(wanted, after) if wanted.may_have_ended else iter(())
        last: Place | None = None
        for place in heapq.merge(opened, ended, reverse=True):
            if place != last:  # one that ended meanwhile is in both
                yield place
            last = place

    def _open_places(self, wanted: JobFilter, after: Place | None) -> list[Place]:
        """Return the places of the jobs that wait or run."""
        if wanted.owner is not None:
            places = [place for places, _ in self._pages(keys.OPEN + wanted.owner, None, _PAGE) for place in places]
        else:
            queues = [queue for queue in self._waiting_queues() if _may_hold(queue, wanted)]
            waiting = self._entries.read_all([("zrange", keys.WAITING + queue, 0, -1) for queue in queues])
            ids = list({*self._running(), *(job_id for queue in waiting for job_id in queue)})
            places = [Place(at, job_id) for job_id, at in zip(ids, self._scores(keys.INDEX, ids), strict=True) if at]
        return sorted((place for place in places if after is None or place < after), reverse=True)

    def _ended_places(self, wanted: JobFilter, after: Place | None) -> Iterator[Place]:
        """Yield the places of the jobs that have ended and are in all sets that the filter names."""
        sets = _sets_of(wanted)
        sizes = self._entries.read_all([("zcard", each) for each in sets])
        by_size = [name for _, name in sorted(zip(sizes, sets, strict=True))]
        low = "-inf" if wanted.since is None else wanted.since
        high = "+inf" if wanted.until is None else wanted.until
        pages: Iterator[Sequence[Place]]
        if wanted.times != (None, None) and (
            not sets or self._entries.read("zcount", keys.ENDED, low, high) < min(sizes)
        ):
            ids = cast(list[str], self._entries.read("zrangebyscore", keys.ENDED, low, high))
            known = zip(self._scores(keys.INDEX, ids), ids, strict=True)
            places = sorted((Place(at, job_id) for at, job_id in known if at is not None), reverse=True)
            pages = iter([[place for place in places if after is None or place < after]])
        else:
            pages = (places for places, _ in self._pages(by_size.pop(0), after, _PAGE))
            by_size += [keys.ENDED] if wanted.times != (None, None) else []
        for page in pages:
            yield from self._in_all(page, by_size, wanted)

    def _in_all(self, places: Sequence[Place], sets: Sequence[str], wanted: JobFilter) -> Iterator[Place]:
        """Yield those of these places whose jobs are in all of these sets, and ended in the time that is wanted."""
        ids = [place.job_id for place in places]
        scores = {name: self._scores(name, ids) for name in sets if ids}
        for index, place in enumerate(places):
            if all(column[index] is not None for column in scores.values()):
                ended = scores[keys.ENDED][index] if keys.ENDED in scores else None
                early = ended is not None and wanted.since is not None and ended < wanted.since
                late = ended is not None and wanted.until is not None and ended > wanted.until
                if not early and not late:
                    yield place

    def _scores(self, name: str, ids: Sequence[str]) -> list[float | None]:
        """Return the scores of these members; None for those that the set does not have."""
        slices = [ids[start : start + _PAGE] for start in range(0, len(ids), _PAGE)]
        answers = self._entries.read_all([("zmscore", name, each) for each in slices])
        found = [score for part, each in zip(answers, slices, strict=True) for score in (part or [None] * len(each))]
        return cast(list[float | None], found)

    def _entries_of(self, index: str, after: Place | None) -> Iterator[Place]:
        for places, _ in self._pages(index, after, _PAGE):
            yield from places

    def _pages(self, index: str, after: Place | None, size: int) -> Iterator[tuple[list[Place], bool]]:
        """Yield the places in this index after another one, newest first, and whether there are no more."""
        while True:
            newest, offset = after.created if after else "+inf", 0
            places: list[Place] = []
            # Many jobs may have been submitted in the same microsecond.
            while not places:
                range_of = ("zrange", index, newest, "-inf", True, True, float, True, False, offset, size)
                entries = cast(list[tuple[str, float]], self._entries.read(*range_of))
                places = [Place(created, job_id) for job_id, created in entries]
                places = [place for place in places if after is None or place < after]
                offset += size
                if len(entries) < size:
                    yield places, True
                    return
            yield places, False
            after = places[-1]

    def _index_the_rest(self) -> None:
        """Add the jobs that have ended and are in no index. If it is interrupted, the next list goes on."""
        before, offset, after = "+inf", 0, self._indexed_until()
        open_since: list[float] = []
        first = ""
        while True:
            answer = self._server.run("unindexed_jobs", before=before, after=after, offset=offset, count=_CHECKED)
            ids, before, offset, newest, oldest_open = cast(tuple[list[str], str, int, str, str], answer)
            for start in range(0, len(ids), _INDEXED):
                self._server.run("index_jobs", ids=ids[start : start + _INDEXED])
            first = first or newest
            open_since += [float(oldest_open)] if oldest_open else []
            if not before:
                break
        if first:
            self._redis.set(keys.INDEXED, repr(min(open_since, default=float(first))))

    def _indexed_until(self) -> float | str:
        """Return until when all submitted jobs have ended and are in the indexes; "-inf" if it is not known."""
        with suppress(TypeError, ValueError):
            known = float(self._entries.read("get", keys.INDEXED))
            submitted = ("zcount", keys.INDEX, "-inf", known)
            older, ended = self._entries.read_all([submitted, ("zcard", keys.ENDED)])
            if older <= ended:  # else somebody has deleted the index
                return known
        return "-inf"

    def _forget_expired(self, wanted: JobFilter, ids: set[str]) -> None:
        owner = [] if wanted.owner is None else [keys.OWNER + wanted.owner]
        for name in {keys.INDEX, keys.ENDED, *owner, *_sets_of(wanted)}:
            self._redis.zrem(name, *ids)


def _may_hold(queue: str, wanted: JobFilter) -> bool:
    """Return whether a job that is wanted can wait in this queue."""
    _, profile, group, *_ = (*queue.split("."), "", "")
    return wanted.profile in (None, profile) and (wanted.stage is None or wanted.stage.group.value == group)


def _sets_of(wanted: JobFilter) -> list[str]:
    """Return the sorted sets, by the time of submission, that have all ended jobs that are wanted."""
    values = {"outcome": wanted.state, "code": wanted.code, "profile": wanted.profile, "stage": wanted.stage}
    sets = [f"{keys.ENDED_BY}{name}:{value}" for name, value in values.items() if value is not None]
    return sets + ([keys.OWNER + wanted.owner] if wanted.owner is not None else [])
