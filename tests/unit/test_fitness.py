"""A worker pauses while the object store does not work, and leaves if it finds that it cannot run stages."""

import logging
import time

import pytest

from diffedit import Stage
from diffedit.errors import (
    ArtifactError,
    ArtifactMissing,
    BrokerUnavailable,
    DeviceFailed,
    ModelUnavailable,
    StoreRefused,
    StoreUnavailable,
    WorkerUnfit,
)
from diffedit.jobs.workers import TroubleKind
from diffedit.testing import MemoryObjectStore, memory_backend
from diffedit_worker.runtime.fitness import MAX_CLOCK_SKEW, Fitness, probe
from tests.support.contexts import a_fitness

FIRST, SECOND = "ab" * 16, "cd" * 16


class Rig:
    """A worker with its fitness.

    Attributes:
        broken: what is wrong with its models, if anything.
        pauses: what the pool was told.
        ended: how often the process was ended.
    """

    def __init__(self) -> None:
        self.backend, self.object_store = memory_backend(), MemoryObjectStore()
        self.broken: Exception | None = None
        self.pauses: list[bool] = []
        self.proofs = self.ended = 0
        self.fitness: Fitness = a_fitness(
            self.backend,
            self.object_store,
            prove_models=self.prove_models,
            set_paused=self.pauses.append,
            end_process=self.end_process,
        )

    def prove_models(self) -> None:
        self.proofs += 1
        if self.broken:
            raise self.broken

    def end_process(self) -> None:
        self.ended += 1

    @property
    def troubles(self) -> list[tuple[str, str]]:
        return [(each.code, each.message) for each in self.backend.worker_registry.troubles()]


@pytest.fixture
def rig() -> Rig:
    return Rig()


def failing(error: Exception):
    def fail(*args: object) -> None:
        raise error

    return fail


def test_a_healthy_worker_starts_and_leaves_nothing_in_the_bucket(rig: Rig) -> None:
    rig.fitness.prove_at_start()
    assert (rig.fitness.paused, rig.troubles, rig.object_store._objects) == (False, [], {})


def test_a_refused_probe_prevents_the_start(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rig.object_store, "put", failing(StoreRefused("InvalidAccessKeyId")))
    with pytest.raises(StoreRefused):
        rig.fitness.prove_at_start()


