"""The outbox of webhooks: over the double and over Redis."""

import json
import time

import pytest

from diffedit.contract.job import ErrorInfo, Job, State
from diffedit.contract.stages import Stage
from diffedit.contract.webhooks import DeliveryState, WaitingEvents
from diffedit.errors import JobNotFound
from diffedit.jobs import outbox
from diffedit.jobs.backend import JobBackend
from diffedit.jobs.outbox import PATIENCE, Event, payload_of
from tests.support.backend_behaviour import ME, BackendBehaviour, until_overdue
from tests.support.factories import a_worker
from tests.support.owner_behaviour import ALL, create, run
from tests.support.waiting import until

URL = "https://example.com/hooks?a=1"
LEASE = 60.0
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def claimed(backend: JobBackend) -> list[Event]:
    """Claim and deliver everything that is due."""
    events = []
    while event := backend.outbox.claim(LEASE):
        events.append(event)
        backend.outbox.settle(event)
    return events


def next_due(backend: JobBackend) -> Event:
    """Wait until an event is due, and claim it."""
    found: list[Event] = []
    until(lambda: found.extend(filter(None, [backend.outbox.claim(LEASE)])) or found, "an event that is due")
    return found[0]


def names(events: list[Event]) -> list[str]:
    return [event.name for event in events]


