"""What the exporter tells of a fleet, over the memory double, read as Prometheus reads it."""

import logging
import re
from datetime import UTC, datetime

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from diffedit.contract.stages import ModelGroup, Stage, queue_name
from diffedit.errors import BrokerUnavailable
from diffedit.exporter.collector import FleetCollector
from diffedit.jobs.backend import JobBackend
from diffedit.jobs.census import QueueCensus, parse_queue, work_seconds
from diffedit.jobs.workers import Trouble, TroubleKind
from diffedit.metrics_page import metrics_page
from diffedit.testing import memory_backend
from tests.support.backend_behaviour import ME, at_mask, new_job
from tests.support.factories import a_worker

LANGUAGE = {"profile": "tiny", "group": "language", "lane": "interactive"}
DIFFUSION = {"profile": "tiny", "group": "diffusion", "lane": "interactive"}


@pytest.fixture
def backend() -> JobBackend:
    return memory_backend()


@pytest.fixture
def registry(backend: JobBackend) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(FleetCollector(backend.census, backend.job_store.usage, owners=10))
    return registry


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(f"diffedit_{name}", labels)


def test_waiting_and_running_jobs_are_told_by_queue(backend: JobBackend, registry: CollectorRegistry) -> None:
    at_mask(backend)
    for _ in range(3):
        new_job(backend)
    assert value(registry, "jobs_waiting", **LANGUAGE) == 3
    assert value(registry, "jobs_running", **LANGUAGE) == 0
    assert value(registry, "jobs_waiting", **DIFFUSION) == 0
    assert value(registry, "jobs_running", **DIFFUSION) == 1
    assert value(registry, "jobs_waiting", **{**LANGUAGE, "lane": "batch"}) == 0
    oldest = value(registry, "oldest_waiting_seconds", **LANGUAGE)
    assert oldest is not None and 0 < oldest < 60
    assert value(registry, "oldest_waiting_seconds", **DIFFUSION) == 0
    assert value(registry, "redis_up") == 1


def test_a_paused_queue_is_told(backend: JobBackend, registry: CollectorRegistry) -> None:
    backend.job_store.pause_queues([queue_name("tiny", ModelGroup.DIFFUSION)])
    new_job(backend)
    assert value(registry, "queue_paused", **DIFFUSION) == 1
    assert value(registry, "queue_paused", **LANGUAGE) == 0


def test_workers_are_told_by_state_and_version(backend: JobBackend, registry: CollectorRegistry) -> None:
    language = (queue_name("tiny", ModelGroup.LANGUAGE),)
    for worker in (
        a_worker(id="1", name="1", version="0.3.0"),
        a_worker(id="2", name="2", version="0.3.0", job="ab" * 16),
        a_worker(id="3", name="3", version="0.3.0", paused=True, queues=language),
        a_worker(id="4", name="4", version="", queues=language),
    ):
        backend.worker_registry.send_heartbeat(worker)
    at = {"profile": "tiny", "group": "language"}
    assert value(registry, "workers", **at, state="idle", version="0.3.0") == 1
    assert value(registry, "workers", **at, state="busy", version="0.3.0") == 1
    assert value(registry, "workers", **at, state="paused", version="0.3.0") == 1
    assert value(registry, "workers", **at, state="idle", version="") == 1
    assert value(registry, "workers", **{**at, "group": "diffusion"}, state="idle", version="0.3.0") == 1
    assert value(registry, "workers", **{**at, "group": "diffusion"}, state="paused", version="0.3.0") is None


@pytest.mark.parametrize("has_announced_it", [False, True])
def test_a_worker_that_drains_is_neither_idle_nor_busy_nor_paused(
    backend: JobBackend, registry: CollectorRegistry, has_announced_it: bool
) -> None:
    worker = a_worker(id=ME, job="ab" * 16, version="0.3.0", draining=has_announced_it, paused=has_announced_it)
    backend.worker_registry.send_heartbeat(worker)
    if not has_announced_it:
        backend.worker_registry.request_drain([ME])
    at = {"profile": "tiny", "group": "diffusion", "version": "0.3.0"}
    assert value(registry, "workers", **at, state="draining") == 1
    assert value(registry, "workers", **at, state="busy") is value(registry, "workers", **at, state="paused") is None


