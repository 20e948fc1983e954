"""What is left of jobs when the server loses its data, and what brings them back: over the doubles and over Redis."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from diffedit import (
    AsyncClient,
    Client,
    InvalidRequest,
    JobHandle,
    JobLost,
    JobNotFound,
    OwnerLimit,
    OwnerLimits,
    QueueFull,
    Restored,
    Settings,
    Stage,
    State,
)
from diffedit.contract.object_keys import submission_key
from diffedit.errors import StoreUnavailable
from diffedit.jobs.backend import JobBackend
from diffedit.testing import MemoryObjectStore
from tests.support.backend_behaviour import ME, BackendBehaviour, new_job
from tests.support.factories import a_worker
from tests.support.fake_service import TEXTS, png

Lose = Callable[[JobBackend], None]
HOOK = "https://example.com/hooks"


def copies(client: Client) -> set[str]:
    """Return the keys of the copies of submissions."""
    return set(client._object_store.stored_in("submissions/"))


def counts(restored: Restored) -> tuple[int, int, int, int]:
    return restored.restored, restored.overdue, restored.present, restored.repeated


@pytest.mark.filterwarnings("ignore::diffedit.NoWorkerWarning")
class RestoreBehaviour(BackendBehaviour):
    """A subclass has a fixture `lose`, which deletes all data of a backend."""

    @pytest.fixture
    def client(self, backend: JobBackend) -> Client:
        backend.worker_registry.send_heartbeat(a_worker(id=ME))
        return Client(Settings(), backend=backend, object_store=MemoryObjectStore())

    def edit(self, client: Client, **options: object) -> JobHandle:
        return client.edit(png(), **{**TEXTS, **options})

    def test_a_job_comes_back_as_it_was_submitted(self, backend: JobBackend, client: Client, lose: Lose) -> None:
        options = {"owner": "Zoë", "tags": {"album": "9"}, "webhook": HOOK, "keep": 3600, "deadline": 900}
        job = self.edit(client, **options, feature_reuse=2, idempotency_key="k", lane="batch")
        before = job.status()
        created = json.loads(client._object_store.get(submission_key(job.id)))["created"]
        lose(backend)
        assert counts(client.restore("1h")) == (1, 0, 0, 0)
        after = job.status()
        assert after.created_at.timestamp() == pytest.approx(created, abs=1e-3)
        assert after.model_copy(update={"created_at": before.created_at}) == before
        assert [each.id for each in client.jobs(owner="Zoë", tag=("album", "9"))] == [job.id]
        assert self.edit(client, **options, feature_reuse=2, idempotency_key="k", lane="batch").id == job.id
        assert sum(backend.job_store.waiting_jobs().values()) == 1

    def test_a_restored_job_runs_from_its_first_stage_and_ends(
        self, backend: JobBackend, client: Client, lose: Lose
    ) -> None:
        job = self.edit(client)
        backend.job_store.start_stage(job.id, Stage.EMBED, ME)
        lose(backend)
        client.restore("1h")
        backend.worker_registry.send_heartbeat(a_worker(id=ME))
        assert backend.job_store.start_stage(job.id, Stage.EMBED, ME).attempts == {Stage.EMBED: 1}
        assert job.cancel() and job.status().state is State.CANCELLED

    def test_nothing_is_recorded_twice(self, backend: JobBackend, client: Client, lose: Lose) -> None:
        jobs = [self.edit(client) for _ in range(3)]
        lose(backend)
        later = self.edit(client)
        assert counts(client.restore("1h", dry_run=True)) == (3, 0, 1, 0)
        assert [each.id for each in client.jobs()] == [later.id]
        assert counts(client.restore("1h")) == (3, 0, 1, 0)
        assert counts(client.restore("1h")) == (0, 0, 4, 0)
        assert {each.id for each in client.jobs()} == {job.id for job in (*jobs, later)}

    def test_jobs_come_back_in_the_order_of_their_submission(
        self, backend: JobBackend, client: Client, lose: Lose
    ) -> None:
        targets = [{"target_prompt": f"pear {number}"} for number in range(5)]
        jobs = [self.edit(client), *client.edit_many(png(), targets, source_prompt="a"), self.edit(client)]
        lose(backend)
        client.restore("1h")
        assert [each.id for each in client.jobs()] == [job.id for job in reversed(jobs)]

    def test_a_time_limit_runs_since_the_submission(self, backend: JobBackend, client: Client, lose: Lose) -> None:
        job, store = self.edit(client, deadline=600), client._object_store
        copy = json.loads(store.get(submission_key(job.id)))
        store.put(submission_key(job.id), json.dumps({**copy, "created": copy["created"] - 601}).encode())
        lose(backend)
        assert counts(client.restore("1h")) == (1, 1, 0, 0)
        assert job.status().state is State.EXPIRED

    def test_no_limit_refuses_what_was_admitted(self, make_backend: Callable[..., JobBackend], lose: Lose) -> None:
        backend = make_backend(max_queued=2)
        client = Client(Settings(max_queued=2), backend=backend, object_store=MemoryObjectStore())
        jobs = [self.edit(client, owner="u1") for _ in range(2)]
        lose(backend)
        client.set_owner_limits("u1", OwnerLimits(max_queued=1, max_steps=1))
        self.edit(client)
        assert counts(client.restore("1h")) == (2, 0, 1, 0)
        assert {job.status().state for job in jobs} == {State.QUEUED}

    def test_what_was_submitted_again_with_its_key_is_not_doubled(
        self, backend: JobBackend, client: Client, lose: Lose
    ) -> None:
        lost = self.edit(client, idempotency_key="k")
        other = self.edit(client, idempotency_key="other")
        lose(backend)
        again = self.edit(client, idempotency_key="k")
        self.edit(client, idempotency_key="other", target_prompt="something else")
        assert again.id != lost.id
        assert counts(client.restore("1h")) == (0, 0, 2, 2)
        with pytest.raises(JobNotFound):
            other.status()

    def test_the_copies_of_what_ended_are_settled_and_not_restored(self, backend: JobBackend, client: Client) -> None:
        ended, deleted, open_job = (self.edit(client) for _ in range(3))
        ended.cancel()
        deleted.delete()
        store = backend.job_store
        assert store.settled_jobs(10).keys() == {ended.id, deleted.id}
        assert submission_key(deleted.id) not in copies(client)
        client._object_store.put(submission_key(deleted.id), client._object_store.get(submission_key(open_job.id)))
        assert client.restore("1h").restored == 0
        with pytest.raises(JobNotFound) as caught:
            deleted.status()
        assert type(caught.value) is JobNotFound
        assert list(store.settled_jobs(1)) == [ended.id]
        store.forget_settled([ended.id])
        assert store.settled_jobs(10).keys() == {deleted.id}

    def test_the_copies_of_what_was_refused_are_settled(self, make_backend: Callable[..., JobBackend]) -> None:
        backend = make_backend(max_queued=2)
        client = Client(Settings(max_queued=2), backend=backend, object_store=MemoryObjectStore())
        client.set_owner_limits("u1", OwnerLimits(max_steps=1))
        first = self.edit(client, idempotency_key="k")
        assert self.edit(client, idempotency_key="k").id == first.id
        with pytest.raises(OwnerLimit):
            self.edit(client, owner="u1")
        with pytest.raises(QueueFull) as full:
            client.edit_many(png(), ["a", "b", "c"], source_prompt="d")
        recorded = {submission_key(job_id) for job_id in (first.id, *full.value.queued)}
        assert len(recorded) == 2
        settled = {submission_key(job_id) for job_id in backend.job_store.settled_jobs(100)}
        assert (settled & recorded, copies(client) - settled) == (set(), recorded)

    def test_without_a_copy_nothing_is_recorded(self, backend: JobBackend, client: Client, monkeypatch) -> None:
        def refuse(key: str, data: bytes) -> None:
            raise StoreUnavailable("gone")

        monkeypatch.setattr(client._object_store, "put", refuse)
        with pytest.raises(StoreUnavailable):
            self.edit(client)
        assert not client.jobs() and not backend.job_store.waiting_jobs()

    def test_the_error_tells_a_lost_job_from_a_wrong_id(self, backend: JobBackend, client: Client, lose: Lose) -> None:
        job, began = self.edit(client), backend.job_store.data_since()
        lose(backend)
        assert backend.job_store.data_since() is None
        with pytest.raises(JobLost, match="has lost its record; what was asked for"):
            job.status()
        backend.worker_registry.send_heartbeat(a_worker(id=ME))
        since = backend.job_store.data_since()
        assert began and since and since > began
        moment = datetime.fromtimestamp(since, UTC)
        for call in (job.status, job.cancel, job.delete, job.resend_webhook, job.retry, lambda: job.result(timeout=1)):
            with pytest.raises(JobLost, match=f"begin at {moment:%Y-%m-%d %H:%M:%S} UTC.*diffedit restore") as lost:
                call()
            assert (lost.value.data_since, lost.value.job_id) == (moment, job.id)
        with pytest.raises(JobNotFound, match=f"no records from before {moment:%Y-%m-%d %H:%M:%S}") as wrong:
            client.job("0" * 32).status()
        assert (type(wrong.value), wrong.value.data_since) == (JobNotFound, moment)
        new_job(backend)
        assert backend.job_store.data_since() == since

    def test_an_owner_learns_nothing_of_lost_jobs_of_others(
        self, backend: JobBackend, client: Client, lose: Lose
    ) -> None:
        mine, others = self.edit(client, owner="u1"), self.edit(client, owner="u2")
        u1 = client.for_owner("u1")
        for _ in range(2):
            with pytest.raises(JobNotFound) as caught:
                u1.job(others.id).status()
            with pytest.raises(JobNotFound) as unknown:
                u1.job("0" * 32).status()
            assert type(caught.value) is type(unknown.value) is JobNotFound
            assert str(caught.value).replace(others.id, "0" * 32) == str(unknown.value)
            lose(backend)
        with pytest.raises(JobLost):
            u1.job(mine.id).status()

    def test_a_coroutine_that_waits_gets_the_same_error(self, backend: JobBackend, client: Client, lose: Lose) -> None:
        async def main() -> None:
            async with AsyncClient.over(client) as async_client:
                job = await async_client.edit(png(), **TEXTS)
                lose(backend)
                with pytest.raises(JobLost):
                    await job.wait(timeout=5)
                assert counts(await async_client.restore(timedelta(hours=1))) == (1, 0, 0, 0)
                assert (await job.status()).state is State.QUEUED

        asyncio.run(main())

    def test_what_an_owner_had_deleted_is_not_restored(self, backend: JobBackend, client: Client, lose: Lose) -> None:
        self.edit(client, owner="u1")
        others = self.edit(client, owner="u2")
        lose(backend)
        client.delete_owner("u1")
        assert copies(client) == {submission_key(others.id)}

    def test_a_copy_that_cannot_be_read_is_named(self, backend: JobBackend, client: Client, lose: Lose) -> None:
        jobs = [self.edit(client) for _ in range(5)]
        lose(backend)
        store = client._object_store
        good, damaged, newer, foreign, ended = (submission_key(job.id) for job in jobs)
        copy = json.loads(store.get(newer))
        store.put(damaged, b"{")
        store.put(newer, json.dumps({**copy, "record": {**copy["record"], "contract": "99"}}).encode())
        store.put(foreign, store.get(good))
        copy = json.loads(store.get(ended))
        store.put(ended, json.dumps({**copy, "record": {**copy["record"], "outcome": "succeeded"}}).encode())
        restored = client.restore("1h")
        assert (restored.restored, set(restored.unreadable)) == (1, {job.id for job in jobs[1:]})
        assert jobs[0].status().state is State.QUEUED

    def test_a_time_is_checked(self, backend: JobBackend, client: Client, lose: Lose) -> None:
        self.edit(client)
        lose(backend)
        now = datetime.now(UTC)
        for since, until in (("0s", None), ("2h", "1h"), (now + timedelta(hours=1), None), ("1d", "2026-01-01T00:00Z")):
            assert client.restore(since, until, dry_run=True).restored == 0
        for since in ("2h", "1.5h", "PT2H", "7d", timedelta(minutes=5), now - timedelta(hours=1), now.isoformat()[:10]):
            assert client.restore(since, dry_run=True).restored == 1, since
        for wrong in ("", "yesterday", "2 h", "h", "-2h"):
            with pytest.raises(InvalidRequest, match="since"):
                client.restore(wrong)
        with pytest.raises(InvalidRequest, match="not about one owner"):
            client.for_owner("u1").restore("1h")
