"""The tables of docs/guides/monitoring.md list each metric with its type and labels, and nothing else."""

import re
from collections.abc import Iterable
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path

import torch
from prometheus_client.core import Metric

from diffedit.contract.stages import Lane, Stage
from diffedit.contract.usage import Usage
from diffedit.exporter.collector import FleetCollector
from diffedit.jobs.workers import TroubleKind
from diffedit.testing import memory_backend
from diffedit_worker.runtime.metrics import GpuMemory, WorkerMetrics
from diffedit_worker.runtime.stage_log import fields_of
from diffedit_worker.runtime.stage_report import Outcome, StageReport
from tests.support.backend_behaviour import at_mask, new_job

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "monitoring.md"
Documented = dict[str, tuple[str, frozenset[str]]]


def a_report() -> StageReport:
    given = {"stage": Stage.MASK, "lane": Lane.BATCH, "profile": "tiny", "owner": "ada", "traceparent": None}
    given |= {"outcome": Outcome.FAILED, "code": "x"}
    return StageReport(**{field.name: given.get(field.name, 1) for field in fields(StageReport)})


def section(title: str) -> str:
    return re.split(rf"^## {title}$", GUIDE.read_text(), flags=re.MULTILINE)[1].split("\n## ")[0]


def documented(title: str) -> Documented:
    rows = re.findall(r"^\| `(diffedit_\w+)` \| (\w+) \| ([\w, ]*) ?\|", section(title), re.MULTILINE)
    return {name: (kind, frozenset(labels.replace(",", " ").split())) for name, kind, labels in rows}


def existing(families: Iterable[Metric]) -> Documented:
    found: Documented = {}
    for family in families:
        suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
        kind = "gauge" if family.type == "info" else family.type
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        if family.name.startswith("diffedit_"):
            found[family.name + suffix] = (kind, frozenset(labels))
    return found


def test_each_metric_of_the_exporter_is_in_the_guide() -> None:
    backend = memory_backend()
    at_mask(backend)
    new_job(backend)
    used = Usage(day=datetime.now(UTC).date(), owner="ada", profile="tiny", succeeded=1)
    assert documented("The exporter") == existing(
        FleetCollector(backend.census, lambda days: [used], owners=1).collect()
    )
    for kind in TroubleKind:
        assert f"`{kind.value}`" in section("The exporter")


def test_each_metric_of_a_worker_is_in_the_guide(monkeypatch) -> None:
    metrics = WorkerMetrics("tiny")
    for outcome in (Outcome.MADE, Outcome.FAILED):
        metrics.observe_stage(StageReport(**{**vars(a_report()), "outcome": outcome}))
    metrics.observe_load("unet", 1.0)
    metrics.describe(worker="w", device="cuda:0", version="1")
    try:
        with metrics.measured_request("get"):
            raise ValueError
    except ValueError:
        pass
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 1)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 2)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (3, 4))
    families = [*metrics.registry.collect(), *GpuMemory(torch.device("cuda")).collect()]
    assert documented("The workers") == existing(families)


def test_the_guide_lists_all_outcomes_and_all_fields_of_a_line() -> None:
    assert set(re.findall(r"^\| `(\w+)` \| [^|]+ \|$", section("The workers"), re.MULTILINE)) == set(Outcome)
    named = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", section("Logs"), re.MULTILINE))))
    assert named == fields_of(a_report()).keys()
