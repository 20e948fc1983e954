"""What every board promises; run over the double in tests/unit and over Redis in tests/integration."""

import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from api_client.board import AttemptsSpent, Board, Claim
from api_client.contract import STAGES, ErrorInfo, Job, Lane, Slot, Stage, State
from api_client.errors import JobElsewhere, JobNotFound, QueueFull
from api_client.settings import Settings
from tests.requests import a_job, a_request, a_worker, done

ME, OTHER = "me", "other"


def opened(board: Board) -> Job:
    """A new job, and two workers that may take it."""
    board.announce(a_worker(id=ME))
    board.announce(a_worker(id=OTHER))
    job = a_job()
    board.open(job)
    return job


def at_mask(board: Board) -> Job:
    """A job whose mask is being made by ME."""
    job = opened(board)
    board.begin(job.id, Stage.EMBED, ME)
    job = done(job, Stage.EMBED)
    board.advance(job, Stage.EMBED, 0.25, [], ME)
    board.begin(job.id, Stage.MASK, ME)
    return job


def until_overdue(board: Board, *jobs: Job) -> None:
    deadline = time.monotonic() + 30
    while not {job.id for job in jobs} <= set(board.overdue()):
        assert time.monotonic() < deadline, "their time is never over"
        time.sleep(0.02)