def test_troubles_and_events_are_told(backend: JobBackend, registry: CollectorRegistry) -> None:
    assert value(registry, "worker_troubles", kind="unfit") == 0
    trouble = Trouble(name="a", kind=TroubleKind.UNFIT, code="worker_unfit", message="no", since=datetime.now(UTC))
    backend.worker_registry.report_trouble(trouble)
    assert value(registry, "worker_troubles", kind="unfit") == 1
    assert value(registry, "webhook_events", state="due") == 0
    assert value(registry, "webhook_sender_up") == 0
    backend.outbox.claim(1)
    assert value(registry, "webhook_sender_up") == 1
    assert value(registry, "damaged_keys") == value(registry, "jobs_overdue") == 0


def test_without_redis_only_that_is_told_and_it_is_logged_once(
    backend: JobBackend, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "diffedit.exporter.collector")
    new_job(backend)

    def down() -> None:
        raise BrokerUnavailable("no answer")

    take = backend.census.take
    monkeypatch.setattr(backend.census, "take", down)
    for _ in range(2):
        assert [family.name for family in registry.collect()] == ["diffedit_redis_up"]
        assert value(registry, "redis_up") == 0
    monkeypatch.setattr(backend.census, "take", take)
    assert value(registry, "redis_up") == 1
    assert [record.getMessage() for record in caplog.records] == ["no answer", "Redis answers again"]


def test_work_is_estimated_from_counts_and_measured_durations() -> None:
    durations = {Stage.MASK: 1.0, Stage.INVERT: 2.0, Stage.EDIT: 3.0, Stage.EMBED: 100.0}
    # A waiting job has, on average, a third of its mask, two thirds of its inversion and all of its edit before it.
    waiting = 1 / 3 + 2 * 2 / 3 + 3
    assert work_seconds(ModelGroup.DIFFUSION, QueueCensus(waiting=6), durations) == pytest.approx(6 * waiting)
    # A running one has half a stage less, on average 1 s.
    running = waiting - (1 + 2 + 3) / 3 / 2
    assert work_seconds(ModelGroup.DIFFUSION, QueueCensus(running=2), durations) == pytest.approx(2 * running)
    assert work_seconds(ModelGroup.DIFFUSION, QueueCensus(), durations) == 0
    # Something is to do, even if nobody knows how much: a scaler has to start the first worker.
    assert work_seconds(ModelGroup.DIFFUSION, QueueCensus(waiting=2), {}) == 20


def test_the_exporter_tells_that_estimate(backend: JobBackend, registry: CollectorRegistry) -> None:
    at_mask(backend)
    assert value(registry, "work_seconds", **DIFFUSION) == 5.0
    assert value(registry, "work_seconds", **LANGUAGE) == 0


FOREIGN = ["", "celery", "diffedit.tiny", "diffedit.tiny.other", "diffedit.tiny.language.x", "x.tiny.language"]
NOT_CANONICAL = ["diffedit..language", "diffedit.tiny.language.interactive", "diffedit.tiny.language.batch.batch"]


@pytest.mark.parametrize(
    "name",
    [
        "",
        "celery",
        "diffedit.tiny",
        "diffedit.tiny.other",
        "diffedit.tiny.language.x",
        "x.tiny.language",
        *NOT_CANONICAL,
    ],
)
def test_a_foreign_queue_is_none_of_ours(name: str) -> None:
    assert parse_queue(name) is None


def test_names_have_base_units_and_the_suffix_of_their_type(backend: JobBackend, registry: CollectorRegistry) -> None:
    new_job(backend)
    families = list(registry.collect())
    assert len(families) == 15
    for family in families:
        assert re.fullmatch(r"diffedit(_[a-z]+)+", family.name)
        assert family.documentation.endswith(".")
        assert not family.name.endswith(("_count", "_sum", "_bucket", "_total", "_info"))
    text = metrics_page(registry)("").body.decode()
    assert len(list(text_string_to_metric_families(text))) == 15
    assert not re.search(r"[0-9a-f]{32}", text)  # no id of a job
