"""Queues in the memory of this process. There are none, so a message is lost. Which of them are paused is known."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from diffedit.contract.job import Job
from diffedit.jobs.memory_lost_jobs import MemoryLostJobs
from diffedit.jobs.queues import Pause


class MemoryQueues(MemoryLostJobs):
    """The part of a `JobStore` in this process that is about queues."""

    def send(self, job: Job) -> None:
        pass

    def queue_lengths(self, queues: Sequence[str]) -> dict[str, int]:
        return dict.fromkeys(queues, 0)

    def waiting_jobs(self) -> dict[str, int]:
        with self._state.lock:
            return dict(Counter(self._state.records[job_id]["queue"] for job_id in self._state.waiting))

    def pause_queues(self, queues: Sequence[str], reason: str = "") -> None:
        with self._state.lock:
            for queue in queues:
                before = self._state.paused.get(queue)
                since = before.since if before else datetime.now(UTC)
                self._state.paused[queue] = Pause(since=since, reason=reason)

    def resume_queues(self, queues: Sequence[str]) -> list[str]:
        with self._state.lock:
            return [queue for queue in queues if self._state.paused.pop(queue, None)]

    def paused_queues(self) -> Mapping[str, Pause]:
        with self._state.lock:
            return dict(sorted(self._state.paused.items()))

    def tend_queues(self) -> None:
        pass
