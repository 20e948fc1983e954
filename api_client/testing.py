"""Doubles of the board and the store in memory, for unit tests of your own code and ours.

They keep the interface and the promises of the real ones (the same tests run over both), and nothing else.
"""

import threading
import time
from collections.abc import Mapping, Sequence

from api_client.board import WORKER_TTL, WorkerInfo, done_fields, status_of
from api_client.contract import TERMINAL, EditRequest, ErrorInfo, JobStatus, Slot, Stage, State
from api_client.errors import ArtifactError, JobNotFound


class MemoryBoard:
    """A `Board` in this process."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._records: dict[str, dict[str, str]] = {}
        self._first: dict[str, str] = {}
        self._workers: dict[str, tuple[float, WorkerInfo]] = {}

    def open(self, job_id: str, request: EditRequest, idempotency_key: str | None = None) -> str:
        with self._lock:
            first = self._first.get(idempotency_key) if idempotency_key else None
            if first in self._records:
                return first
            if idempotency_key:
                self._first[idempotency_key] = job_id
            self._records[job_id] = {"request": request.model_dump_json(), "created": _now()}
            return job_id

    def discard(self, job_id: str) -> None:
        self._records.pop(job_id, None)

    def status(self, job_id: str) -> JobStatus:
        with self._lock:
            return status_of(job_id, self._fields(job_id))

    def jobs(self, state: State | None = None, limit: int = 50) -> list[JobStatus]:
        with self._lock:
            statuses = [status_of(job_id, fields) for job_id, fields in reversed(self._records.items())]
        return [status for status in statuses if state is None or status.state is state][:limit]

    def begin(self, job_id: str, stage: Stage) -> State | None:
        with self._lock:
            fields = self._fields(job_id)
            attempts = str(int(fields.get(f"attempts:{stage.value}", 0)) + 1)
            started = fields.get("started", _now())
            begun = {"stage": stage.value, "step": "0", "steps": "0", "started": started}
            return self._write(job_id, {**begun, f"attempts:{stage.value}": attempts})

    def tick(self, job_id: str, step: int, steps: int) -> State | None:
        return self._write(job_id, {"step": str(step), "steps": str(steps)})

    def advance(self, job_id: str, stage: Stage, refs: Mapping[Slot, str], seconds: float, hit: bool) -> State | None:
        return self._write(job_id, done_fields(stage, refs, seconds, hit))

    def finish(self, job_id: str, outcome: State, error: ErrorInfo | None = None) -> State:
        assert outcome in TERMINAL
        ending = {"outcome": outcome.value, "finished": _now()}
        if error:
            ending["error"] = error.model_dump_json()
        return self._write(job_id, ending) or outcome

    def announce(self, worker: WorkerInfo) -> None:
        self._workers[worker.name] = (time.monotonic() + WORKER_TTL, worker)

    def leave(self, name: str) -> None:
        self._workers.pop(name, None)

    def workers(self) -> list[WorkerInfo]:
        return [worker for _, (until, worker) in sorted(self._workers.items()) if until > time.monotonic()]

    def depths(self, queues: Sequence[str]) -> dict[str, int]:
        return dict.fromkeys(queues, 0)

    def ping(self) -> None:
        pass

    def _fields(self, job_id: str) -> dict[str, str]:
        if job_id not in self._records:
            raise JobNotFound(job_id)
        return self._records[job_id]

    def _write(self, job_id: str, new: Mapping[str, str]) -> State | None:
        with self._lock:
            fields = self._fields(job_id)
            if "outcome" in fields:
                return State(fields["outcome"])
            fields.update(new)
            return None


class MemoryStore:
    """A `Store` in this process."""

    def __init__(self) -> None:
        self._objects: dict[str, bytes] = {}

    def put(self, key: str, data: bytes) -> None:
        self._objects[key] = data

    def get(self, key: str) -> bytes:
        if key not in self._objects:
            raise ArtifactError("nothing is stored under this key; it was deleted or never made")
        return self._objects[key]

    def exists(self, key: str) -> bool:
        return key in self._objects

    def url(self, key: str, expires: int) -> str:
        return f"memory://{key}?expires={expires}"

    def ping(self) -> None:
        pass


def _now() -> str:
    return f"{time.time():.6f}"