class BoardBehaviour:
    """Subclasses give a `board` fixture."""

    def test_a_new_job_is_queued(self, board: Board) -> None:
        job = opened(board)
        status = board.status(job.id)
        assert status.state is State.QUEUED
        assert not status.is_terminal
        assert status.progress == 0
        assert status.request == job.request

    def test_an_unknown_job_is_not_found(self, board: Board) -> None:
        unknown = a_job()
        for ask in (
            lambda: board.status(unknown.id),
            lambda: board.begin(unknown.id, Stage.EMBED, ME),
            lambda: board.tick(unknown.id, 1, 2, ME),
            lambda: board.advance(done(unknown, Stage.EMBED), Stage.EMBED, 0.1, [Slot.EMBEDDINGS], ME),
            lambda: board.hand_back(unknown),
            lambda: board.finish(unknown.id, State.CANCELLED),
        ):
            with pytest.raises(JobNotFound, match=unknown.id):
                ask()
        with pytest.raises(JobNotFound):  # and none of these has made a record
            board.status(unknown.id)

    def test_who_begins_a_stage_hears_what_the_record_says(self, board: Board) -> None:
        job = opened(board)
        begun = board.begin(job.id, Stage.EMBED, ME)
        assert begun == board.status(job.id)
        assert (begun.job, begun.attempts) == (job, {Stage.EMBED: 1})

    def test_a_stage_is_begun_stepped_and_done(self, board: Board) -> None:
        job = at_mask(board)
        assert board.tick(job.id, 1, 2, ME) is None
        status = board.status(job.id)
        assert status.state is State.RUNNING
        assert (status.stage, status.stage_index, status.step, status.steps) == (Stage.MASK, 1, 1, 2)
        assert status.progress == pytest.approx(1.5 / 4, abs=1e-3)
        assert status.started_at >= status.created_at
        assert status.worker == ME

        job = done(job, Stage.MASK)
        assert board.advance(job, Stage.MASK, 1.5, [Slot.MASK], ME) == (None, [])
        status = board.status(job.id)
        assert status.progress == pytest.approx(2 / 4)
        assert status.timings == {Stage.EMBED: 0.25, Stage.MASK: 1.5}
        assert (status.cache_hits, status.made) == ((Stage.EMBED,), (Slot.MASK,))
        assert status.refs == job.refs

    def test_the_last_stage_is_the_success(self, board: Board) -> None:
        job = at_mask(board)
        for stage in (Stage.MASK, Stage.INVERT, Stage.EDIT):
            job = done(job, stage)
            board.advance(job, stage, 1.0, STAGES[stage].gives, ME)
            if stage is not Stage.EDIT:
                assert not board.status(job.id).is_terminal
                board.begin(job.id, job.stages_left[0], ME)
        assert board.status(job.id).state is State.SUCCEEDED
        assert board.status(job.id).finished_at is not None

    def test_a_job_is_in_one_workers_hands(self, board: Board) -> None:
        job = at_mask(board)
        made = done(job, Stage.MASK)
        for ask in (
            lambda: board.begin(job.id, Stage.MASK, OTHER),
            lambda: board.tick(job.id, 1, 2, OTHER),
            lambda: board.advance(made, Stage.MASK, 1.0, [Slot.MASK], OTHER),
            lambda: board.hand_back(job, OTHER),
            lambda: board.hand_back(job),
            lambda: board.finish(job.id, State.FAILED, worker=OTHER),
        ):
            with pytest.raises(JobElsewhere, match=job.id):
                ask()
        assert board.status(job.id).attempts == {Stage.EMBED: 1, Stage.MASK: 1}
        board.advance(made, Stage.MASK, 1.0, [Slot.MASK], ME)
        assert board.begin(job.id, Stage.INVERT, OTHER).worker == OTHER

    def test_only_the_stage_that_a_job_waits_for_begins(self, board: Board) -> None:
        job = done(at_mask(board), Stage.MASK)
        board.advance(job, Stage.MASK, 1.0, [Slot.MASK], ME)
        for stage in (Stage.EMBED, Stage.MASK, Stage.EDIT):  # messages that came late, or early
            with pytest.raises(JobElsewhere):
                board.begin(job.id, stage, ME)

    def test_the_job_of_a_dead_worker_is_lost_and_found(self, board: Board) -> None:
        job = at_mask(board)
        assert job.id not in board.lost(grace=60)
        board.leave(ME)
        assert job.id in board.lost(grace=60)
        assert board.hand_back(job) is None
        assert job.id not in board.lost(grace=60)
        # The dead worker was only asleep: what it does now is refused.
        with pytest.raises(JobElsewhere):
            board.tick(job.id, 1, 2, ME)
        assert board.begin(job.id, Stage.MASK, OTHER).worker == OTHER
        with pytest.raises(JobElsewhere):
            board.advance(done(job, Stage.MASK), Stage.MASK, 1.0, [Slot.MASK], ME)
        assert board.status(job.id).attempts[Stage.MASK] == 2

    def test_a_message_for_a_dead_workers_job_is_enough(self, board: Board) -> None:
        job = at_mask(board)
        board.leave(ME)
        assert board.begin(job.id, Stage.MASK, OTHER).worker == OTHER

    def test_a_job_that_waits_without_a_message_is_lost(self, board: Board) -> None:
        job = opened(board)
        assert job.id not in board.lost(grace=60)
        assert job.id in board.lost(grace=0)
        board.begin(job.id, Stage.EMBED, ME)
        assert job.id not in board.lost(grace=0)
        board.finish(job.id, State.CANCELLED)
        assert job.id not in board.lost(grace=0)

    def test_a_job_handed_back_waits_as_if_it_had_not_been_begun(self, board: Board) -> None:
        job = at_mask(board)
        assert board.hand_back(job, ME, refund=True) is None
        assert board.status(job.id).attempts == {Stage.EMBED: 1, Stage.MASK: 0}
        assert board.begin(job.id, Stage.MASK, OTHER).worker == OTHER

    def test_a_job_handed_back_without_an_artifact_forgets_the_stage(self, board: Board) -> None:
        job = at_mask(board)
        assert board.hand_back(job.without(Slot.EMBEDDINGS), ME) is None
        status = board.status(job.id)
        assert (status.refs, status.timings) == ({}, {})
        assert board.begin(job.id, Stage.EMBED, ME).worker == ME
        assert board.status(job.id).attempts == {Stage.EMBED: 2, Stage.MASK: 1}

    def test_attempts_are_counted_per_stage_and_end(self, board: Board) -> None:
        job = at_mask(board)
        for _ in range(2):
            board.hand_back(job, ME)
            board.begin(job.id, Stage.MASK, ME)
        assert board.status(job.id).attempts == {Stage.EMBED: 1, Stage.MASK: 3}
        board.hand_back(job, ME)
        with pytest.raises(AttemptsSpent) as caught:
            board.begin(job.id, Stage.MASK, ME)
        assert caught.value.cause == "worker_lost"
        board.note(job.id, Stage.MASK, "timeout")
        with pytest.raises(AttemptsSpent) as caught:
            board.begin(job.id, Stage.MASK, ME)
        assert caught.value.cause == "timeout"

    @pytest.mark.parametrize("other", [ME, OTHER])
    def test_an_artifact_is_made_for_one_job_and_the_others_are_told(self, board: Board, other: str) -> None:
        job, key = at_mask(board), f"artifacts/{uuid.uuid4().hex}"
        assert board.claim([key], job.id, ME) is Claim.GRANTED
        assert board.claim([key], job.id, ME) is Claim.GRANTED
        waiting = [opened(board).id for _ in range(2)]
        for each in (*waiting, waiting[0]):
            assert board.claim([key], each, other) is Claim.TAKEN
        assert board.unclaim([key], waiting[0], other) == []
        assert sorted(board.unclaim([key], job.id, ME)) == sorted(waiting)
        assert board.unclaim([key], job.id, ME) == []
        # Who found it missing before it was there shall look again.
        assert board.claim([key], waiting[0], other) is Claim.JUST_MADE

    def test_who_waits_for_an_artifact_is_told_when_the_job_advances(self, board: Board) -> None:
        job = at_mask(board)
        made = job.with_refs({Slot.MASK: f"artifacts/mask/{uuid.uuid4().hex}.png"})
        waiting, key = opened(board).id, made.refs[Slot.MASK]
        board.claim([key], job.id, ME)
        assert board.claim([key], waiting, OTHER) is Claim.TAKEN
        assert board.advance(made, Stage.MASK, 1.0, [Slot.MASK], ME) == (None, [waiting])
        assert board.claim([key], waiting, OTHER) is Claim.JUST_MADE

    def test_of_several_artifacts_all_are_claimed_or_none(self, board: Board) -> None:
        job, (first, second) = at_mask(board), (f"artifacts/{uuid.uuid4().hex}" for _ in range(2))
        assert board.claim([second], job.id, ME) is Claim.GRANTED
        waiting = opened(board).id
        assert board.claim([first, second], waiting, OTHER) is Claim.TAKEN
        assert board.claim([first], job.id, ME) is Claim.GRANTED
        assert board.unclaim([first, second], job.id, ME) == [waiting]

    def test_a_dead_worker_makes_nothing(self, board: Board) -> None:
        other, job, key = opened(board), at_mask(board), f"artifacts/{uuid.uuid4().hex}"
        assert board.claim([key], job.id, ME) is Claim.GRANTED
        board.leave(ME)
        assert board.claim([key], other.id, OTHER) is Claim.GRANTED

    def test_a_worker_makes_nothing_for_a_job_that_it_has_let_go(self, board: Board) -> None:
        job, key = at_mask(board), f"artifacts/{uuid.uuid4().hex}"
        assert board.claim([key], job.id, ME) is Claim.GRANTED
        board.hand_back(job, ME)  # and what would have ended the claim did not reach the board
        assert board.claim([key], opened(board).id, OTHER) is Claim.GRANTED

    def test_retries_are_counted(self, board: Board) -> None:
        job = at_mask(board)
        for _ in range(2):
            assert board.count_retry(job.id, ME) is None
        with pytest.raises(JobElsewhere):
            board.count_retry(job.id, OTHER)
        assert board.status(job.id).retries == 2
        board.finish(job.id, State.CANCELLED)
        assert board.count_retry(job.id, ME) is State.CANCELLED

    def test_a_job_that_nobody_begins_in_time_expires(self, board: Board) -> None:
        board.announce(a_worker(id=ME))
        late, punctual = a_job(start_timeout=0.5), a_job(start_timeout=0.5)
        for job in (late, punctual):
            board.open(job)
        assert board.expire(late.id) is None
        board.begin(punctual.id, Stage.EMBED, ME)
        until_overdue(board, late)
        assert board.begin(late.id, Stage.EMBED, ME).state is State.EXPIRED
        assert board.status(late.id).state is State.EXPIRED
        assert board.finish(late.id, State.CANCELLED) is State.EXPIRED
        assert late.id not in board.lost(grace=0)
        assert board.expire(punctual.id) is None
        assert not {late.id, punctual.id} & set(board.overdue())

    def test_a_job_that_is_not_done_by_its_deadline_expires_at_its_next_step(self, board: Board) -> None:
        board.announce(a_worker(id=ME))
        jobs = [a_job(deadline=0.5, start_timeout=60) for _ in range(3)]
        for job in jobs:
            board.open(job)
            board.begin(job.id, Stage.EMBED, ME)
            assert board.tick(job.id, 1, 2, ME) is None
        until_overdue(board, *jobs)
        stepped, finished, watched = jobs
        assert board.tick(stepped.id, 2, 2, ME) is State.EXPIRED
        assert (
            board.advance(done(finished, Stage.EMBED), Stage.EMBED, 1.0, [Slot.EMBEDDINGS], ME).outcome is State.EXPIRED
        )
        assert board.status(watched.id).state is State.EXPIRED
        assert not {job.id for job in jobs} & set(board.held_by(ME))

    def test_a_lane_takes_so_many_jobs(self, board: Board) -> None:
        board._settings = Settings(max_queued=3)
        board.announce(a_worker(id=ME))
        model, key = f"m{uuid.uuid4().hex[:8]}", uuid.uuid4().hex

        def wanted(lane: Lane = Lane.INTERACTIVE, profile: str = model) -> Job:
            return a_job(a_request(params={"model": profile}), lane=lane)

        jobs = [wanted() for _ in range(3)]
        board.open(jobs[0], key)
        for job in jobs[1:]:
            board.open(job)
        board.begin(jobs[1].id, Stage.EMBED, ME)
        board.advance(
            done(jobs[1], Stage.EMBED), Stage.EMBED, 1.0, [Slot.EMBEDDINGS], ME
        )  # waits for another stage: counts as well
        refused = wanted()
        with pytest.raises(QueueFull, match="interactive lane"):
            board.open(refused, uuid.uuid4().hex)
        with pytest.raises(JobNotFound):
            board.status(refused.id)
        assert board.open(wanted(), key) == jobs[0].id
        board.open(wanted(Lane.BATCH))
        board.open(wanted(profile="another"))
        board.begin(jobs[0].id, Stage.EMBED, ME)
        board.open(refused)

    def test_what_has_not_ended_is_listed(self, board: Board) -> None:
        running, ended, waiting = at_mask(board), opened(board), opened(board)
        board.finish(ended.id, State.CANCELLED)
        listed = {status.id: status for status in board.unfinished()}
        assert {running.id, waiting.id} <= listed.keys()
        assert ended.id not in listed
        assert listed[running.id] == board.status(running.id)

    def test_what_a_worker_holds_is_known(self, board: Board) -> None:
        job = at_mask(board)
        assert board.held_by(ME) == [job.id]
        assert board.held_by(OTHER) == []
        board.hand_back(job, ME)
        assert board.held_by(ME) == []

    def test_one_worker_at_a_time_looks_after_lost_jobs(self, board: Board) -> None:
        assert board.lead(ME, seconds=60)
        assert board.lead(ME, seconds=60)
        assert not board.lead(OTHER, seconds=60)

    @pytest.mark.parametrize("outcome", [State.SUCCEEDED, State.FAILED, State.CANCELLED, State.EXPIRED])
    def test_the_first_outcome_wins_and_ends_the_writing(self, board: Board, outcome: State) -> None:
        job = opened(board)
        error = ErrorInfo(stage=Stage.MASK, code="empty_mask", message="nothing to edit")
        assert board.finish(job.id, outcome, error) is outcome
        for later in (State.SUCCEEDED, State.FAILED, State.CANCELLED):
            assert board.finish(job.id, later) is outcome
        assert board.begin(job.id, Stage.EMBED, ME).state is outcome
        assert board.tick(job.id, 1, 2, ME) is outcome
        assert board.advance(done(job, Stage.EMBED), Stage.EMBED, 1.0, [Slot.EMBEDDINGS], ME).outcome is outcome
        assert board.hand_back(job) is outcome

        status = board.status(job.id)
        assert status.state is outcome
        assert status.is_terminal
        assert status.error == error
        assert (status.stage, status.attempts, status.refs) == (None, {}, {})
        assert status.finished_at >= status.created_at

    def test_of_racing_outcomes_one_wins_and_all_hear_of_it(self, board: Board) -> None:
        job = opened(board).id
        with ThreadPoolExecutor(8) as pool:
            heard = set(pool.map(lambda i: board.finish(job, [State.SUCCEEDED, State.CANCELLED][i % 2]), range(16)))
        assert heard == {board.status(job).state}

    def test_of_racing_workers_one_gets_the_job(self, board: Board) -> None:
        job = opened(board).id

        def taken(number: int) -> bool:
            board.announce(a_worker(id=f"racer{number}"))
            try:
                return board.begin(job, Stage.EMBED, f"racer{number}").worker == f"racer{number}"
            except JobElsewhere:
                return False

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(taken, range(16))).count(True) == 1

    def test_the_same_key_gives_the_first_job(self, board: Board) -> None:
        key = uuid.uuid4().hex
        with ThreadPoolExecutor(8) as pool:
            ids = set(pool.map(lambda _: board.open(a_job(), key), range(16)))
        assert len(ids) == 1
        assert [status.id for status in board.jobs()].count(ids.pop()) == 1

    def test_a_job_that_is_opened_again_goes_on(self, board: Board) -> None:
        # As when the answer to the first call was lost on its way.
        job = a_job()
        assert board.open(job) == job.id
        board.announce(a_worker())
        board.begin(job.id, Stage.EMBED, "rig")
        assert board.open(job) == job.id
        assert board.held_by("rig") == [job.id]
        assert job.id not in board.lost(grace=0)

    def test_a_discarded_job_frees_its_key(self, board: Board) -> None:
        key, first, second = uuid.uuid4().hex, a_job(), a_job()
        board.open(first, key)
        board.discard(first.id)
        assert board.open(second, key) == second.id
        with pytest.raises(JobNotFound):
            board.status(first.id)
        assert first.id not in board.lost(grace=0)

    def test_jobs_are_listed_newest_first_and_by_state(self, board: Board) -> None:
        jobs = [opened(board).id for _ in range(5)]
        board.finish(jobs[1], State.CANCELLED)
        board.finish(jobs[3], State.CANCELLED)
        assert [status.id for status in board.jobs(limit=5)] == jobs[::-1]
        assert [status.id for status in board.jobs(limit=2)] == [jobs[4], jobs[3]]
        assert [status.id for status in board.jobs(State.CANCELLED, limit=2)] == [jobs[3], jobs[1]]

    def test_workers_come_and_go(self, board: Board) -> None:
        worker = a_worker(id=uuid.uuid4().hex, job="ab" * 16, memory=5)
        board.announce(worker)
        assert worker in board.workers()
        board.leave(worker.id)
        assert worker not in board.workers()

    def test_empty_queues_have_no_depth(self, board: Board) -> None:
        name = f"queue-{uuid.uuid4().hex}"
        assert board.depths([name]) == {name: 0}
        board.ping()
