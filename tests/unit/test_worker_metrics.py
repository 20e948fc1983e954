"""The metrics of a worker: over the memory doubles and the bundled model, read as Prometheus reads them."""

import re
from dataclasses import replace
from typing import Any

import pytest
import torch
from prometheus_client.parser import text_string_to_metric_families

from diffedit.contract.stages import Lane, Stage
from diffedit.errors import ArtifactMissing, OutOfMemory, StoreRefused
from diffedit.testing import MemoryObjectStore
from diffedit_worker.models.loading import Models
from diffedit_worker.models.profiles import load_profiles
from diffedit_worker.runtime import metrics
from diffedit_worker.runtime.measured_store import MeasuredStore
from diffedit_worker.runtime.metrics import GpuMemory, WorkerMetrics
from diffedit_worker.runtime.stage_report import Outcome, StageReport
from tests.support.inline_worker import InlineWorker

REPORT = StageReport(
    job_id="ab" * 16,
    stage=Stage.MASK,
    profile="tiny",
    lane=Lane.INTERACTIVE,
    owner=None,
    traceparent=None,
    worker="w@here",
    attempt=1,
    waited=0.5,
    started_at=0.0,
    seconds=2.0,
    load_seconds=0.1,
    compute_seconds=1.0,
    save_seconds=0.1,
    device_seconds=0.75,
    outcome=Outcome.MADE,
    code="",
)
MASK = {"profile": "tiny", "stage": "mask", "lane": "interactive"}


@pytest.fixture
def worker_metrics() -> WorkerMetrics:
    return WorkerMetrics("tiny")


def text_of(worker_metrics: WorkerMetrics) -> str:
    return worker_metrics.page("").body.decode()


def value(worker_metrics: WorkerMetrics, name: str, **labels: str) -> float | None:
    return worker_metrics.registry.get_sample_value(name, labels)


def test_a_stage_that_was_made_is_counted_and_measured(worker_metrics: WorkerMetrics) -> None:
    worker_metrics.observe_stage(REPORT)
    assert value(worker_metrics, "diffedit_stages_total", **MASK, outcome="made", code="") == 1
    assert value(worker_metrics, "diffedit_stage_duration_seconds_sum", **MASK) == 2
    assert value(worker_metrics, "diffedit_stage_wait_seconds_sum", **MASK) == 0.5
    assert value(worker_metrics, "diffedit_gpu_seconds_total", profile="tiny", owner="") == 0.75


def test_only_what_was_made_is_measured(worker_metrics: WorkerMetrics) -> None:
    failed = replace(REPORT, outcome=Outcome.FAILED, code="empty_mask", waited=None, device_seconds=0.0)
    worker_metrics.observe_stage(failed)
    worker_metrics.observe_stage(replace(failed, outcome=Outcome.FOUND, code=""))
    assert value(worker_metrics, "diffedit_stages_total", **MASK, outcome="failed", code="empty_mask") == 1
    assert value(worker_metrics, "diffedit_stages_total", **MASK, outcome="found", code="") == 1
    for name in ("stage_duration_seconds_count", "stage_wait_seconds_count"):
        assert value(worker_metrics, f"diffedit_{name}", **MASK) is None
    assert value(worker_metrics, "diffedit_gpu_seconds_total", profile="tiny", owner="") is None


def test_the_number_of_owners_is_limited(worker_metrics: WorkerMetrics, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "MAX_OWNERS", 2)
    for owner in ("a", "b", "c", "a", "d", None):
        worker_metrics.observe_stage(replace(REPORT, owner=owner, device_seconds=1.0))
    seconds = {
        owner: value(worker_metrics, "diffedit_gpu_seconds_total", profile="tiny", owner=owner)
        for owner in ("a", "b", "other", "", "c", "d")
    }
    assert seconds == {"a": 2, "b": 1, "other": 2, "": 1, "c": None, "d": None}


def test_requests_to_the_object_store_are_measured(worker_metrics: WorkerMetrics) -> None:
    class Refusing(MemoryObjectStore):
        def put(self, key: str, data: bytes) -> None:
            raise StoreRefused("no")

        def delete(self, key: str) -> None:
            raise ValueError("unexpected")

    store = MeasuredStore(Refusing(), worker_metrics.measured_request)
    for call, error in (
        (lambda: store.put("k", b""), StoreRefused),
        (lambda: store.delete("k"), ValueError),
        (lambda: store.get("k"), ArtifactMissing),
    ):
        with pytest.raises(error):
            call()
    assert not store.exists("k")
    store.ping()
    for operation in ("put", "delete", "get", "exists", "ping"):
        assert value(worker_metrics, "diffedit_store_request_seconds_count", operation=operation) == 1
    assert value(worker_metrics, "diffedit_store_errors_total", operation="put", code="store_refused") == 1
    assert value(worker_metrics, "diffedit_store_errors_total", operation="delete", code="internal") == 1
    # A missing object is an answer.
    assert value(worker_metrics, "diffedit_store_errors_total", operation="get", code="artifact_missing") is None


