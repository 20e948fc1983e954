"""The one loop that waits for jobs in an event loop: it asks for all watched jobs in one request.

A thousand watched jobs cost one connection and one round trip each time. `waiting.py` has the loop of a thread.
"""

import asyncio
import contextvars
import copy
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager

from diffedit import retries
from diffedit.contract.job import JobStatus
from diffedit.errors import BrokerUnavailable
from diffedit.jobs.store import StatusReading
from diffedit.waiting import FIRST_PAUSE, LONGEST_PAUSE, SHORTEST_WAIT, Pace, check_limits, timed_out

Ask = Callable[[Mapping[str, StatusReading | None]], Awaitable[Mapping[str, StatusReading]]]
"""`JobStore.statuses`, awaited."""

EARLY = 0.2
"""Share of its pause by which a job is asked early, if a request is sent just then. So jobs come to share requests."""
SHORTEST_GAP = FIRST_PAUSE / 2
"""Seconds from one request to the next, at least."""


class Watchers:
    """The watcher of each event loop in which jobs are watched."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._of_loops: dict[asyncio.AbstractEventLoop, _Watcher] = {}

    async def changes(self, job_id: str, timeout: float, heartbeat: float | None) -> AsyncGenerator[JobStatus, None]:
        """Yield the status of a job now and at every change, until it has ended. As `waiting.changes`.

        A caller that is slower than the job gets the newest status, and never misses the last one.
        """
        check_limits(timeout, heartbeat)
        last: JobStatus | None = None
        watch = _Watch(timeout)
        with self._of_this_loop().watching(job_id, watch):
            while last is None or not last.is_terminal:
                last = await watch.next(heartbeat) or last
                if last:
                    yield last

    def _of_this_loop(self) -> "_Watcher":
        loop = asyncio.get_running_loop()
        if loop not in self._of_loops:
            self._of_loops[loop] = _Watcher(self._ask, ended=lambda: self._of_loops.pop(loop, None))
        return self._of_loops[loop]


class _Watcher:
    """Asks for the jobs that are watched in one event loop, and ends when there are none."""

    def __init__(self, ask: Ask, ended: Callable[[], object]) -> None:
        self._ask = ask
        self._ended = ended
        self._jobs: dict[str, _WatchedJob] = {}
        self._more = asyncio.Event()
        self._away_since: float | None = None
        self._task: asyncio.Task[None] | None = None

    @contextmanager
    def watching(self, job_id: str, watch: "_Watch") -> Iterator[None]:
        """Ask for the job and pass what is answered to `watch`, within the context."""
        job = self._jobs.setdefault(job_id, _WatchedJob())
        job.add(watch)
        self._more.set()
        if self._task is None:
            # It outlives its first caller, so it must not work with the context variables of that one.
            loop, nothing = asyncio.get_running_loop(), contextvars.Context()
            self._task = loop.create_task(self._run(), name="diffedit-watcher", context=nothing)
        try:
            yield
        finally:
            job.watches.discard(watch)
            if not job.watches and self._jobs.get(job_id) is job:
                del self._jobs[job_id]
                self._more.set()

    async def _run(self) -> None:
        try:
            while self._jobs:
                await self._until_due()
                began = asyncio.get_running_loop().time()
                await self._request(began)
                took = asyncio.get_running_loop().time() - began
                # The thread that asks and this loop share one interpreter: at least half of the time is the loop's.
                await asyncio.sleep(min(max(SHORTEST_GAP, took), LONGEST_PAUSE))
        except asyncio.CancelledError:
            self._fail(BrokerUnavailable("the task that asks for the watched jobs was cancelled"))
            raise
        except Exception as error:
            # Nobody awaits this task, so those who watch are told.
            self._fail(error)
        finally:
            self._ended()

    async def _until_due(self) -> None:
        """Wait until it is time to ask for a job, or until there is none."""
        while self._jobs:
            self._more.clear()
            pause = min(job.due for job in self._jobs.values()) - asyncio.get_running_loop().time()
            if pause <= 0:
                return
            await _set_within(self._more, pause)

    async def _request(self, began: float) -> None:
        due = {job_id: job.last for job_id, job in self._jobs.items() if job.due - began <= EARLY * job.pause}
        if not due:
            return
        try:
            readings = await self._ask(due)
        except BrokerUnavailable as error:
            self._note_outage(error, began)
            return
        self._away_since = None
        for job_id, reading in readings.items():
            # Meanwhile, all who watched it may have gone.
            if (job := self._jobs.get(job_id)) and job.answered(reading, began):
                del self._jobs[job_id]

    def _note_outage(self, error: BrokerUnavailable, began: float) -> None:
        now = asyncio.get_running_loop().time()
        self._away_since = began if self._away_since is None else self._away_since
        for job_id, job in list(self._jobs.items()):
            job.due = now + FIRST_PAUSE
            for watch in list(job.watches):
                if now >= watch.end or now - max(self._away_since, watch.begun) >= retries.CLIENT_OUTAGE:
                    job.give_up(watch, error)
            if not job.watches:
                del self._jobs[job_id]

    def _fail(self, error: Exception) -> None:
        for job in self._jobs.values():
            for watch in list(job.watches):
                job.give_up(watch, error)
        self._jobs.clear()


class _WatchedJob:
    """A job that at least one caller watches.

    Attributes:
        due: when to ask for it, in the time of the event loop.
        pause: seconds from the last answer to that time.
        watches: those who watch it and have not got an error.
        last: what was last read of it.
    """

    def __init__(self) -> None:
        self.due = -math.inf
        self.pause = 0.0
        self.watches: set[_Watch] = set()
        self.last: StatusReading | None = None
        self._pace = Pace()

    def add(self, watch: "_Watch") -> None:
        self.watches.add(watch)
        self.due = -math.inf

    def give_up(self, watch: "_Watch", error: Exception) -> None:
        self.watches.discard(watch)
        watch.fail(error)

    def answered(self, reading: StatusReading, asked_at: float) -> bool:
        """Pass an answer on to those who watch the job. Return whether nobody has to ask for it any more."""
        answer, changed = reading.answer, self.last is None or reading.answer is not self.last.answer
        self.last = reading
        is_final = isinstance(answer, JobStatus) and answer.is_terminal
        # What was asked before somebody began to watch may be older than what they know.
        later = {watch for watch in self.watches if watch.begun > asked_at and not is_final}
        for watch in self.watches - later:
            if isinstance(answer, Exception):
                self.give_up(watch, answer)
                continue
            watch.offer(answer)
            if asked_at >= watch.end and not is_final:
                self.give_up(watch, timed_out(answer, watch.timeout))
        self.pause = self._pace.pause_after(changed)
        now = asyncio.get_running_loop().time()
        self.due = -math.inf if later else min([now + self.pause, *(watch.end for watch in self.watches)])
        return is_final or not self.watches


class _Watch:
    """What a caller who watches a job has not got yet: the newest status, or the error that ends it.

    Attributes:
        timeout: seconds for which the caller waits.
        begun, end: when that began, and when it ends, in the time of the event loop.
    """

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self.begun = asyncio.get_running_loop().time()
        self.end = self.begun + timeout
        self._newest: JobStatus | None = None
        self._is_new = False
        self._error: Exception | None = None
        self._news = asyncio.Event()

    def offer(self, status: JobStatus) -> None:
        """Hold the status for the caller, unless it is the one that was offered last."""
        if status is not self._newest:
            self._newest, self._is_new = status, True
            self._news.set()

    def fail(self, error: Exception) -> None:
        """End the watch with the error, after the newest status."""
        self._error = error
        self._news.set()

    async def next(self, heartbeat: float | None) -> JobStatus | None:
        """Return the newest status, as soon as there is one, or None after `heartbeat` seconds. Raises the error."""
        now = asyncio.get_running_loop().time()
        silence = math.inf if heartbeat is None else heartbeat
        # The watcher ends each watch in time, unless the server takes its request and never answers.
        left = max(self.end, self.begun) + SHORTEST_WAIT - now
        if not await _set_within(self._news, min(silence, left)):
            if silence < left:
                return None
            raise BrokerUnavailable(f"Redis has not answered within {self.timeout:g} s; check the server")
        if self._is_new:
            self._is_new = False
            if self._error is None:
                self._news.clear()
            return self._newest
        assert self._error
        raise copy.copy(self._error) from self._error.__cause__


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    """Wait until the event is set, for so many seconds at most. Return whether it is set."""
    if event.is_set():
        return True
    try:
        # uvloop cannot wait for an infinite time.
        async with asyncio.timeout(None if seconds == math.inf else seconds):
            await event.wait()
    except TimeoutError:
        return event.is_set()
    return True
