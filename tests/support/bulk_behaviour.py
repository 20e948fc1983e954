"""What `map`, `as_completed` and `results` do, blocking and awaited: over the doubles, and over Redis."""

import asyncio
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import aclosing, contextmanager
from typing import Any

import pytest

from diffedit import (
    AsyncClient,
    AsyncEditResult,
    BadPicture,
    BrokerUnavailable,
    Client,
    EditResult,
    InvalidRequest,
    JobCancelled,
    JobFailed,
    JobNotFound,
    JobTimeout,
    OwnerLimits,
    QueueFull,
    Settings,
    State,
    StoreRefused,
)
from diffedit.contract.job import ErrorInfo, Job
from diffedit.jobs.backend import JobBackend
from diffedit.testing import MemoryObjectStore
from tests.support.backend_behaviour import ME, BackendBehaviour
from tests.support.factories import a_worker, done
from tests.support.fake_service import TEXTS, png

PICTURE = png()
Send = Callable[[Job], object]


def row_of(number: int, **options: object) -> dict[str, object]:
    return {"picture": PICTURE, **TEXTS, "tags": {"row": str(number)}, **options}


def finish(backend: JobBackend, job: Job) -> None:
    """Run the stages of a job as a worker does. What it makes is not stored."""
    for stage in job.stages_left:
        backend.job_store.start_stage(job.id, stage, ME)
        job = done(job, stage)
        backend.job_store.complete_stage(job, stage, 0.1, [], ME)


@contextmanager
def a_worker_that_runs_jobs(backend: JobBackend, waiting: list[int] | None = None) -> Iterator[None]:
    """Run each job that waits, one after the other, in a thread. Note how many wait each time."""
    over = threading.Event()

    def run() -> None:
        while not over.wait(0.005):
            queued = [status for status in backend.job_store.list_jobs(limit=1000).statuses if not status.is_terminal]
            if waiting is not None:
                waiting.append(len(queued))
            if queued:
                finish(backend, queued[-1].job)

    thread = threading.Thread(target=run)
    thread.start()
    yield
    over.set()
    thread.join()


class Mapper:
    """Calls the methods of one of the two clients, and returns all that they yield."""

    def __init__(self, client: Client, awaited: bool) -> None:
        self.client, self.awaited = client, awaited

    def __call__(self, name: str, *args: Any, first: int | None = None, **options: Any) -> list[Any]:
        if not self.awaited:
            values = getattr(self.client, name)(*args, **options)
            taken = list(itertools.islice(values, first))
            values.close()
            return taken

        async def main() -> list[Any]:
            async with AsyncClient.over(self.client) as client:
                taken: list[Any] = []
                async with aclosing(getattr(client, name)(*args, **options)) as values:
                    while first is None or len(taken) < first:
                        try:
                            taken.append(await anext(values))
                        except StopAsyncIteration:
                            break
                return taken

        return asyncio.run(main())


