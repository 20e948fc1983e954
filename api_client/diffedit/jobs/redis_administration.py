"""What an administrator asks of jobs, in Redis or Valkey."""

import json
from typing import Any, cast

from diffedit.contract.job import Job, JobOptions
from diffedit.contract.versions import dump_json, hints_of
from diffedit.errors import JobNotFound
from diffedit.jobs import keys
from diffedit.jobs.administration import QueueCounts, StartOver, Waiting
from diffedit.jobs.messages import queue_message
from diffedit.jobs.redis_index import RedisIndex
from diffedit.jobs.redis_server import translate_errors


class RedisAdministration(RedisIndex):
    """The part of a `JobStore` in Redis for administrators."""

    @translate_errors
    def queue_counts(self) -> dict[str, QueueCounts]:
        queues = self._waiting_queues()
        commands = [
            command
            for queue in queues
            for command in (
                ("zcard", keys.WAITING + queue),
                ("zcard", keys.BACKLOG + queue),
                ("zcard", keys.PARKED + queue),
                ("hlen", keys.RUNNING_IN + queue),
                ("llen", queue),
                ("zrange", keys.WAITING + queue, 0, 0, False, True),
            )
        ]
        answers = self._entries.read_all(commands)
        counts = {}
        for queue, start in zip(queues, range(0, len(answers), 6), strict=True):
            waiting, held_back, parked, running, messages, oldest = answers[start : start + 6]
            since = oldest[0][1] if oldest else None
            counts[queue] = QueueCounts(waiting, held_back, parked, running, messages, since)
        return counts

    @translate_errors
    def waiting_of(self, job_id: str) -> Waiting | None:
        record = self._entries.records([job_id])[job_id]
        if not record:
            raise JobNotFound(job_id)
        queue = record.get("queue")
        if "outcome" in record or queue is None:
            return None
        commands = [
            ("zmscore", keys.WAITING + queue, [job_id]),
            ("hget", keys.RUNNING, job_id),
            ("zmscore", keys.PARKED + queue, [job_id]),
            ("zmscore", keys.BACKLOG + queue, [job_id]),
        ]
        since, worker, parked, held_back = self._entries.read_all(commands)
        is_in = [bool(scores) and scores[0] is not None for scores in (parked, held_back)]
        return Waiting(queue, since[0] if since else None, cast(str | None, worker), *is_in)

    @translate_errors
    def revive_job(self, job: Job, options: JobOptions) -> StartOver:
        request = job.request
        answer = self._server.run(
            "revive_job",
            message=queue_message(job),
            fields={"options": dump_json(options)},
            inputs=[key for key in (request.image, request.mask) if key],
            keep_limits=options.deadline is not None,
            start_timeout=options.start_timeout,
            **_start_of(job),
        )
        return StartOver(cast(str, answer))

    @translate_errors
    def move_job(self, job: Job) -> StartOver:
        hints = hints_of(job.request)
        fields = {"request": dump_json(job.request), **({"hints": json.dumps(hints)} if hints else {})}
        answer = self._server.run("move_job", message=queue_message(job), fields=fields, **_start_of(job))
        return StartOver(cast(str, answer))


def _start_of(job: Job) -> dict[str, Any]:
    return {
        "job_id": job.id,
        "stage": job.stages_left[0].value,
        "queue": job.queue,
        "profile": job.request.params.profile,
    }
