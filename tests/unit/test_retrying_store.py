"""A stage waits for an S3 server that does not answer, as long as there is a reason to wait."""

import pytest

from diffedit import State
from diffedit.contract.stages import Stage
from diffedit.errors import StoreRefused, StoreUnavailable
from diffedit.testing import MemoryObjectStore
from diffedit_worker.runtime.retrying_store import RetryingStore
from tests.support.inline_worker import InlineWorker

ENDLESS = 10**6


class FaultyStore(MemoryObjectStore):
    """Does not answer the first `faults` downloads."""

    def __init__(self, faults: int) -> None:
        super().__init__()
        self.faults = faults

    def get(self, key: str) -> bytes:
        self.faults -= 1
        if self.faults >= 0:
            raise StoreUnavailable("S3 does not answer")
        return super().get(key)


@pytest.fixture
def worker() -> InlineWorker:
    return InlineWorker()


def test_each_request_passes_through() -> None:
    store = RetryingStore(MemoryObjectStore(), timeout=0, on_retry=pytest.fail)
    store.put("artifacts/a", b"data")
    assert store.exists("artifacts/a")
    assert store.get("artifacts/a") == b"data"
    store.delete("artifacts/a")
    assert not store.exists("artifacts/a")


def test_an_error_of_on_retry_ends_the_retries() -> None:
    def stop() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        RetryingStore(FaultyStore(faults=ENDLESS), timeout=ENDLESS, on_retry=stop).get("artifacts/a")


def test_a_short_outage_is_waited_out_and_counted(worker: InlineWorker) -> None:
    worker.object_store = FaultyStore(faults=2)
    worker.restart()
    status = worker.edit().status()
    assert status.state is State.SUCCEEDED
    assert status.retries == 2
    assert set(status.attempts.values()) == {1}


def test_a_longer_outage_costs_attempts(worker: InlineWorker) -> None:
    worker.object_store = FaultyStore(faults=3)
    worker.restart(s3_retry_timeout=0)
    assert worker.edit().status().attempts[Stage.MASK] == 3  # the stage before it reads nothing from the store


def test_an_outage_in_every_attempt_fails_the_job(worker: InlineWorker) -> None:
    worker.object_store = FaultyStore(faults=99)
    worker.restart(s3_retry_timeout=0)
    error = worker.edit(seed=8).status().error
    assert (error.stage, error.code) == (Stage.MASK, "store_unavailable")
    assert "DIFFEDIT_S3_RETRY_TIMEOUT" in error.message


def test_a_store_that_refuses_is_asked_once(worker: InlineWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(key: str) -> bytes:
        raise StoreRefused("S3 refuses (AccessDenied)")

    monkeypatch.setattr(worker.object_store, "get", refuse)
    worker.restart(s3_retry_timeout=ENDLESS)
    status = worker.edit().status()
    assert (status.error.code, status.retries, status.attempts[Stage.MASK]) == ("store_refused", 0, 1)
    assert "AccessDenied" in status.error.message


def test_a_cancelled_job_does_not_wait_for_the_store(worker: InlineWorker) -> None:
    worker.object_store = FaultyStore(faults=ENDLESS)
    count = worker.job_store.count_retry

    def cancel_then_count(job_id: str, worker_id: str) -> State | None:
        worker.client.job(job_id).cancel()
        return count(job_id, worker_id)

    worker.job_store.count_retry = cancel_then_count
    worker.restart(s3_retry_timeout=ENDLESS)
    assert worker.edit().status().state is State.CANCELLED


def test_a_worker_that_shuts_down_does_not_wait_for_the_store(worker: InlineWorker) -> None:
    worker.object_store = FaultyStore(faults=ENDLESS)
    requeued = []
    worker.restart(s3_retry_timeout=ENDLESS, context={"enqueue": requeued.append})

    def shut_down(stage: Stage, job: object) -> None:
        if stage is Stage.MASK:
            get = worker.object_store.get

            def get_during_shutdown(key: str) -> bytes:
                worker.shutting_down = True
                return get(key)

            worker.object_store.get = get_during_shutdown

    worker.before_stage = shut_down
    job = worker.edit()
    assert [each.stages_left[0] for each in requeued] == [Stage.MASK]
    assert (job.status().attempts.get(Stage.MASK, 0), job.status().state) == (0, State.RUNNING)
