"""Traces: from the web request through client, queue waits and stages to the webhook."""

import logging
import os
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, TraceIdRatioBased
from opentelemetry.trace import SpanKind, StatusCode

from diffedit import AsyncClient, Settings
from diffedit.contract.job import State
from diffedit.contract.stages import Stage
from diffedit.contract.validation import TRACEPARENT
from diffedit.tracing import trace_of
from diffedit.webhooks.sender import Sender
from diffedit_web import create_app
from diffedit_worker.runtime.tracing import StageTracer
from tests.support.inline_worker import QUICK, SAMPLE, TEXTS, InlineWorker
from tests.support.spans import Spans, traced
from tests.support.webhook_receiver import Receiver, receiving

SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
PROGRAM = trace.get_tracer("program")


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Spans:
    return traced(monkeypatch)


@pytest.fixture
def worker() -> InlineWorker:
    worker = InlineWorker()
    worker.restart(context={"name": lambda: "rig@here"}, observers=[StageTracer()])
    return worker


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def send_events(worker: InlineWorker) -> None:
    settings = Settings(webhook_secrets=SECRET, webhook_allow="127.0.0.0/8")
    sender = Sender(settings, worker.backend.outbox)
    while sender.send_next():
        pass


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_one_trace_leads_from_the_request_to_the_webhook(
    spans: Spans, worker: InlineWorker, receiver: Receiver
) -> None:
    # Given a request of a page that is traced
    app = create_app(AsyncClient.over(worker.client), open_to_all=True)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as http:
        # When the edit runs and its events are sent
        answer = await http.post(
            "/v1/edits",
            headers={"traceparent": CALLER},
            files={"image": ("pear.png", SAMPLE.read_bytes(), "image/png")},
            data={**TEXTS, **QUICK, "webhook": receiver.url},
        )
    assert answer.status_code == 202, answer.text
    send_events(worker)
    job = answer.json()["id"]

    # Then all spans are of the page's trace
    assert spans.trace_ids == {CALLER.split("-")[1]}
    request = spans["POST /v1/edits"]
    assert request.parent and f"{request.parent.span_id:016x}" == CALLER.split("-")[2]
    assert request.kind is SpanKind.SERVER
    assert request.attributes["http.response.status_code"] == 202

    # And each is the child of the one that caused it
    stages = ("embed", "mask", "invert", "edit")
    parents = {
        "diffedit submit": "POST /v1/edits",
        "upload": "diffedit submit",
        "enqueue": "diffedit submit",
        **{f"{what} {stage}": "diffedit submit" for stage in stages for what in ("wait", "stage")},
        "webhook started": "diffedit submit",
        "webhook succeeded": "diffedit submit",
    }
    assert {name: spans.parent_of(spans[name]) for name in parents} == parents
    parts = [(span.name, spans.parent_of(span)) for span in spans.all if span.name in ("load", "compute", "save")]
    assert parts == [(part, f"stage {stage}") for stage in stages for part in ("load", "compute", "save")]
    assert len(spans.all) == 1 + len(parents) + len(parts)

    # And they say which job it was, and what became of it
    about = dict(spans["stage mask"].attributes)
    assert about.pop("diffedit.device_seconds") > 0
    assert about == {
        "diffedit.job": job,
        "diffedit.stage": "mask",
        "diffedit.profile": "tiny",
        "diffedit.lane": "interactive",
        "diffedit.owner": worker.job_store.status(job).owner,
        "diffedit.worker": "rig@here",
        "diffedit.attempt": 1,
        "diffedit.outcome": "made",
    }
    assert spans["diffedit submit"].attributes["diffedit.job"] == job
    assert spans["webhook succeeded"].attributes["http.response.status_code"] == 204

    # And nothing that the user wrote
    assert not any(text in str([(span.attributes, span.events) for span in spans.all]) for text in TEXTS.values())

    # And the receiver can continue the trace
    sent = [headers["traceparent"] for _, headers, _ in receiver.requests]
    events = [spans[f"webhook {name}"] for name in ("started", "succeeded")]
    assert [text.split("-")[2] for text in sent] == [f"{event.context.span_id:016x}" for event in events]


def test_the_spans_of_a_stage_lie_within_one_another(spans: Spans, worker: InlineWorker) -> None:
    worker.edit()
    for stage in (Stage.EMBED, Stage.MASK, Stage.INVERT, Stage.EDIT):
        waited, ran = spans[f"wait {stage.value}"], spans[f"stage {stage.value}"]
        assert waited.start_time <= waited.end_time == ran.start_time < ran.end_time
        load, compute, save = (span for span in spans.all if span.parent and span.parent.span_id == ran.context.span_id)
        assert ran.start_time <= load.start_time and load.end_time == compute.start_time
        assert compute.end_time == save.start_time and save.end_time == ran.end_time


def test_a_submission_belongs_to_the_span_of_the_program(spans: Spans, worker: InlineWorker) -> None:
    with PROGRAM.start_as_current_span("upload an album"):
        job = worker.edit()
    assert spans.parent_of(spans["diffedit submit"]) == "upload an album"
    recorded = job.status().options.traceparent
    assert recorded and recorded.split("-")[2] == f"{spans['diffedit submit'].context.span_id:016x}"


