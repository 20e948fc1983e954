"""What the rescue of jobs asks Redis: which jobs are overdue, refused, abandoned, or wait without a message.

What it lists may be out of date a moment later. So the scripts that act on a job (`requeue`, `expire_job`,
`end_refused`) check again, each as one atomic step.
"""

import json
from typing import cast

from diffedit.contract.stages import Lane
from diffedit.jobs import keys
from diffedit.jobs.redis_entries import RedisEntries
from diffedit.jobs.redis_server import RedisServer, translate_errors
from diffedit.jobs.store import PARKED_FOR

_PAGE = 500
_BATCH = f".{Lane.BATCH.value}"


class RedisLostJobs:
    """The part of a `JobStore` in Redis that finds jobs which need help."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._entries = RedisEntries(server)

    @translate_errors
    def overdue_jobs(self) -> list[str]:
        return cast(list[str], self._entries.read("zrangebyscore", keys.EXPIRING, "-inf", self._server.now()))

    @translate_errors
    def refused_jobs(self, patience: float) -> list[str]:
        before = self._server.now() - patience
        return cast(list[str], self._entries.read("zrangebyscore", keys.REFUSED, "-inf", before))

    @translate_errors
    def jobs_held_by(self, worker: str) -> list[str]:
        return [job_id for job_id, holder in self._running().items() if holder == worker]

    @translate_errors
    def abandoned_jobs(self) -> list[str]:
        running = self._running()
        holders = sorted(set(running.values()))
        heartbeats = self._entries.read_all([("get", keys.HEARTBEAT + worker) for worker in holders])
        dead = {worker for worker, heartbeat in zip(holders, heartbeats, strict=True) if heartbeat is None}
        return [job_id for job_id, worker in running.items() if worker in dead]

    @translate_errors
    def jobs_without_message(self, waited: float) -> list[str]:
        now = self._server.now()
        since = now - waited
        found: list[str] = []
        for queue in self._waiting_queues():
            waiting, backlog = keys.WAITING + queue, keys.BACKLOG + queue
            parked_lately = ("zrangebyscore", keys.PARKED + queue, now - PARKED_FOR, "+inf")
            counts = [("zcard", waiting), ("llen", queue), ("zcard", backlog)]
            jobs, messages, held, parked = self._entries.read_all([*counts, parked_lately])
            # Long queues are the rule when all is well. They are read only if they lack a message.
            lacks_one = jobs - len(parked) > messages + held
            if lacks_one and (oldest := self._entries.read("zrangebyscore", waiting, "-inf", since)):
                sent = {*self._jobs_sent(queue), *parked}
                found += [job_id for job_id in oldest if job_id not in sent]
        return found

    def _jobs_sent(self, queue: str) -> set[str]:
        """Return the jobs whose message is in the queue or held back.

        That of a batch job may be in the interactive queue beside its own (`lua/queueing.lua`).
        """
        queues = {queue, queue.removesuffix(_BATCH)}
        held = self._entries.read_all([("zrange", keys.BACKLOG + each, 0, -1) for each in queues])
        return set().union(*held, *map(self._jobs_in, queues))

    def _running(self) -> dict[str, str]:
        return cast(dict[str, str], self._entries.read("hgetall", keys.RUNNING))

    def _waiting_queues(self) -> list[str]:
        """Return the queues in which jobs may wait. A name that is none of ours is left alone."""
        names = cast(set[str], self._entries.read("smembers", keys.WAITING_QUEUES))
        queues = {name for name in names if name.startswith(keys.QUEUE)}
        if queues < names:
            self._entries.note([keys.WAITING_QUEUES])
        return sorted(queues)

    def _jobs_in(self, queue: str) -> set[str]:
        """Return the jobs that have a message in the queue."""
        found: set[str] = set()
        start = 0
        while messages := cast(list[str], self._entries.read("lrange", queue, start, start + _PAGE - 1)):
            found.update(_job_of(message) for message in messages)
            start += _PAGE
        return found


def _job_of(message: str) -> str:
    """Return the job id in the header of a queued message (see `messages.py`); "" if the message is not ours."""
    try:
        return str(json.loads(message)["headers"]["job_id"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
