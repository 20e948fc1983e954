"""A stage waits for an S3 server that does not answer, as long as there is a reason to wait."""

import pytest

from diffedit import State
from diffedit.contract.stages import Stage
from diffedit.errors import StoreRefused, StoreUnavailable
from diffedit.retries import STAGE_S3_MAX_WAIT, STAGE_S3_REFUSED
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
    objects = MemoryObjectStore()
    store = RetryingStore(objects, timeout=0, on_retry=pytest.fail)
    store.put("artifacts/a", b"data")
    assert store.get("artifacts/a") == b"data"
    store.delete("artifacts/a")
    assert not objects.exists("artifacts/a")


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


@pytest.mark.parametrize("error", [StoreUnavailable("S3 does not answer"), StoreRefused("S3 refuses (AccessDenied)")])
def test_a_longer_outage_is_a_reason_to_pass_the_job_on(
    worker: InlineWorker, monkeypatch: pytest.MonkeyPatch, error: StoreUnavailable
) -> None:
    def fail(key: str) -> bytes:
        raise error

    monkeypatch.setattr(worker.object_store, "get", fail)
    worker.restart(s3_retry_timeout=0)
    status = worker.edit().status()
    assert (status.state, status.refusal.stage, status.refusal.code) == (State.RUNNING, Stage.EMBED, error.code)
    assert (status.attempts[Stage.EMBED], status.refusal.message) == (0, str(error))


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize(
    ("error", "patience"),
    [(StoreUnavailable("S3 does not answer"), 60), (StoreRefused("S3 refuses (AccessDenied)"), STAGE_S3_REFUSED)],
)
def test_a_refusal_is_repeated_for_seconds_and_an_outage_for_the_whole_timeout(
    monkeypatch: pytest.MonkeyPatch, error: StoreUnavailable, patience: float
) -> None:
    clock, calls = Clock(), []
    monkeypatch.setattr("tenacity.nap.time.sleep", clock.sleep)
    monkeypatch.setattr("time.monotonic", lambda: clock.now)

    def fail(key: str) -> bytes:
        calls.append(clock.now)
        raise error

    store = MemoryObjectStore()
    store.get = fail
    with pytest.raises(type(error)):
        RetryingStore(store, timeout=60, on_retry=lambda: None).get("artifacts/a")
    assert patience <= calls[-1] <= patience + STAGE_S3_MAX_WAIT
    assert len(calls) > 3


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
        if stage is Stage.EMBED:
            get = worker.object_store.get

            def get_during_shutdown(key: str) -> bytes:
                worker.shutting_down = True
                return get(key)

            worker.object_store.get = get_during_shutdown

    worker.before_stage = shut_down
    job = worker.edit()
    assert [each.stages_left[0] for each in requeued] == [Stage.EMBED]
    assert (job.status().attempts.get(Stage.EMBED, 0), job.status().state) == (0, State.RUNNING)
