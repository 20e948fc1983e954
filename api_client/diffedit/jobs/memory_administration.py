"""What an administrator asks of jobs, in the memory of this process."""

import json
import time

from diffedit.contract.job import Job, JobOptions, State
from diffedit.contract.versions import dump_json, hints_of
from diffedit.jobs.administration import QueueCounts, StartOver, Waiting
from diffedit.jobs.memory_index import MemoryIndex
from diffedit.jobs.records import STARTED_OVER, STARTED_OVER_BY_STAGE


class MemoryAdministration(MemoryIndex):
    """The part of a `JobStore` in this process for administrators."""

    def queue_counts(self) -> dict[str, QueueCounts]:
        state = self._state
        with state.lock:
            read = {queue for _, info in state.heartbeats.values() for queue in info.queues}
            queue_of = {job_id: self._record(job_id)["queue"] for job_id in (*state.waiting, *state.running)}
            counts = {}
            for queue in sorted({*queue_of.values(), *read}):
                waiting = [at for job_id, at in state.waiting.items() if queue_of[job_id] == queue]
                counts[queue] = QueueCounts(
                    waiting=len(waiting),
                    held_back=0,
                    parked=sum(queue_of[job_id] == queue for job_id in state.parked),
                    running=sum(queue_of[job_id] == queue for job_id in state.running),
                    messages=0,
                    oldest=min(waiting, default=None),
                )
            return counts

    def waiting_of(self, job_id: str) -> Waiting | None:
        state = self._state
        with state.lock:
            record = self._record(job_id)
            if "outcome" in record:
                return None
            worker = state.running.get(job_id)
            return Waiting(record["queue"], state.waiting.get(job_id), worker, job_id in state.parked, False)

    def revive_job(self, job: Job, options: JobOptions) -> StartOver:
        state = self._state
        with state.lock:
            record = state.records.get(job.id)
            if record is None:
                return StartOver.MISSING
            if "outcome" not in record:
                return StartOver.OPEN
            if record["outcome"] == State.SUCCEEDED.value:
                return StartOver.ENDED
            limits = [limit for limit in (options.deadline, options.start_timeout) if limit is not None]
            if limits and float(record["created"]) + min(limits) <= time.time():
                return StartOver.OVERDUE
            record["options"] = dump_json(options)
            state.settled.pop(job.id, None)
            record["revived"] = str(int(record.get("revived", 0)) + 1)
            if "idempotency" in record:
                state.idempotency.setdefault(record["idempotency"], job.id)
            self._start_over(job)
            return StartOver.DONE

    def move_job(self, job: Job) -> StartOver:
        state = self._state
        with state.lock:
            record = state.records.get(job.id)
            if record is None:
                return StartOver.MISSING
            if "outcome" in record:
                return StartOver.ENDED
            if state.runs_elsewhere(job.id, None):
                return StartOver.RUNNING
            record |= {"request": dump_json(job.request), "moved": str(time.time())}
            record.pop("hints", None)
            if hints := hints_of(job.request):
                record["hints"] = json.dumps(hints)
            self._start_over(job)
            return StartOver.DONE

    def _start_over(self, job: Job) -> None:
        state, record = self._state, self._record(job.id)
        for name in list(record):
            if name in STARTED_OVER or (name.partition(":")[0] in STARTED_OVER_BY_STAGE and ":" in name):
                del record[name]
        if durations := state.durations.get(job.request.params.profile):
            record["expected"] = " ".join(f"{stage} {seconds:.3f}" for stage, seconds in durations.items())
        state.clear_open(job.id)
        state.set_waiting(job)