class BulkBehaviour(BackendBehaviour):
    @pytest.fixture(params=[False, True], ids=["blocking", "awaited"])
    def awaited(self, request: pytest.FixtureRequest) -> bool:
        return bool(request.param)

    def mapper(self, backend: JobBackend, awaited: bool, send: Send = lambda job: None, **settings: Any) -> Mapper:
        backend.worker_registry.send_heartbeat(a_worker(id=ME))
        client = Client(Settings(**settings), backend=backend, object_store=MemoryObjectStore(), send=send)
        return Mapper(client, awaited)

    def test_each_row_comes_once_with_its_result_or_its_error(self, backend: JobBackend, awaited: bool) -> None:
        def send(job: Job) -> None:
            outcome = {"1": State.CANCELLED, "2": State.FAILED}.get(job.options.tags["row"])
            error = ErrorInfo(stage=None, code="empty_mask", message="no difference")
            finish(backend, job) if outcome is None else backend.job_store.end_job(job.id, outcome, error)

        bad = [row_of(4, strength=7), row_of(5, picture=b"no picture"), {"picture": PICTURE, **TEXTS, "stepps": 3}]
        bad += [{**TEXTS}, {"picture": PICTURE, "image": PICTURE, **TEXTS}, "no row"]
        rows = [row_of(0), row_of(1), row_of(2), row_of(3), *bad]
        outcomes = self.mapper(backend, awaited, send)("map", rows, in_flight=3, lane="batch")
        assert sorted(rows.index(row) for row, _ in outcomes) == list(range(len(rows)))
        kinds = {rows.index(row): type(outcome) for row, outcome in outcomes}
        made = AsyncEditResult if awaited else EditResult
        refused = [InvalidRequest, BadPicture, *[InvalidRequest] * 4]
        assert [kinds[number] for number in range(len(rows))] == [made, JobCancelled, JobFailed, made, *refused]
        lanes = {status.options.lane.value for status in backend.job_store.list_jobs().statuses}
        assert lanes == {"batch"}

    def test_equal_rows_are_jobs_of_their_own(self, backend: JobBackend, awaited: bool) -> None:
        mapper = self.mapper(backend, awaited, lambda job: finish(backend, job))
        outcomes = mapper("map", [row_of(0)] * 3)
        assert len({outcome.status.id for _, outcome in outcomes}) == 3

    def test_a_full_queue_lets_rows_wait(self, make_backend: Callable[..., JobBackend], awaited: bool) -> None:
        backend = make_backend(max_queued=3)
        mapper = self.mapper(backend, awaited, max_queued=3)
        waiting: list[int] = []
        with a_worker_that_runs_jobs(backend, waiting):
            outcomes = mapper("map", map(row_of, range(12)), in_flight=8)
        assert all(not isinstance(outcome, Exception) for _, outcome in outcomes) and len(outcomes) == 12
        assert max(waiting) == 3

    def test_an_owner_at_a_limit_lets_rows_wait(self, backend: JobBackend, awaited: bool) -> None:
        mapper = self.mapper(backend, awaited)
        mapper.client.set_owner_limits("u1", OwnerLimits(max_queued=1))
        with a_worker_that_runs_jobs(backend):
            outcomes = mapper("map", map(row_of, range(3)), owner="u1")
        assert [type(outcome).__name__.removeprefix("Async") for _, outcome in outcomes] == ["EditResult"] * 3

    def test_a_row_does_not_wait_for_ever(self, make_backend: Callable[..., JobBackend], awaited: bool) -> None:
        backend = make_backend(max_queued=1)
        mapper = self.mapper(backend, awaited)
        outcomes = mapper("map", map(row_of, range(2)), timeout=0.5)
        assert sorted(type(outcome).__name__ for _, outcome in outcomes) == [JobTimeout.__name__, QueueFull.__name__]
        (left,) = backend.job_store.list_jobs().statuses
        assert left.state is State.QUEUED

    def test_of_endless_rows_only_so_many_are_taken(self, backend: JobBackend, awaited: bool) -> None:
        mapper = self.mapper(backend, awaited, lambda job: finish(backend, job))
        taken: list[int] = []

        def rows() -> Iterator[dict[str, object]]:
            for number in itertools.count():
                taken.append(number)
                yield row_of(number)

        assert len(mapper("map", rows(), in_flight=4, first=20)) == 20
        assert 20 <= len(taken) <= 24

    def test_an_iterator_that_is_closed_leaves_its_jobs(self, backend: JobBackend, awaited: bool) -> None:
        mapper = self.mapper(
            backend, awaited, lambda job: finish(backend, job) if job.options.tags["row"] == "2" else 0
        )
        ((row, _),) = mapper("map", map(row_of, itertools.count()), in_flight=3, first=1)
        assert row["tags"] == {"row": "2"}
        states = {status.state for status in backend.job_store.list_jobs().statuses}
        assert states == {State.QUEUED, State.SUCCEEDED}

    def test_an_error_of_the_rows_is_raised(self, backend: JobBackend, awaited: bool) -> None:
        def rows() -> Iterator[dict[str, object]]:
            yield row_of(0)
            raise LookupError("the database of the caller")

        with pytest.raises(LookupError, match="the database"):
            self.mapper(backend, awaited)("map", rows())

    def test_a_row_is_submitted_again_when_a_service_was_away(self, backend: JobBackend, awaited: bool) -> None:
        mapper, create, calls = self.mapper(backend, awaited), backend.job_store.create_job, []

        def create_job(*args: Any, **options: Any) -> str:
            calls.append(args)
            if len(calls) == 1:
                raise BrokerUnavailable("away")
            created = create(*args, **options)
            if len(calls) == 2:
                raise BrokerUnavailable("the answer was lost")
            return created

        backend.job_store.create_job = create_job
        with a_worker_that_runs_jobs(backend):
            ((_, outcome),) = mapper("map", [row_of(0)], timeout=30)
        assert len(calls) == 3 and not isinstance(outcome, Exception)
        assert len(backend.job_store.list_jobs().statuses) == 1

    def test_a_row_whose_record_was_lost_is_submitted_again(self, backend: JobBackend, awaited: bool) -> None:
        lost: list[str] = []

        def send(job: Job) -> None:
            if lost:
                finish(backend, job)
            else:
                lost.append(job.id)
                backend.job_store.remove_job(job.id)

        ((_, outcome),) = self.mapper(backend, awaited, send)("map", [row_of(0)])
        assert outcome.status.id not in lost
        assert [status.id for status in backend.job_store.list_jobs().statuses] == [outcome.status.id]

    def test_what_would_refuse_each_row_is_raised(self, backend: JobBackend, awaited: bool) -> None:
        def send(job: Job) -> None:
            raise StoreRefused("wrong keys")

        with pytest.raises(StoreRefused):
            self.mapper(backend, awaited, send)("map", [row_of(0)])

    def test_limits_are_checked_at_once(self, backend: JobBackend, awaited: bool) -> None:
        mapper = self.mapper(backend, awaited)
        for options in ({"in_flight": 0}, {"in_flight": 10**6}, {"timeout": 0}, {"timeout": float("nan")}):
            with pytest.raises(InvalidRequest):
                mapper("map", [row_of(0)], **options)
        for name in ("as_completed", "results"):
            with pytest.raises(InvalidRequest):
                mapper(name, [], timeout=-1)

    def test_jobs_come_as_they_end(self, backend: JobBackend, awaited: bool) -> None:
        mapper = self.mapper(backend, awaited)
        jobs = [mapper.client.edit(PICTURE, **TEXTS) for _ in range(3)]
        finish(backend, jobs[2].status().job)
        jobs[0].cancel()
        assert {job.id for job in mapper("as_completed", jobs, first=2)} == {jobs[0].id, jobs[2].id}
        with pytest.raises(JobTimeout):
            mapper("as_completed", jobs, timeout=1)
        missing = mapper.client.job("a" * 32)
        outcomes = dict(mapper("results", [*jobs, missing], timeout=1))
        kinds = [type(outcomes[job]).__name__.removeprefix("Async") for job in (*jobs, missing)]
        assert kinds == [JobCancelled.__name__, JobTimeout.__name__, EditResult.__name__, JobNotFound.__name__]

    def test_no_jobs_and_no_rows_are_no_error(self, backend: JobBackend, awaited: bool) -> None:
        mapper = self.mapper(backend, awaited)
        empty: Iterable[Any] = []
        assert [mapper("map", empty), mapper("results", empty), mapper("as_completed", empty)] == [[], [], []]
