"""The copies of submissions and the restoration of jobs, in Redis or Valkey."""

import json
import math
from collections.abc import Collection, Mapping
from typing import cast

from diffedit.contract import versions
from diffedit.errors import NewerRecord
from diffedit.jobs import keys
from diffedit.jobs.messages import queue_message
from diffedit.jobs.records import LATEST, status_of
from diffedit.jobs.redis_index import RedisIndex
from diffedit.jobs.redis_server import translate_errors
from diffedit.jobs.submissions import Restoration


class RedisSubmissions(RedisIndex):
    """The part of a `JobStore` in Redis that is about copies of submissions."""

    @translate_errors
    def restore_job(self, job_id: str, record: Mapping[str, str], created: float) -> Restoration:
        status = status_of(job_id, {**record, "created": f"{created:.6f}"})
        if status.contract > versions.CONTRACT:
            raise NewerRecord(job_id)  # its message would say that any worker can run it
        job, key = status.job, record.get("idempotency")
        fields = {name: text for name, text in record.items() if name not in ("idempotency", "request_digest")}
        answer = self._server.run(
            "create_job",
            message=queue_message(job),
            job_id=job_id,
            stage=job.stages_left[0].value,
            queue=job.queue,
            queues=[],
            max_queued=0,
            fields=fields,
            profile=job.request.params.profile,
            inputs=[each for each in (job.request.image, job.request.mask) if each],
            steps=job.request.params.num_inference_steps,
            idempotency_key=key,
            request_digest=record.get("request_digest") if key else None,
            start_timeout=job.options.start_timeout,
            deadline=job.options.deadline,
            created=f"{created:.6f}",
        )
        other = answer[1] if isinstance(answer, list) else answer
        return Restoration(answer == job_id, None if other in (job_id, "settled") else cast(str, other))

    @translate_errors
    def settle(self, job_ids: Collection[str]) -> None:
        if job_ids:
            self._redis.zadd(keys.SETTLED, dict.fromkeys(job_ids, self._server.now()))

    @translate_errors
    def is_settled(self, job_id: str) -> bool:
        return self._redis.zscore(keys.SETTLED, job_id) is not None

    @translate_errors
    def settled_jobs(self, limit: int) -> dict[str, float]:
        found = cast(list[tuple[str, float]], self._entries.read("zrange", keys.SETTLED, 0, limit - 1, False, True))
        return dict(found)

    @translate_errors
    def forget_settled(self, job_ids: Collection[str]) -> None:
        if job_ids:
            self._redis.zrem(keys.SETTLED, *job_ids)

    @translate_errors
    def data_since(self) -> float | None:
        return _since_in(cast(str | None, self._entries.read("get", keys.EPOCH)))


def _since_in(epoch: str | None) -> float | None:
    """Return the time in the value of `diffedit:epoch`; None if it cannot be read."""
    try:
        since = float(json.loads(epoch or "")["since"])
    except (ValueError, TypeError, LookupError, RecursionError):
        return None
    return since if math.isfinite(since) and 0 <= since < LATEST else None