def test_a_store_that_does_not_answer_yet_pauses_the_worker(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as outage:
        outage.setattr(rig.object_store, "put", failing(StoreUnavailable("no answer")))
        rig.fitness.prove_at_start()
        assert rig.fitness.paused
        rig.fitness.end_pause_if_possible()
        assert rig.fitness.paused
        assert rig.troubles == [("store_unavailable", "no answer")]
    rig.fitness.end_pause_if_possible()
    assert not rig.fitness.paused
    assert (rig.pauses, rig.troubles, rig.ended) == ([True, False], [], 0)


def test_the_start_does_not_depend_on_redis(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rig.backend.job_store, "now", failing(BrokerUnavailable("no answer")))
    rig.fitness.prove_at_start()
    assert not rig.fitness.paused


@pytest.mark.parametrize("hours", [1, -1])
def test_a_clock_that_differs_from_s3s_prevents_the_start(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    monkeypatch.setattr(rig.object_store, "now", lambda: time.time() - hours * 3600)
    with pytest.raises(WorkerUnfit, match=f"3600 s {'ahead of' if hours > 0 else 'behind'} that of S3"):
        rig.fitness.prove_at_start()


@pytest.mark.parametrize("refuses", [True, False])
def test_without_s3s_time_the_redis_servers_counts(rig: Rig, monkeypatch: pytest.MonkeyPatch, refuses: bool) -> None:
    """S3 may refuse a request because the clock is wrong. That is then the reason to name."""
    monkeypatch.setattr(rig.object_store, "now", lambda: None)
    if refuses:
        monkeypatch.setattr(rig.object_store, "put", failing(StoreRefused("RequestTimeTooSkewed")))
    monkeypatch.setattr(rig.backend.job_store, "now", lambda: time.time() - 3600)
    with pytest.raises(WorkerUnfit, match="3600 s ahead of that of the Redis server"):
        rig.fitness.prove_at_start()


def test_a_redis_server_whose_clock_is_wrong_is_no_reason_to_leave(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rig.backend.job_store, "now", lambda: time.time() - 3600)
    rig.fitness.prove_at_start()


def test_a_clock_that_is_a_little_off_is_accepted(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rig.backend.job_store, "now", lambda: time.time() - MAX_CLOCK_SKEW / 2)
    rig.fitness.prove_at_start()


@pytest.mark.parametrize("error", [StoreRefused("AccessDenied"), StoreUnavailable("no answer")])
def test_a_stage_that_the_store_refused_pauses_the_worker(rig: Rig, error: StoreUnavailable) -> None:
    rig.fitness.stage_refused(Stage.MASK, FIRST, error)
    assert rig.fitness.paused
    assert (rig.pauses, rig.troubles, rig.proofs) == ([True], [(error.code, str(error))], 0)
    rig.fitness.stop()
    assert rig.troubles == []


def test_a_failure_of_the_device_always_ends_the_process(rig: Rig) -> None:
    rig.fitness.stage_refused(Stage.MASK, FIRST, DeviceFailed("CUDA error"))
    assert (rig.ended, rig.troubles) == (1, [("device_failed", "CUDA error")])


def test_two_refusals_in_a_row_make_a_worker_prove_itself(rig: Rig, caplog) -> None:
    rig.broken = ModelUnavailable("the UNet returns NaN")
    rig.fitness.stage_refused(Stage.MASK, FIRST, RuntimeError("a bug"))
    assert rig.proofs == 0
    with caplog.at_level(logging.CRITICAL):
        rig.fitness.stage_refused(Stage.MASK, SECOND, RuntimeError("a bug"))
    assert (rig.ended, rig.troubles) == (1, [("model_unavailable", "the UNet returns NaN")])
    assert "the UNet returns NaN" in caplog.text


def test_a_worker_that_proves_itself_goes_on(rig: Rig) -> None:
    for job in (FIRST, SECOND, FIRST, SECOND):
        rig.fitness.stage_refused(Stage.MASK, job, RuntimeError("a bug"))
    assert (rig.proofs, rig.ended, [code for code, _ in rig.troubles]) == (2, 0, ["internal"])
    (trouble,) = rig.backend.worker_registry.troubles()
    assert (trouble.kind, trouble.stage) == (TroubleKind.REFUSING, Stage.MASK)
    rig.fitness.stage_computed(Stage.MASK)
    assert rig.troubles == []


def test_one_job_twice_or_another_stage_does_not_count_as_two_in_a_row(rig: Rig) -> None:
    rig.fitness.stage_refused(Stage.MASK, FIRST, RuntimeError("a bug"))
    rig.fitness.stage_refused(Stage.MASK, FIRST, RuntimeError("a bug"))
    rig.fitness.stage_refused(Stage.EMBED, SECOND, RuntimeError("a bug"))
    rig.fitness.stage_computed(Stage.EMBED)
    assert rig.proofs == 0
    rig.fitness.stage_computed(Stage.MASK)
    rig.fitness.stage_refused(Stage.MASK, SECOND, RuntimeError("a bug"))
    assert rig.proofs == 0
    # A stage that works says nothing of another one, which may use another model.
    rig.fitness.stage_computed(Stage.EMBED)
    rig.fitness.stage_refused(Stage.MASK, FIRST, RuntimeError("a bug"))
    assert rig.proofs == 1


def test_a_worker_without_redis_cannot_prove_itself_and_goes_on(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rig.backend.job_store, "now", failing(BrokerUnavailable("no answer")))
    for job in (FIRST, SECOND):
        rig.fitness.stage_refused(Stage.MASK, job, RuntimeError("a bug"))
    assert (rig.ended, rig.fitness.paused) == (0, False)


def test_a_store_that_returns_something_else_is_no_store(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryObjectStore()
    monkeypatch.setattr(store, "get", lambda key: b"something else")
    with pytest.raises(StoreUnavailable, match="another object"):
        probe(store)
    monkeypatch.setattr(store, "get", failing(ArtifactError("too many bytes")))
    with pytest.raises(StoreUnavailable, match="too many bytes"):
        probe(store)


def test_a_store_that_loses_sight_of_an_object_for_a_moment_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffedit_worker.runtime.fitness.PROBE_PAUSE", 0.001)
    store, get, errors = MemoryObjectStore(), MemoryObjectStore.get, [ArtifactMissing(), ArtifactMissing()]

    def seen_later(key: str) -> bytes:
        if errors:
            raise errors.pop()
        return get(store, key)

    monkeypatch.setattr(store, "get", seen_later)
    probe(store)
    assert errors == [] and store.stored_in("artifacts/") == {}


def test_a_store_that_never_finds_what_was_stored_pauses_the_worker(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffedit_worker.runtime.fitness.PROBE_PAUSE", 0.001)
    monkeypatch.setattr(rig.object_store, "get", failing(ArtifactMissing()))
    rig.fitness.prove_at_start()
    assert (rig.ended, rig.fitness.paused) == (0, True)
    monkeypatch.undo()
    rig.fitness.end_pause_if_possible()
    assert not rig.fitness.paused