class WebhookBehaviour(BackendBehaviour):
    @pytest.fixture
    def job(self, backend: JobBackend) -> Job:
        return create(backend, webhook=URL, owner="Zoë", tags={"album": "9"})

    def test_start_and_success_are_events(self, backend: JobBackend, job: Job) -> None:
        assert backend.outbox.claim(LEASE) is None
        run(backend, job, *ALL)
        started, succeeded = claimed(backend)
        status = backend.job_store.status(job.id)
        assert status.options == job.options and status.contract == 1
        assert (started.id, started.url, started.attempt) == (f"{job.id}.started", URL, 1)
        assert payload_of(started)["data"]["finished_at"] is None
        payload = payload_of(succeeded)
        assert payload == {
            "type": "edit.succeeded",
            "timestamp": payload["data"]["finished_at"],
            "data": {
                "id": job.id,
                "state": "succeeded",
                "owner": "Zoë",
                "tags": {"album": "9"},
                "error": None,
                "created_at": status.created_at.isoformat(),
                "started_at": status.started_at.isoformat(),
                "finished_at": status.finished_at.isoformat(),
            },
        }
        assert claimed(backend) == []

    def test_each_end_is_an_event_with_its_code_and_no_message(self, backend: JobBackend, job: Job) -> None:
        error = ErrorInfo(stage=Stage.MASK, code="empty_mask", message="10.0.0.1 has no mask")
        backend.job_store.end_job(job.id, State.FAILED, error)
        (failed,) = claimed(backend)
        assert payload_of(failed)["data"]["error"] == {"code": "empty_mask", "stage": "mask"}
        assert "10.0.0.1" not in json.dumps(payload_of(failed))
        cancelled = create(backend, webhook=URL)
        backend.job_store.end_job(cancelled.id, State.CANCELLED)
        backend.job_store.end_job(cancelled.id, State.FAILED)
        assert names(claimed(backend)) == ["cancelled"]
        late = create(backend, webhook=URL, deadline=0.01)
        until_overdue(backend, late)
        backend.job_store.status(late.id)
        assert names(claimed(backend)) == ["expired"]

    def test_the_events_of_a_job_belong_to_its_trace(self, backend: JobBackend) -> None:
        traced, untraced = create(backend, webhook=URL, traceparent=TRACE), create(backend, webhook=URL)
        for job in (traced, untraced):
            assert backend.job_store.status(job.id).options == job.options
            run(backend, job, *ALL)
        found = {(event.job_id, event.name): event.traceparent for event in claimed(backend)}
        assert found == {
            (job.id, name): trace
            for job, trace in ((traced, TRACE), (untraced, None))
            for name in ("started", "succeeded")
        }

    def test_a_job_without_a_webhook_has_no_events(self, backend: JobBackend) -> None:
        job = create(backend)
        run(backend, job, *ALL)
        assert claimed(backend) == []
        assert backend.job_store.status(job.id).deliveries == ()
        assert not backend.job_store.resend_webhook(job.id)

    def test_a_stage_that_runs_again_starts_the_job_once(self, backend: JobBackend, job: Job) -> None:
        backend.worker_registry.send_heartbeat(a_worker(id=ME))
        backend.job_store.start_stage(job.id, Stage.EMBED, ME)
        backend.job_store.requeue(job, ME)
        backend.job_store.start_stage(job.id, Stage.EMBED, ME)
        assert names(claimed(backend)) == ["started"]

    def test_a_claimed_event_is_due_again_after_its_lease(self, backend: JobBackend, job: Job) -> None:
        backend.job_store.end_job(job.id, State.CANCELLED)
        lost = backend.outbox.claim(0.7)
        assert lost is not None and backend.outbox.claim(LEASE) is None
        again = next_due(backend)
        assert (again.id, again.attempt) == (lost.id, 2)
        backend.outbox.settle(lost)  # it was only slow, and says so too late
        (delivery,) = backend.job_store.status(job.id).deliveries
        assert (delivery.state, delivery.attempts) == (DeliveryState.PENDING, 2)
        backend.outbox.settle(again)
        (delivery,) = backend.job_store.status(job.id).deliveries
        assert (delivery.event, delivery.state, delivery.attempts) == ("edit.cancelled", DeliveryState.DELIVERED, 2)

    def test_a_failed_attempt_is_repeated_for_a_day(self, backend: JobBackend, job: Job) -> None:
        backend.job_store.end_job(job.id, State.CANCELLED)
        event = backend.outbox.claim(LEASE)
        backend.outbox.settle(event, "the answer was 500", 0.7)
        (delivery,) = backend.job_store.status(job.id).deliveries
        assert (delivery.state, delivery.error) == (DeliveryState.PENDING, "the answer was 500")
        assert backend.outbox.claim(LEASE) is None
        event = next_due(backend)
        assert event.attempt == 2
        backend.outbox.settle(event, "the answer was 502", PATIENCE + 1)
        (delivery,) = backend.job_store.status(job.id).deliveries
        assert (delivery.state, delivery.error) == (DeliveryState.GIVEN_UP, "the answer was 502")
        assert backend.outbox.claim(LEASE) is None

    def test_an_event_is_sent_again_by_hand(self, backend: JobBackend, job: Job) -> None:
        assert not backend.job_store.resend_webhook(job.id)
        run(backend, job, Stage.EMBED)
        claimed(backend)
        assert backend.job_store.resend_webhook(job.id)
        assert names(claimed(backend)) == ["started"]
        backend.job_store.end_job(job.id, State.CANCELLED)
        event = backend.outbox.claim(LEASE)
        backend.outbox.settle(event, "the answer was 500", 3600)
        assert backend.job_store.resend_webhook(job.id)
        (again,) = claimed(backend)
        assert (again.id, again.attempt) == (event.id, 2)
        started, cancelled = backend.job_store.status(job.id).deliveries
        assert (started.event, cancelled.event, cancelled.error) == ("edit.started", "edit.cancelled", None)
        with pytest.raises(JobNotFound):
            backend.job_store.resend_webhook("0" * 32)

    def test_an_event_outlives_the_record(self, backend: JobBackend, job: Job) -> None:
        backend.job_store.remove_job(job.id)
        (event,) = claimed(backend)
        assert payload_of(event)["data"]["state"] == "cancelled"
        with pytest.raises(JobNotFound):
            backend.job_store.status(job.id)

    def test_a_job_that_never_reached_its_queue_has_no_event(self, backend: JobBackend, job: Job) -> None:
        backend.job_store.discard_job(job.id)
        assert claimed(backend) == []

    def test_events_that_wait_are_counted_and_a_sender_is_seen(
        self, backend: JobBackend, job: Job, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert backend.outbox.waiting() == WaitingEvents()
        backend.job_store.end_job(job.id, State.CANCELLED)
        backend.job_store.end_job(create(backend, webhook=URL).id, State.CANCELLED)
        time.sleep(0.05)
        found = backend.outbox.waiting()
        assert (found.due, found.has_sender) == (2, False) and 0.05 <= found.oldest < 30
        monkeypatch.setattr(outbox, "MOST_COUNTED", 1)
        assert backend.outbox.waiting().due == 1
        monkeypatch.undo()
        monkeypatch.setattr(outbox, "SENDER_TTL", 2)
        failed, lost = backend.outbox.claim(LEASE), backend.outbox.claim(0.1)
        assert backend.outbox.waiting().has_sender
        backend.outbox.settle(failed, "the answer was 500", 3600)
        until(lambda: backend.outbox.waiting().due == 1, "the event of a sender that was lost", timeout=10)
        backend.outbox.settle(lost)
        found = backend.outbox.waiting()
        assert (found.due, found.oldest) == (0, None)
        until(lambda: not backend.outbox.waiting().has_sender, "that the sender counts as gone", timeout=10)
        backend.outbox.claim(LEASE)
        assert backend.outbox.waiting().has_sender
