"""What is left of a job whose submission ended with an error: over the doubles and over Redis."""

import traceback
from collections.abc import Callable
from typing import Any

import pytest

from diffedit import (
    BrokerFull,
    BrokerUnavailable,
    Client,
    DiffEditError,
    IdempotencyConflict,
    InvalidRequest,
    QueueFull,
    Settings,
)
from diffedit.contract.job import Job
from diffedit.testing import JobBackend, MemoryObjectStore
from tests.support.backend_behaviour import BackendBehaviour, orphans
from tests.support.fake_service import TEXTS, png

ERRORS = [
    BrokerUnavailable("gone"),
    BrokerFull(),
    InvalidRequest("never"),
    TypeError("a bug in send"),
    ConnectionResetError("raw"),
    KeyboardInterrupt(),
    SystemExit(1),
]


def raising(error: BaseException) -> Callable[[Job], None]:
    def send(job: Job) -> None:
        raise error

    return send


def said_by(error: BaseException) -> str:
    """Return what a user sees of an error: the message of one of ours, the whole traceback of another one."""
    return str(error) if isinstance(error, DiffEditError) else "".join(traceback.format_exception(error))


def is_empty(backend: JobBackend) -> bool:
    """Whether there is nothing that any worker would ever run."""
    store = backend.job_store
    return store.list_jobs().statuses == orphans(backend, waited=0) == [] and not store.keys_in_use()


@pytest.mark.filterwarnings("ignore::diffedit.NoWorkerWarning")
class SubmissionBehaviour(BackendBehaviour):
    def client(self, backend: JobBackend, send: Callable[[Job], None]) -> Client:
        return Client(Settings(), backend=backend, object_store=MemoryObjectStore(), send=send)

    @pytest.mark.parametrize("error", ERRORS, ids=repr)
    def test_without_a_key_a_job_that_cannot_be_sent_is_discarded(
        self, backend: JobBackend, error: BaseException
    ) -> None:
        with pytest.raises(type(error)) as caught:
            self.client(backend, raising(error)).edit(png(), **TEXTS)
        assert caught.value is error
        assert "recorded" not in said_by(error)
        assert is_empty(backend)

    @pytest.mark.parametrize("kind", [BrokerUnavailable, TypeError, KeyboardInterrupt, QueueFull])
    def test_with_a_key_a_job_that_cannot_be_sent_stays_and_the_error_says_so(
        self, backend: JobBackend, kind: type[BaseException]
    ) -> None:
        error = kind("batch", "tiny", 1) if kind is QueueFull else kind("gone")
        with pytest.raises(kind) as caught:
            self.client(backend, raising(error)).edit(png(), **TEXTS, idempotency_key="k")
        again = self.client(backend, lambda job: None).edit(png(), **TEXTS, idempotency_key="k")
        assert f"job {again.id} stays recorded and runs" in said_by(caught.value)
        assert "same idempotency_key" in said_by(caught.value)
        assert [status.id for status in backend.job_store.list_jobs().statuses] == [again.id]

    def test_an_interrupt_just_after_the_record_leaves_no_job(self, backend: JobBackend, monkeypatch) -> None:
        sent: list[Job] = []
        self.end_with(KeyboardInterrupt(), "create_job", backend, monkeypatch)
        with pytest.raises(KeyboardInterrupt):
            self.client(backend, sent.append).edit(png(), **TEXTS)
        assert sent == [] and is_empty(backend)

    def test_an_answer_that_was_lost_leaves_no_job(self, backend: JobBackend, monkeypatch) -> None:
        self.end_with(BrokerUnavailable("gone"), "create_job", backend, monkeypatch)
        with pytest.raises(BrokerUnavailable, match="^gone$"):
            self.client(backend, lambda job: None).edit(png(), **TEXTS)
        assert is_empty(backend)

    @pytest.mark.parametrize("error", [BrokerUnavailable("gone"), TypeError("a bug in send"), KeyboardInterrupt()])
    @pytest.mark.parametrize("failure", [BrokerUnavailable("still gone"), KeyboardInterrupt()])
    def test_an_error_after_which_the_record_cannot_be_deleted_says_that_the_job_may_run(
        self, backend: JobBackend, monkeypatch, error: BaseException, failure: BaseException
    ) -> None:
        def fail(job_id: str) -> None:
            raise failure

        monkeypatch.setattr(backend.job_store, "discard_job", fail)
        with pytest.raises((type(error), type(failure))) as caught:
            self.client(backend, raising(error)).edit(png(), **TEXTS)
        (status,) = backend.job_store.list_jobs().statuses
        said = "".join(traceback.format_exception(caught.value))
        assert f"job {status.id} may be recorded nevertheless, and then it runs; cancel it" in said

    def test_a_refused_job_with_a_key_is_not_said_to_run(self, make_backend: Callable[..., JobBackend]) -> None:
        backend = make_backend(max_queued=1)
        client = self.client(backend, lambda job: None)
        client.edit(png(), **TEXTS)
        with pytest.raises(QueueFull) as caught:
            client.edit(png(), **TEXTS, idempotency_key="k")
        assert "recorded" not in str(caught.value)

    def test_a_conflict_of_keys_says_nothing_of_another_job(self, backend: JobBackend) -> None:
        client = self.client(backend, lambda job: None)
        first = client.edit(png(), **TEXTS, idempotency_key="k")
        with pytest.raises(IdempotencyConflict) as caught:
            client.edit(png(), **TEXTS, strength=0.5, idempotency_key="k")
        assert "recorded" not in str(caught.value)
        assert [status.id for status in backend.job_store.list_jobs().statuses] == [first.id]

    def test_a_discarded_job_gives_its_place_in_the_lane_free(self, make_backend: Callable[..., JobBackend]) -> None:
        backend = make_backend(max_queued=1)
        with pytest.raises(TypeError):
            self.client(backend, raising(TypeError("a bug in send"))).edit(png(), **TEXTS)
        assert self.client(backend, lambda job: None).edit(png(), **TEXTS).status()

    @pytest.mark.parametrize("error", [BrokerUnavailable("gone"), KeyboardInterrupt()], ids=repr)
    def test_an_error_in_the_middle_of_several_edits_names_those_that_are_queued(
        self, backend: JobBackend, error: BaseException
    ) -> None:
        sent: list[Job] = []

        def send(job: Job) -> None:
            if len(sent) == 2:
                raise error
            sent.append(job)

        with pytest.raises(type(error)) as caught:
            self.client(backend, send).edit_many(png(), ["a pear", "a fig", "a plum", "a lime"], source_prompt="a bowl")
        ids = [job.id for job in sent]
        assert f"2 of 4 edits were queued before and run: {', '.join(ids)}" in said_by(caught.value)
        assert getattr(caught.value, "queued", tuple(ids)) == tuple(ids)  # KeyboardInterrupt has no attributes of ours
        assert {status.id for status in backend.job_store.list_jobs().statuses} == set(ids)

    @staticmethod
    def end_with(error: BaseException, method: str, backend: JobBackend, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let a method of the job store raise this error after it has done its work."""
        done = getattr(backend.job_store, method)

        def do_and_raise(*args: Any, **kwargs: Any) -> None:
            done(*args, **kwargs)
            raise error

        monkeypatch.setattr(backend.job_store, method, do_and_raise)
