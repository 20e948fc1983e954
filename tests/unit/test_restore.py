"""Jobs come back after a loss of all data: over the doubles, and what the leader and garbage collection delete."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from diffedit import Client, JobLost, State, StoreUnavailable
from diffedit.contract.object_keys import job_of_submission, submission_key
from diffedit.jobs.backend import DEFAULT_LIMITS
from diffedit.settings import Settings
from diffedit.testing import JobBackend, MemoryObjectStore, memory_backend, memory_client
from diffedit_worker.runtime.settled_copies import FORGOTTEN_AFTER, SettledCopies
from tests.support.cli import Cli
from tests.support.fake_service import TEXTS, png
from tests.support.restore_behaviour import RestoreBehaviour, copies

DAY = 24 * 3600


def lose(backend: JobBackend) -> None:
    """Delete all data of a backend in memory."""
    state = backend.job_store._state
    state.__init__(state.settings, state.limits)


class TestMemoryBackend(RestoreBehaviour):
    @pytest.fixture
    def make_backend(self) -> Callable[..., JobBackend]:
        return lambda limits=DEFAULT_LIMITS, **settings: memory_backend(Settings(**settings), limits)

    @pytest.fixture
    def lose(self) -> Callable[[JobBackend], None]:
        return lose


def test_a_return_to_an_older_state_is_a_loss_too(client: Client) -> None:
    job = client.edit(png(), **TEXTS)
    client._job_store._state.records.pop(job.id)
    with pytest.raises(JobLost) as lost:
        job.status()
    assert lost.value.data_since is None


def test_an_administrator_hears_of_a_loss_too(client: Client) -> None:
    lost, other = client.edit(png(), **TEXTS), client.edit(png(), **TEXTS)
    lose(client._backend)
    for ask in (client.admin.why, client.admin.retry, client.admin.cancel):
        with pytest.raises(JobLost):
            ask(lost.id)
    assert [each.error for each in client.admin.cancel(lost.id, other.id, "0" * 32)] == ["job_lost"] * 2 + [
        "job_not_found"
    ]


@pytest.fixture
def client() -> Client:
    return memory_client()


def aged(client: Client, seconds: float) -> None:
    """Let everything that is stored be older."""
    objects = client._object_store._objects
    for key, (at, data) in objects.items():
        objects[key] = (at - seconds, data)


def test_the_key_of_a_copy_follows_from_the_id_and_the_id_from_the_key() -> None:
    job_id = "0123456789abcdef" * 2
    assert submission_key(job_id) == f"submissions/01/{job_id}.json"
    assert job_of_submission(submission_key(job_id)) == job_id
    for key in (f"submissions/02/{job_id}.json", "submissions/01/01.json", f"inputs/01/{job_id}.json", ""):
        assert job_of_submission(key) is None


def test_the_leader_deletes_the_copies_of_ended_jobs(client: Client) -> None:
    ended, open_job = client.edit(png(), **TEXTS), client.edit(png(), **TEXTS)
    ended.cancel()
    is_leader = False
    sweep = SettledCopies(client._job_store, client._object_store, lambda: is_leader)
    sweep.delete()
    assert len(copies(client)) == 2
    is_leader = True
    sweep.delete()
    assert copies(client) == {submission_key(open_job.id)}
    assert client._job_store.settled_jobs(10) == {}


def test_a_bucket_that_refuses_is_left_alone_for_a_while_and_the_list_stays_short(client: Client, monkeypatch) -> None:
    class Refusing(MemoryObjectStore):
        calls = 0

        def delete_all(self, keys) -> None:
            self.calls += 1
            raise StoreUnavailable("AccessDenied")

    old, young = client.edit(png(), **TEXTS), client.edit(png(), **TEXTS)
    old.cancel(), young.cancel()
    client._job_store._state.settled[old.id] -= FORGOTTEN_AFTER + 1
    refusing = Refusing()
    sweep = SettledCopies(client._job_store, refusing, lambda: True)
    with pytest.raises(StoreUnavailable):
        sweep.delete()
    sweep.delete()
    assert (refusing.calls, list(client._job_store.settled_jobs(10))) == (1, [young.id])


def test_garbage_collection_deletes_the_copies_that_the_leader_has_missed(client: Client) -> None:
    ended, waiting, lost = (client.edit(png(), **TEXTS) for _ in range(3))
    ended.cancel()
    client._job_store._state.records.pop(lost.id)
    assert client.collect_garbage("PT1H").objects == 0
    assert len(copies(client)) == 3
    aged(client, 2 * DAY)
    client.collect_garbage("1d", dry_run=True)
    assert len(copies(client)) == 3
    client.collect_garbage("1d")
    assert copies(client) == {submission_key(waiting.id), submission_key(lost.id)}
    aged(client, 6 * DAY)
    client.collect_garbage(timedelta(days=1))
    assert copies(client) == {submission_key(waiting.id)}


def test_the_command_says_what_it_does(monkeypatch) -> None:
    cli = Cli()
    monkeypatch.setattr("diffedit.cli.main.make_client", lambda: cli.client)
    job, ended = cli.submit(), cli.submit()
    ended.cancel()
    cli.job_store._state.records.pop(job.id)
    cli.object_store.put(submission_key("0" * 32), b"")
    dry = cli("restore", "--since", "2h", "--dry-run").stdout
    assert "1 jobs would be restored, 0 of them past a time limit" in dry
    assert cli.error("status", job.id, code=4)["error"] == "job_lost"
    said = cli("restore", "--since", "2h").stdout
    assert "1 jobs restored" in said and "1 have a record or have ended, 0 were submitted again" in said
    assert f"1 copies cannot be read: {'0' * 32}" in said
    assert job.status().state is State.QUEUED
    restored = cli.json("restore", "--since", "2h", "--until", "1s")
    assert restored == {"restored": 0, "overdue": 0, "present": 0, "repeated": 0, "unreadable": []}
    assert cli.error("restore", "--since", "x", code=2)["error"] == "invalid_request"