def test_each_edit_of_many_has_a_trace_of_its_own(spans: Spans, worker: InlineWorker) -> None:
    jobs = worker.client.edit_many(SAMPLE, ["a pear", "a lemon"], source_prompt="a plum", **QUICK)
    assert spans.trace_ids == {str(job.status().options.traceparent).split("-")[1] for job in jobs}
    assert len(spans.trace_ids) == 2


def test_a_retry_has_a_trace_of_its_own(spans: Spans, worker: InlineWorker) -> None:
    first = worker.edit()
    again = first.retry()
    traces = [str(job.status().options.traceparent).split("-")[1] for job in (first, again)]
    assert traces[0] != traces[1]
    assert spans.names.count("diffedit submit") == 2


def test_a_stage_that_fails_is_an_error_in_the_trace(spans: Spans, worker: InlineWorker) -> None:
    job = worker.edit(mask_thresholding_ratio=100.0)
    assert job.status().state is State.FAILED
    failed = spans["stage mask"]
    assert (failed.status.status_code, failed.attributes["diffedit.code"]) == (StatusCode.ERROR, "empty_mask")
    assert spans["stage embed"].status.status_code is StatusCode.UNSET


def test_a_submission_that_is_refused_is_an_error_in_the_trace(spans: Spans, worker: InlineWorker) -> None:
    def send(job: object) -> None:
        raise ConnectionError

    worker.client._recorder._send = send
    with pytest.raises(ConnectionError):
        worker.edit()
    assert spans["enqueue"].status.status_code is StatusCode.ERROR
    assert spans["diffedit submit"].status.status_code is StatusCode.ERROR


def test_an_idempotency_key_stands_for_the_same_edit_in_another_trace(spans: Spans, worker: InlineWorker) -> None:
    first, second = (worker.edit(idempotency_key="order-17") for _ in range(2))
    assert first.id == second.id
    assert str(second.status().options.traceparent).split("-")[1] in spans.trace_ids


def test_without_tracing_nothing_is_recorded_and_the_webhook_has_no_trace(
    worker: InlineWorker, receiver: Receiver
) -> None:
    job = worker.edit(webhook=receiver.url)
    send_events(worker)
    assert job.status().options.traceparent is None
    assert [headers.get("traceparent") for _, headers, _ in receiver.requests] == [None, None]


def test_a_sender_that_is_not_traced_hands_the_trace_on(worker: InlineWorker, receiver: Receiver) -> None:
    with pytest.MonkeyPatch.context() as patch:
        traced(patch)
        job = worker.edit(webhook=receiver.url)
    send_events(worker)
    assert {headers["traceparent"] for _, headers, _ in receiver.requests} == {job.status().options.traceparent}


def test_the_trace_of_a_job_whose_client_is_not_traced_has_the_id_of_the_job(
    worker: InlineWorker, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="diffedit_worker")
    jobs, send = [], worker.send
    worker.client._recorder._send = jobs.append
    job = worker.edit(webhook=receiver.url)
    spans = traced(monkeypatch)
    send(*jobs)
    send_events(worker)
    assert spans.trace_ids == {job.id}
    assert {"stage embed", "wait edit", "webhook started", "webhook succeeded"} < set(spans.names)
    assert all(headers["traceparent"].split("-")[1] == job.id for _, headers, _ in receiver.requests)
    assert [record.trace_id for record in caplog.records if hasattr(record, "trace_id")] == [job.id] * 4


def test_whoever_sampled_the_trace_decides(monkeypatch: pytest.MonkeyPatch, worker: InlineWorker) -> None:
    spans = traced(monkeypatch, ParentBased(ALWAYS_OFF))
    job = worker.edit()
    assert str(job.status().options.traceparent).endswith("-00")
    assert spans.all == []


def test_a_share_of_the_jobs_of_untraced_clients_is_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    from uuid import uuid4

    traced(monkeypatch, ParentBased(TraceIdRatioBased(0.25)))
    found = [str(trace_of(uuid4().hex, None)) for _ in range(4000)]
    assert all(TRACEPARENT.fullmatch(text) for text in found)
    sampled = sum(text.endswith("-01") for text in found)
    assert 800 < sampled < 1200  # eight standard deviations


def test_a_damaged_traceparent_of_a_record_counts_as_none(spans: Spans, worker: InlineWorker) -> None:
    job = worker.edit()
    worker.job_store._state.records[job.id]["traceparent"] = "00-zz"
    assert job.status().options.traceparent is None


def test_a_client_needs_no_opentelemetry() -> None:
    code = """
import sys
sys.modules["opentelemetry"] = None  # every import of it fails
from diffedit.testing import memory_client
from diffedit.trace_export import export_traces, flush_traces
from diffedit.webhooks.sender import Sender
from tests.support.fake_service import TEXTS, png
job = memory_client().edit(png(), **TEXTS)
print(job.status().options.traceparent, export_traces("program"))
flush_traces()
"""
    environment = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == ["None", "False"]
    assert "pip install 'diffedit-service[otel]'" in done.stderr
