"""What every board promises; run over the double in tests/unit and over Redis in tests/integration."""

import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from api_client.board import Board, WorkerInfo
from api_client.contract import ErrorInfo, Slot, Stage, State
from api_client.errors import JobNotFound
from tests.requests import a_request

REF = f"artifacts/mask/ab/{'ab' * 32}.png"


def opened(board: Board) -> str:
    return board.open(uuid.uuid4().hex, a_request())


class BoardBehaviour:
    """Subclasses give a `board` fixture."""

    def test_a_new_job_is_queued(self, board: Board) -> None:
        status = board.status(opened(board))
        assert status.state is State.QUEUED
        assert not status.is_terminal
        assert status.progress == 0
        assert status.request == a_request(params={"seed": status.request.params.seed})

    def test_an_unknown_job_is_not_found(self, board: Board) -> None:
        unknown = uuid.uuid4().hex
        for ask in (
            lambda: board.status(unknown),
            lambda: board.begin(unknown, Stage.MASK),
            lambda: board.tick(unknown, 1, 2),
            lambda: board.advance(unknown, Stage.MASK, {}, 0.1, hit=False),
            lambda: board.finish(unknown, State.CANCELLED),
        ):
            with pytest.raises(JobNotFound, match=unknown):
                ask()
        with pytest.raises(JobNotFound):  # and none of these has made a record
            board.status(unknown)

    def test_a_stage_is_begun_stepped_and_done(self, board: Board) -> None:
        job = opened(board)
        assert board.begin(job, Stage.EMBED) is None
        assert board.advance(job, Stage.EMBED, {}, 0.25, hit=True) is None
        assert board.begin(job, Stage.MASK) is None
        assert board.tick(job, 1, 2) is None

        status = board.status(job)
        assert status.state is State.RUNNING
        assert (status.stage, status.stage_index, status.step, status.steps) == (Stage.MASK, 1, 1, 2)
        assert status.progress == pytest.approx(1.5 / 4, abs=1e-3)
        assert status.started_at >= status.created_at

        board.advance(job, Stage.MASK, {Slot.MASK: REF}, 1.5, hit=False)
        status = board.status(job)
        assert status.progress == pytest.approx(2 / 4)
        assert status.timings == {Stage.EMBED: 0.25, Stage.MASK: 1.5}
        assert status.cache_hits == (Stage.EMBED,)
        assert status.refs == {Slot.MASK: REF}

    def test_attempts_are_counted_per_stage(self, board: Board) -> None:
        job = opened(board)
        for stage in (Stage.EMBED, Stage.MASK, Stage.MASK):
            board.begin(job, stage)
        assert board.status(job).attempts == {Stage.EMBED: 1, Stage.MASK: 2}

    @pytest.mark.parametrize("outcome", [State.SUCCEEDED, State.FAILED, State.CANCELLED, State.EXPIRED])
    def test_the_first_outcome_wins_and_ends_the_writing(self, board: Board, outcome: State) -> None:
        job = opened(board)
        error = ErrorInfo(stage=Stage.MASK, code="empty_mask", message="nothing to edit")
        assert board.finish(job, outcome, error) is outcome
        for later in (State.SUCCEEDED, State.FAILED, State.CANCELLED):
            assert board.finish(job, later) is outcome
        assert board.begin(job, Stage.MASK) is outcome
        assert board.tick(job, 1, 2) is outcome
        assert board.advance(job, Stage.MASK, {Slot.MASK: REF}, 1.0, hit=False) is outcome

        status = board.status(job)
        assert status.state is outcome
        assert status.is_terminal
        assert status.error == error
        assert (status.stage, status.attempts, status.refs) == (None, {}, {})
        assert status.finished_at >= status.created_at

    def test_of_racing_outcomes_one_wins_and_all_hear_of_it(self, board: Board) -> None:
        job = opened(board)
        with ThreadPoolExecutor(8) as pool:
            heard = set(pool.map(lambda i: board.finish(job, [State.SUCCEEDED, State.CANCELLED][i % 2]), range(16)))
        assert heard == {board.status(job).state}

    def test_the_same_key_gives_the_first_job(self, board: Board) -> None:
        key = uuid.uuid4().hex
        with ThreadPoolExecutor(8) as pool:
            ids = set(pool.map(lambda _: board.open(uuid.uuid4().hex, a_request(), key), range(16)))
        assert len(ids) == 1
        assert [status.id for status in board.jobs()].count(ids.pop()) == 1

    def test_a_discarded_job_frees_its_key(self, board: Board) -> None:
        key, first, second = (uuid.uuid4().hex for _ in range(3))
        board.open(first, a_request(), key)
        board.discard(first)
        assert board.open(second, a_request(), key) == second
        with pytest.raises(JobNotFound):
            board.status(first)

    def test_jobs_are_listed_newest_first_and_by_state(self, board: Board) -> None:
        jobs = [opened(board) for _ in range(5)]
        board.finish(jobs[1], State.CANCELLED)
        board.finish(jobs[3], State.CANCELLED)
        assert [status.id for status in board.jobs(limit=5)] == jobs[::-1]
        assert [status.id for status in board.jobs(limit=2)] == [jobs[4], jobs[3]]
        assert [status.id for status in board.jobs(State.CANCELLED, limit=2)] == [jobs[3], jobs[1]]

    def test_workers_come_and_go(self, board: Board) -> None:
        name = f"worker@{uuid.uuid4().hex}"
        worker = WorkerInfo(name=name, profile="tiny", device="cpu", queues=("diffedit.tiny.language",))
        board.announce(worker)
        assert worker in board.workers()
        board.leave(name)
        assert worker not in board.workers()

    def test_empty_queues_have_no_depth(self, board: Board) -> None:
        name = f"queue-{uuid.uuid4().hex}"
        assert board.depths([name]) == {name: 0}
        board.ping()