def test_hand_backs_recoveries_and_loads_are_counted(worker_metrics: WorkerMetrics) -> None:
    assert value(worker_metrics, "diffedit_recoveries_total", profile="tiny") == 0
    worker_metrics.count_recovery("tiny")
    worker_metrics.count_hand_back()
    worker_metrics.observe_load("unet", 3.0)
    worker_metrics.describe(worker="w@here", device="cpu", version="0.3.0")
    assert value(worker_metrics, "diffedit_recoveries_total", profile="tiny") == 1
    assert value(worker_metrics, "diffedit_hand_backs_total", profile="tiny") == 1
    assert value(worker_metrics, "diffedit_model_load_seconds_sum", profile="tiny", component="unet") == 3
    labels = {"worker": "w@here", "profile": "tiny", "device": "cpu", "version": "0.3.0"}
    assert value(worker_metrics, "diffedit_worker_info", **labels) == 1


def test_a_model_tells_how_long_it_took_to_load_and_a_configuration_does_not() -> None:
    loaded: dict[str, float] = {}
    models = Models(load_profiles(None)["tiny"], device="cpu", on_loaded=loaded.__setitem__)
    for _ in range(2):
        assert models.vae and models.text_shape and models.scheduler_config
    assert loaded.keys() == {"vae"} and loaded["vae"] > 0


def test_an_edit_shows_in_the_metrics(worker_metrics: WorkerMetrics) -> None:
    worker = InlineWorker()
    worker.restart(
        context={"stage_handed_back": worker_metrics.count_hand_back}, observers=[worker_metrics.observe_stage]
    )
    worker.edit()
    for stage in ("embed", "mask", "invert", "edit"):
        labels = {"profile": "tiny", "stage": stage, "lane": "interactive", "outcome": "made", "code": ""}
        assert value(worker_metrics, "diffedit_stages_total", **labels) == 1
    worker.runner.hand_back("ab" * 16)
    assert value(worker_metrics, "diffedit_hand_backs_total", profile="tiny") == 1


@pytest.mark.parametrize(("fails", "counted"), [(1, 1), (2, 2)])
def test_each_shortage_of_memory_is_counted(
    worker_metrics: WorkerMetrics, monkeypatch: pytest.MonkeyPatch, fails: int, counted: int
) -> None:
    """Once if the second try succeeds, twice if it does not."""
    worker, calls = InlineWorker(), []
    worker.restart(observers=[worker_metrics.observe_stage])
    models = worker.models_of("tiny")
    run_within = models.memory.run_within

    def short_of_memory(run: Any, again: Any) -> Any:
        def run_short() -> Any:
            calls.append(1)
            if len(calls) <= fails:
                raise torch.OutOfMemoryError
            return run()

        return run_within(run_short, again)

    monkeypatch.setattr(models.memory, "run_within", short_of_memory)
    monkeypatch.setattr(models.memory, "max_batch", models.memory.max_batch)
    worker.edit()
    assert value(worker_metrics, "diffedit_out_of_memory_total", profile="tiny", stage="embed") == counted
    labels = {"profile": "tiny", "stage": "embed", "lane": "interactive"}
    if fails == 2:
        code = OutOfMemory.code
        assert value(worker_metrics, "diffedit_stages_total", **labels, outcome="refused", code=code) == 1


def test_gpu_memory_is_told_by_kind_and_left_out_when_the_device_has_failed(
    worker_metrics: WorkerMetrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker_metrics.add_device(torch.device("cpu"))
    assert "diffedit_gpu_memory_bytes" not in text_of(worker_metrics)
    for _ in range(2):  # one device, however many profiles
        worker_metrics.add_device(torch.device("cuda:0"))
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 1)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 2)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (3, 4))
    for kind, expected in (("allocated", 1), ("reserved", 2), ("total", 4)):
        assert value(worker_metrics, "diffedit_gpu_memory_bytes", device="cuda:0", kind=kind) == expected

    def failed(device: torch.device) -> int:
        raise RuntimeError("CUDA error: unspecified launch failure")

    monkeypatch.setattr(torch.cuda, "memory_reserved", failed)
    assert "diffedit_gpu_memory_bytes{" not in text_of(worker_metrics)


def test_the_page_is_text_that_prometheus_reads(worker_metrics: WorkerMetrics) -> None:
    worker_metrics.observe_stage(REPORT)
    answer = worker_metrics.page("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2")
    assert answer.media_type.startswith("application/openmetrics-text")
    families = {family.name: family for family in text_string_to_metric_families(text_of(worker_metrics))}
    assert families["diffedit_stage_duration_seconds"].type == "histogram"
    assert "ab" * 16 not in text_of(worker_metrics)


def test_names_have_base_units_and_the_suffix_of_their_type(worker_metrics: WorkerMetrics) -> None:
    families = [*worker_metrics.registry.collect(), *GpuMemory(torch.device("cuda")).describe()]
    ours = [family for family in families if family.name.startswith("diffedit_")]
    assert len(ours) == 12
    for family in ours:
        assert re.fullmatch(r"diffedit(_[a-z]+)+", family.name)
        assert family.documentation.endswith(".")
        assert "milli" not in family.name and not family.name.endswith(("_count", "_sum", "_bucket", "_total"))
        if family.type == "histogram":
            assert family.name.endswith("_seconds")
        if family.type == "gauge":
            assert family.name.endswith("_bytes")
