"""Prometheus' own tool finds nothing to object to in the names, types and texts of our metrics."""

import subprocess
from dataclasses import fields
from datetime import UTC, datetime

import pytest
import torch
from prometheus_client import CollectorRegistry, ProcessCollector

from diffedit.contract.stages import Lane, Stage
from diffedit.contract.usage import Usage
from diffedit.exporter.collector import FleetCollector
from diffedit.jobs.backend import JobBackend
from diffedit.metrics_page import metrics_page
from diffedit.testing import memory_backend
from diffedit_worker.runtime.metrics import GpuMemory, WorkerMetrics
from diffedit_worker.runtime.stage_report import Outcome, StageReport
from tests.support.backend_behaviour import at_mask, new_job

FORMATS = ["", "text/plain;version=0.0.4"]
"""promtool reads no OpenMetrics."""


def check(text: bytes) -> None:
    found = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, check=False)
    assert (found.returncode, found.stdout, found.stderr) == (0, b"", b"")


def a_report() -> StageReport:
    given = {
        "stage": Stage.MASK,
        "profile": "tiny",
        "lane": Lane.BATCH,
        "owner": 'a "strange"\\owner\n',
        "outcome": Outcome.MADE,
        "code": "",
    }
    return StageReport(**{field.name: given.get(field.name, 1) for field in fields(StageReport)})


@pytest.mark.parametrize("accept", FORMATS)
def test_the_metrics_of_a_worker(accept: str) -> None:
    metrics = WorkerMetrics("tiny")
    metrics.observe_stage(a_report())
    metrics.observe_load("unet", 1.0)
    with metrics.measured_request("get"):
        pass
    with pytest.raises(ValueError), metrics.measured_request("put"):
        raise ValueError
    metrics.describe(worker="w@here", device="cuda:0", version="0.3.0")
    check(metrics.page(accept).body)


def test_the_memory_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 1)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 2)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (3, 4))
    registry = CollectorRegistry()
    registry.register(GpuMemory(torch.device("cuda:0")))
    text = metrics_page(registry)("").body
    assert b'device="cuda:0",kind="total"' in text
    check(text)


@pytest.mark.parametrize("accept", FORMATS)
def test_the_metrics_of_the_exporter(accept: str) -> None:
    backend: JobBackend = memory_backend()
    at_mask(backend)
    new_job(backend)
    used = Usage(day=datetime.now(UTC).date(), owner="ada", profile="tiny", succeeded=1)
    registry = CollectorRegistry()
    registry.register(FleetCollector(backend.census, lambda days: [used], owners=10))
    ProcessCollector(registry=registry)
    text = metrics_page(registry)(accept).body
    assert b"diffedit_usage_jobs_total{" in text and b"diffedit_workers{" in text
    check(text)
