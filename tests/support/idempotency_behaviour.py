"""What an idempotency key means: over the doubles in tests/unit, over Redis in tests/integration."""

import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from diffedit import Client, IdempotencyConflict, JobHandle, Settings, State
from diffedit.contract.job import Job
from diffedit.jobs.backend import JobBackend
from diffedit.testing import MemoryObjectStore
from tests.support.backend_behaviour import ME, BackendBehaviour
from tests.support.factories import TEXTS, a_job, a_worker
from tests.support.fake_service import png

OUTCOMES = (State.SUCCEEDED, State.FAILED, State.CANCELLED, State.EXPIRED)
SCOPES = (("", "a:b:c"), ("a", "b:c"), ("b", "a:c"), ("a.b", "c"), ("a", "b.c"), ("", "abc"), ("ab", "c"), ("", "c"))
"""Pairs of a namespace and a key that a careless join would mix up."""


def a_client(backend: JobBackend, **settings: object) -> Client:
    """Return a client that records its jobs in this backend and sends no messages."""
    backend.worker_registry.send_heartbeat(a_worker())
    return Client(Settings(**settings), backend=backend, object_store=MemoryObjectStore(), send=lambda job: None)


def created(backend: JobBackend, jobs: Sequence[Job], digests: Sequence[str]) -> list[tuple[str, bool]]:
    """Create the jobs at once, with one key. Return for each the job with the key, and whether it is a conflict."""
    key = uuid.uuid4().hex

    def create(job: Job, digest: str) -> tuple[str, bool]:
        try:
            return backend.job_store.create_job(job, key, digest), False
        except IdempotencyConflict as error:
            return error.job_id, True

    with ThreadPoolExecutor(len(jobs)) as pool:
        return list(pool.map(create, jobs, digests))


class IdempotencyBehaviour(BackendBehaviour):
    def test_another_request_under_the_same_key_is_refused_and_leaves_nothing(self, backend: JobBackend) -> None:
        key, first, second = uuid.uuid4().hex, a_job(), a_job()
        backend.job_store.create_job(first, key, "one request")
        with pytest.raises(IdempotencyConflict, match=first.id) as caught:
            backend.job_store.create_job(second, key, "another request")
        assert caught.value.job_id == first.id
        assert [status.id for status in backend.job_store.list_jobs().statuses] == [first.id]

    @pytest.mark.parametrize("outcome", OUTCOMES)
    def test_a_key_names_its_job_whatever_became_of_it(self, backend: JobBackend, outcome: State) -> None:
        key, job = uuid.uuid4().hex, a_job()
        backend.job_store.create_job(job, key, "one request")
        backend.job_store.end_job(job.id, outcome)
        assert backend.job_store.create_job(a_job(), key, "one request") == job.id
        with pytest.raises(IdempotencyConflict):
            backend.job_store.create_job(a_job(), key, "another request")

    def test_a_job_that_was_recorded_without_a_digest_agrees_with_every_request(self, backend: JobBackend) -> None:
        # Version 0.2.0 recorded it.
        key, job = uuid.uuid4().hex, a_job()
        backend.job_store.create_job(job, key)
        assert backend.job_store.create_job(a_job(), key, "any request") == job.id

    def test_if_sixteen_requests_race_for_a_key_one_gets_it(self, backend: JobBackend) -> None:
        jobs = [a_job() for _ in range(16)]
        answers = created(backend, jobs, [f"request {number}" for number in range(16)])
        ((winner, _),) = [answer for answer in answers if not answer[1]]
        assert {job_id for job_id, _ in answers} == {winner}
        assert [status.id for status in backend.job_store.list_jobs().statuses] == [winner]

    def test_if_two_requests_race_for_a_key_the_calls_of_one_get_its_job(self, backend: JobBackend) -> None:
        answers = created(backend, [a_job() for _ in range(16)], ["one", "another"] * 8)
        assert len({job_id for job_id, _ in answers}) == 1
        assert {tuple(conflict for _, conflict in answers[first::2]) for first in (0, 1)} == {(False,) * 8, (True,) * 8}

    def test_creating_a_job_twice_with_its_key_returns_its_own_id(self, backend: JobBackend) -> None:
        # As when the answer to the first call was lost on its way.
        key, job = uuid.uuid4().hex, a_job()
        assert {backend.job_store.create_job(job, key, "one request") for _ in range(2)} == {job.id}
        backend.worker_registry.send_heartbeat(a_worker(id=ME))
        backend.job_store.start_stage(job.id, job.stages_left[0], ME)
        assert backend.job_store.create_job(job, key, "one request") == job.id
        assert backend.job_store.jobs_held_by(ME) == [job.id]

    def test_a_discarded_job_frees_its_key_for_another_request(self, backend: JobBackend) -> None:
        key, first, second = uuid.uuid4().hex, a_job(), a_job()
        backend.job_store.create_job(first, key, "one request")
        backend.job_store.discard_job(first.id)
        assert backend.job_store.create_job(second, key, "another request") == second.id

    def test_two_applications_with_the_same_key_get_a_job_each(self, backend: JobBackend) -> None:
        jobs = [
            a_client(backend, namespace=namespace).edit(png(), **TEXTS, idempotency_key=key)
            for namespace, key in SCOPES * 2
        ]
        assert len({job.id for job in jobs}) == len(SCOPES)
        assert [job.id for job in jobs[: len(SCOPES)]] == [job.id for job in jobs[len(SCOPES) :]]

    def test_of_sixteen_clients_with_one_key_and_different_requests_one_gets_a_job(self, backend: JobBackend) -> None:
        clients, key = [a_client(backend) for _ in range(16)], uuid.uuid4().hex

        def edit(number: int) -> JobHandle | IdempotencyConflict:
            try:
                return clients[number].edit(png(), target_prompt=f"{number} pears", idempotency_key=key)
            except IdempotencyConflict as error:
                return error

        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(edit, range(16)))
        (job,) = [answer for answer in answers if isinstance(answer, JobHandle)]
        assert {answer.job_id for answer in answers if isinstance(answer, IdempotencyConflict)} == {job.id}
        assert [status.id for status in backend.job_store.list_jobs().statuses] == [job.id]

    def test_a_retry_with_a_key_makes_one_new_job(self, backend: JobBackend) -> None:
        job = a_client(backend).edit(png(), **TEXTS)
        job.cancel()
        with ThreadPoolExecutor(8) as pool:
            retried = {again.id for again in pool.map(lambda _: job.retry(idempotency_key="again"), range(16))}
        assert len(retried) == 1
        assert {status.id for status in backend.job_store.list_jobs().statuses} == retried | {job.id}
