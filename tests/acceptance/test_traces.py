"""One trace through real processes: web server, worker and sender of webhooks export it by OTLP to a collector."""

import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from diffedit import State
from diffedit.webhooks.signing import new_secret
from diffedit_worker.local.stack import LocalServices
from tests.support.collector import Collector, collecting
from tests.support.factories import PEAR, PICTURE, QUICK
from tests.support.services import WorkerGroup
from tests.support.waiting import until
from tests.support.web_server import served_process
from tests.support.webhook_receiver import Receiver, receiving

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACE = CALLER.split("-")[1]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServices]:
    with LocalServices(tmp_path_factory.mktemp("traces")) as stack:
        yield stack


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def test_all_processes_export_one_trace_and_send_its_last_spans_when_they_end(
    stack: LocalServices, workers: WorkerGroup, collector: Collector, receiver: Receiver, tmp_path: Path
) -> None:
    # Given processes that send their spans only once a minute, or when they end
    traced = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint, "OTEL_BSP_SCHEDULE_DELAY": "60000"}
    hooks = {"DIFFEDIT_WEBHOOK_SECRETS": new_secret(), "DIFFEDIT_WEBHOOK_ALLOW": "127.0.0.0/8"}
    sender = stack.start_program("webhooks", "webhooks", environment={**traced, **hooks})
    (worker,) = workers.start(**traced)
    # When an edit runs that a request with a trace has submitted
    with served_process({**stack.environment, **traced}, tmp_path, "--open") as server:
        answer = httpx.post(
            f"{server.url}/v1/edits",
            headers={"traceparent": CALLER, "Prefer": "wait=60"},
            files={"image": ("pear.png", PICTURE.read_bytes(), "image/png")},
            data={**PEAR, **QUICK, "webhook": receiver.url},
            timeout=90,
        )
        assert (answer.status_code, answer.json()["state"]) == (200, "succeeded"), answer.text
        until(lambda: len(receiver.requests) == 2, "the events")
    for process in (worker, sender):
        process.send_signal(signal.SIGTERM)
    until(lambda: None not in (worker.poll(), sender.poll()), "the end of worker and sender")
    # Then the collector has the whole trace
    spans = collector.spans_of(TRACE)
    assert {span.service for span in spans} == {"diffedit-web", "diffedit-worker", "diffedit-webhooks"}
    names = {span.id: span.name for span in spans}
    found = {(names.get(span.parent, "caller"), span.name) for span in spans}
    stages = ("embed", "mask", "invert", "edit")
    assert found == {
        ("caller", "POST /v1/edits"),
        ("POST /v1/edits", "diffedit submit"),
        *(("diffedit submit", name) for name in ("upload", "enqueue", "webhook started", "webhook succeeded")),
        *(("diffedit submit", f"{what} {stage}") for stage in stages for what in ("wait", "stage")),
        *((f"stage {stage}", part) for stage in stages for part in ("load", "compute", "save")),
    }
    job = answer.json()["id"]
    assert {span.attributes["diffedit.job"] for span in spans if span.name.startswith("stage ")} == {job}
    # And stages follow one another
    ran = [span for span in spans if span.name.startswith(("wait ", "stage "))]
    assert [span.name for span in ran] == [f"{what} {stage}" for stage in stages for what in ("wait", "stage")]


def test_a_collector_that_never_answers_hinders_neither_jobs_nor_the_end_of_a_worker(
    stack: LocalServices, workers: WorkerGroup
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        # A worker that waited for the collector would wait for longer than this test.
        traced = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_TIMEOUT": "100"}
        (worker,) = workers.start(**traced, OTEL_BSP_SCHEDULE_DELAY="10")
        assert workers.client.edit(PICTURE, **PEAR, **QUICK).wait(60).state is State.SUCCEEDED
        silent.settimeout(60)
        asked, _ = silent.accept()  # the worker has tried
        with asked:
            assert workers.client.edit(PICTURE, **PEAR, **QUICK).wait(60).state is State.SUCCEEDED
            worker.send_signal(signal.SIGTERM)
            until(lambda: worker.poll() is not None, "the end of the worker", timeout=30)
    assert worker.poll() == 0
