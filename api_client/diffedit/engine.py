"""What makes calls and follows jobs in an event loop: threads for calls that block, and one watcher for all jobs."""

from collections.abc import Callable, Mapping

from diffedit.jobs.store import StatusReading
from diffedit.threads import Threads
from diffedit.watcher import Watchers

Statuses = Callable[[Mapping[str, StatusReading | None]], Mapping[str, StatusReading]]
"""`JobStore.statuses`."""


class Engine:
    """What an asynchronous client shares with its jobs and results: the threads, and the watchers of jobs."""

    def __init__(self, statuses: Statuses, threads: int) -> None:
        self.threads = Threads(threads, "diffedit")
        # Of its own, so that many calls do not delay the news.
        self._watching = Threads(1, "diffedit-watcher")
        self.watchers = Watchers(lambda jobs: self._watching.run(lambda: statuses(jobs)))

    async def close(self) -> None:
        """End the threads, when they have made the calls that were asked for."""
        await self.threads.close()
        await self._watching.close()
