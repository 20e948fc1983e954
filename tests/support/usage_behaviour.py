"""What owners have used: over the doubles and over Redis."""

from datetime import UTC, datetime, timedelta

import pytest

from diffedit import Client, InvalidRequest, Settings
from diffedit.contract.job import State
from diffedit.contract.stages import Stage
from diffedit.contract.usage import Usage
from diffedit.jobs.backend import JobBackend
from diffedit.testing import MemoryObjectStore
from tests.support.backend_behaviour import ME, BackendBehaviour
from tests.support.factories import a_job, a_request, a_worker, done

EDIT = (Stage.EMBED, Stage.MASK, Stage.INVERT, Stage.EDIT)


def finish(backend: JobBackend, owner: str | None, seconds: float, pixels: int | None = None) -> None:
    """Run a job of four stages, each of which uses the device for `seconds`."""
    job = a_job(owner=owner)
    backend.job_store.create_job(job, pixels=pixels)
    for stage in EDIT:
        backend.job_store.start_stage(job.id, stage, ME)
        job = done(job, stage)
        backend.job_store.complete_stage(job, stage, 9.0, [], ME, device_seconds=seconds)


class UsageBehaviour(BackendBehaviour):
    @pytest.fixture
    def operator(self, backend: JobBackend) -> Client:
        backend.worker_registry.send_heartbeat(a_worker(id=ME))
        return Client(Settings(), backend=backend, object_store=MemoryObjectStore())

    def test_seconds_pixels_and_outcomes_are_added_up_by_owner(self, backend: JobBackend, operator: Client) -> None:
        finish(backend, "small", 0.25, 100)
        finish(backend, 'Zoë "17"/\U0001f350', 1.5, 5000)
        finish(backend, 'Zoë "17"/\U0001f350', 1.0)
        finish(backend, None, 0.0, 64)
        for outcome in (State.FAILED, State.CANCELLED, State.CANCELLED):
            job = a_job(owner="small")
            backend.job_store.create_job(job, pixels=900)
            backend.job_store.end_job(job.id, outcome)
            backend.job_store.end_job(job.id, State.CANCELLED)  # the first outcome counts
        assert operator.usage("1d") == [
            Usage(owner='Zoë "17"/\U0001f350', gpu_seconds=10.0, pixels=5000, succeeded=2),
            Usage(owner="small", gpu_seconds=1.0, pixels=100, succeeded=1, failed=1, cancelled=2),
            Usage(owner="", pixels=64, succeeded=1),
        ]
        assert [each.jobs for each in operator.usage("1d")] == [2, 4, 1]

    def test_what_a_job_has_used_counts_when_it_ends_whatever_its_end(
        self, backend: JobBackend, operator: Client
    ) -> None:
        job, store = a_job(owner="a"), backend.job_store
        store.create_job(job)
        store.start_stage(job.id, Stage.EMBED, ME)
        store.complete_stage(done(job, Stage.EMBED), Stage.EMBED, 9.0, [], ME, device_seconds=2.5)
        assert operator.usage() == []
        store.end_job(job.id, State.FAILED)
        assert operator.usage() == [Usage(owner="a", gpu_seconds=2.5, failed=1)]

    def test_usage_is_added_up_by_profile_and_day(self, backend: JobBackend, operator: Client) -> None:
        finish(backend, "a", 1.0)
        job = a_job(a_request({"profile": "sd21"}), owner="b")
        backend.job_store.create_job(job)
        backend.job_store.end_job(job.id, State.CANCELLED)
        today = datetime.fromtimestamp(backend.job_store.now(), UTC).date()
        assert operator.usage(by="profile") == [
            Usage(profile="tiny", gpu_seconds=4.0, succeeded=1),
            Usage(profile="sd21", cancelled=1),
        ]
        for since in ("30d", timedelta(days=1), today, today.isoformat(), "1000d"):
            assert operator.usage(since, by=("day",)) == [Usage(day=today, gpu_seconds=4.0, succeeded=1, cancelled=1)]
        assert operator.usage(today + timedelta(days=1)) == []
        assert operator.usage(by="owner,profile") == operator.usage(by=["profile", "owner"])

    def test_an_owner_sees_its_own_usage_alone(self, backend: JobBackend, operator: Client) -> None:
        finish(backend, "a", 1.0)
        finish(backend, "b", 2.0)
        mine = [Usage(owner="a", gpu_seconds=4.0, succeeded=1)]
        assert operator.for_owner("a").usage() == operator.usage(owner="a") == mine
        with pytest.raises(InvalidRequest, match="another owner"):
            operator.for_owner("a").usage(owner="b")

    @pytest.mark.parametrize("by", ["", "user", "owner,owner", ["owner", "lane"], []])
    def test_usage_by_nothing_that_is_known_is_refused(self, operator: Client, by: str) -> None:
        with pytest.raises(InvalidRequest, match="owner, profile, day"):
            operator.usage(by=by)

    @pytest.mark.parametrize("since", ["yesterday", "", "1e400d"])
    def test_usage_since_no_time_is_refused(self, operator: Client, since: str) -> None:
        with pytest.raises(InvalidRequest, match="since"):
            operator.usage(since)
