"""Queues in Redis or Valkey: their messages, those that are held back, and pauses."""

from collections.abc import Sequence
from typing import cast

from pydantic import ValidationError

from diffedit.contract.job import Job
from diffedit.jobs import keys
from diffedit.jobs.messages import queue_message
from diffedit.jobs.queues import Pause
from diffedit.jobs.redis_lost_jobs import RedisLostJobs
from diffedit.jobs.redis_server import translate_errors
from diffedit.jobs.workers import WorkerLimits


class RedisQueues(RedisLostJobs):
    """The part of a `JobStore` in Redis that is about queues."""

    _limits: WorkerLimits

    @translate_errors
    def send(self, job: Job) -> None:
        self._server.run("send_job", message=queue_message(job), job_id=job.id, queue=job.queue)

    @translate_errors
    def queue_lengths(self, queues: Sequence[str]) -> dict[str, int]:
        sent = self._entries.read_all([("llen", queue) for queue in queues])
        held = self._entries.read_all([("zcard", keys.BACKLOG + queue) for queue in queues])
        return {queue: sum(lengths) for queue, *lengths in zip(queues, sent, held, strict=True)}

    @translate_errors
    def waiting_jobs(self) -> dict[str, int]:
        queues = self._waiting_queues()
        waiting = self._entries.read_all([("zcard", keys.WAITING + queue) for queue in queues])
        return {queue: number for queue, number in zip(queues, waiting, strict=True) if number}

    @translate_errors
    def pause_queues(self, queues: Sequence[str], reason: str = "") -> None:
        self._server.run("pause_queues", queues=list(queues), reason=reason)

    @translate_errors
    def resume_queues(self, queues: Sequence[str]) -> list[str]:
        return cast(list[str], self._server.run("resume_queues", queues=list(queues)))

    @translate_errors
    def paused_queues(self) -> dict[str, Pause]:
        found = cast(dict[str, str], self._entries.read("hgetall", keys.PAUSED))
        return {queue: _pause_in(text) for queue, text in sorted(found.items())}

    @translate_errors
    def tend_queues(self) -> None:
        self._server.run("tend_queues", batch_age=self._limits.batch_age)


def _pause_in(text: str) -> Pause:
    """Return what is known of a pause. A queue that Redis says is paused is paused, whatever else it says."""
    try:
        return Pause.model_validate_json(text)
    except ValidationError:
        return Pause(since=0)  # pydantic reads seconds since 1970
