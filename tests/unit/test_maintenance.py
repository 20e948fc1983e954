"""What the maintenance of a worker does at each turn, over the memory doubles."""

import threading
import time
from contextlib import suppress
from types import SimpleNamespace

import pytest

from diffedit import Artifact, JobStatus, Stage, State
from diffedit.contract.job import ErrorInfo, Job
from diffedit.contract.versions import CONTRACT
from diffedit.errors import BrokerUnavailable, JobElsewhere, StoreRefused
from diffedit.jobs.store import MaxAttemptsExceeded
from diffedit.testing import MemoryObjectStore, memory_backend
from diffedit_worker.models.loading_clock import LoadingClock
from diffedit_worker.runtime.maintenance import Maintenance
from diffedit_worker.runtime.running_stage import RunningStage
from diffedit_worker.settings import StageTimeouts, WorkerSettings
from tests.support.contexts import a_context, a_fitness
from tests.support.factories import a_job, a_worker, done
from tests.support.waiting import until


class MaintainedWorker:
    """A worker named "me" with its maintenance.

    Attributes:
        running_stages: what the worker runs.
        sent: the jobs that maintenance has sent.
        exits: how often maintenance has ended the process.
    """

    def __init__(self, **settings) -> None:
        self.settings = WorkerSettings(**settings)
        self.backend = memory_backend(self.settings, self.settings.limits)
        self.job_store, self.worker_registry = self.backend.job_store, self.backend.worker_registry
        self.sent: list[Job] = []
        self.exits = 0
        self.object_store = MemoryObjectStore()
        self.running_stages: list[RunningStage] = []
        self.fitness = a_fitness(self.backend)
        self.maintenance = self.maintenance_of("me")

    def maintenance_of(self, worker: str) -> Maintenance:
        """Return the maintenance of another worker, which has sent its first heartbeat."""
        maintenance = Maintenance(
            self.job_store,
            self.worker_registry,
            self.settings,
            a_worker(id=worker),
            a_context(id=worker, enqueue=self.sent.append),
            self.fitness,
            running_stages=lambda: self.running_stages,
            object_store=self.object_store,
        )
        maintenance.heartbeat._exit_process = self.exit_process
        maintenance.heartbeat.send()
        return maintenance

    def exit_process(self) -> None:
        self.exits += 1

    def run_once(self) -> None:
        """Carry out each duty once, the heartbeat last."""
        for thread in reversed(self.maintenance.threads):
            thread.run_once()

    def started_job(self, worker: str, stage: Stage = Stage.EMBED) -> Job:
        """Return a job of which this worker has started a stage."""
        job = a_job()
        self.job_store.create_job(job)
        self.job_store.start_stage(job.id, stage, worker)
        return job


@pytest.fixture
def worker() -> MaintainedWorker:
    return MaintainedWorker()


def unavailable(*args: object, **kwargs: object) -> None:
    raise BrokerUnavailable("no answer")


def test_a_heartbeat_names_the_running_job_and_the_memory(worker: MaintainedWorker) -> None:
    worker.running_stages = [RunningStage("ab" * 16, Stage.MASK)]
    worker.maintenance.heartbeat.send()
    (info,) = worker.worker_registry.workers()
    assert info.job == "ab" * 16
    assert info.jobs == ("ab" * 16,)
    assert info.memory > 10**6


def test_a_heartbeat_names_all_running_jobs(worker: MaintainedWorker) -> None:
    worker.running_stages = [RunningStage("ab" * 16, Stage.MASK), RunningStage("cd" * 16, Stage.EDIT)]
    worker.maintenance.heartbeat.send()
    (info,) = worker.worker_registry.workers()
    assert info.running_jobs == info.jobs == ("ab" * 16, "cd" * 16)
    assert info.job == "cd" * 16  # for clients of version 0.2.0


def test_the_job_of_a_dead_worker_continues_with_its_stage(worker: MaintainedWorker) -> None:
    worker.maintenance_of("other")
    job = worker.started_job("other")
    job = done(job, Stage.EMBED)
    worker.job_store.complete_stage(job, Stage.EMBED, 1.0, [Artifact.EMBEDDINGS], "other")
    worker.job_store.start_stage(job.id, Stage.MASK, "other")
    worker.maintenance.rescue.rescue_orphans()
    assert worker.sent == []
    worker.worker_registry.unregister("other")
    worker.maintenance.rescue.rescue_orphans()
    assert worker.sent == [job]
    worker.maintenance.rescue.rescue_orphans()
    assert worker.sent == [job]  # it waits now, and its message is on the way


def test_a_waiting_job_without_a_message_is_sent_after_a_while() -> None:
    worker = MaintainedWorker(worker_ttl=1)
    job = a_job()
    worker.job_store.create_job(job)
    worker.maintenance.rescue.rescue_orphans()
    assert worker.sent == []
    worker.job_store._state.waiting[job.id] -= 60
    worker.maintenance.rescue.rescue_orphans()
    assert worker.sent == [job]


def test_an_overdue_job_is_ended(worker: MaintainedWorker) -> None:
    job = a_job(start_timeout=0.001)
    worker.job_store.create_job(job)
    threading.Event().wait(0.01)
    worker.maintenance.rescue.rescue_orphans()
    assert worker.job_store.status(job.id).state is State.EXPIRED


def test_a_job_whose_workers_are_all_paused_fails_after_the_patience() -> None:
    worker = MaintainedWorker(refusal_patience=0)
    job = worker.started_job("me")
    error = ErrorInfo(stage=Stage.EMBED, code="store_refused", message="AccessDenied")
    worker.maintenance_of("untried")
    worker.worker_registry.send_heartbeat(a_worker(id="untried", name="untried@here"))
    worker.job_store.refuse_stage(job, Stage.EMBED, "me", error)
    worker.maintenance.rescue.rescue_orphans()
    assert not worker.job_store.status(job.id).is_terminal
    for each in ("me", "untried"):
        worker.worker_registry.send_heartbeat(a_worker(id=each, paused=True))
    worker.maintenance.rescue.rescue_orphans()
    assert worker.job_store.status(job.id).error == error


def test_a_paused_worker_says_so_until_the_object_store_works(worker: MaintainedWorker, monkeypatch) -> None:
    with monkeypatch.context() as outage:
        outage.setattr(worker.fitness._object_store, "put", refuse)
        worker.fitness.stage_refused(Stage.MASK, "ab" * 16, StoreRefused("AccessDenied"))
        worker.run_once()
        (info,) = worker.worker_registry.workers()
        assert info.paused
    worker.run_once()
    (info,) = worker.worker_registry.workers()
    assert not info.paused


def refuse(*args: object) -> None:
    raise StoreRefused("AccessDenied")


def test_only_the_leader_rescues_jobs(worker: MaintainedWorker) -> None:
    other = worker.maintenance_of("other")
    worker.maintenance.rescue.rescue_orphans()
    worker.started_job("third")
    other.rescue.rescue_orphans()
    assert worker.sent == []
    worker.maintenance.rescue.rescue_orphans()
    assert len(worker.sent) == 1


def test_an_outage_ends_the_turn_and_the_next_one_begins_anew(worker: MaintainedWorker, monkeypatch) -> None:
    job = worker.started_job("silent since the outage began")
    with monkeypatch.context() as outage:
        outage.setattr(worker.job_store, "abandoned_jobs", unavailable)
        worker.run_once()
    assert worker.sent == []
    worker.run_once()
    assert worker.sent == [job]


def unsent_jobs(worker: MaintainedWorker, number: int) -> list[Job]:
    """Return jobs that have waited without a message for a minute."""
    jobs = [a_job() for _ in range(number)]
    for job in jobs:
        worker.job_store.create_job(job)
        worker.job_store._state.waiting[job.id] -= 60
    return jobs


def test_the_leader_rescues_in_slices_and_jobs_of_dead_workers_come_first(worker: MaintainedWorker) -> None:
    jobs = unsent_jobs(worker, 3)
    worker.maintenance.rescue._slice_seconds = 0  # one job in each
    for number in (1, 2):
        worker.maintenance.rescue.rescue_orphans()
        assert worker.sent == jobs[:number]
    abandoned = worker.started_job("dead")
    for _ in range(3):
        worker.maintenance.rescue.rescue_orphans()
    assert worker.sent == [*jobs[:2], abandoned, jobs[2]]


def test_a_worker_that_has_lost_its_leadership_sends_nothing_more(worker: MaintainedWorker) -> None:
    jobs = unsent_jobs(worker, 3)
    other = worker.maintenance_of("other")
    worker.maintenance.rescue._slice_seconds = 0
    worker.maintenance.rescue.rescue_orphans()  # the lease is 0 s, too
    other.rescue.rescue_orphans()
    for _ in range(4):
        worker.maintenance.rescue.rescue_orphans()
    assert worker.sent == jobs, "each of them once"


def test_what_was_listed_long_ago_is_not_sent_twice(worker: MaintainedWorker) -> None:
    """As by a leader that was frozen, while another one rescued the same jobs."""
    started, sent, lost = unsent_jobs(worker, 3)
    rescue, store = worker.maintenance.rescue, worker.job_store
    listed = list(rescue._pass())
    store.start_stage(started.id, Stage.EMBED, "me")
    store.requeue(sent, waited=1)
    for task in listed:
        with suppress(JobElsewhere):
            task()
    assert worker.sent == [lost]
    assert store.status(started.id).attempts == {Stage.EMBED: 1}


def test_a_rescue_that_takes_long_delays_no_heartbeat_and_no_watchdog(monkeypatch) -> None:
    worker = MaintainedWorker(worker_ttl=1)
    (job,) = unsent_jobs(worker, 1)
    sending, finish = threading.Event(), threading.Event()

    def send(job: Job) -> None:
        sending.set()
        assert finish.wait(60)

    monkeypatch.setattr(worker.maintenance.rescue, "_context", a_context(id="me", enqueue=send))
    worker.maintenance.start()
    assert sending.wait(60)
    worker.running_stages = [RunningStage(job.id, Stage.EMBED)]
    until(lambda: [info.job for info in worker.worker_registry.workers()] == [job.id], "a heartbeat")
    worker.running_stages = [RunningStage(job.id, Stage.EMBED, last_step_at=-(10**6))]
    until(lambda: worker.exits, "the watchdog")
    finish.set()
    worker.maintenance.stop()


def test_the_log_says_why_a_job_is_sent_again(worker: MaintainedWorker, caplog) -> None:
    abandoned, (unsent,), refused = worker.started_job("dead"), unsent_jobs(worker, 1), worker.started_job("me")
    left = worker.started_job("me")
    error = ErrorInfo(stage=Stage.EMBED, code="model_unavailable", message="no such model")
    worker.job_store.refuse_stage(refused, Stage.EMBED, "me", error)
    worker.job_store._state.waiting[refused.id] -= 60
    worker.run_once()
    assert {record.getMessage() for record in caplog.records} == {
        f"job {left.id}: this worker has left it; it continues with stage embed",
        f"job {abandoned.id}: its worker is dead; it continues with stage embed",
        f"job {unsent.id}: it waits without a message; it continues with stage embed",
        f"job {refused.id}: no worker was left to try stage embed; it continues with stage embed",
    }


def test_an_unexpected_error_about_one_job_does_not_prevent_the_rescue_of_others(
    worker: MaintainedWorker, monkeypatch
) -> None:
    poison, job = unsent_jobs(worker, 2)
    status = worker.job_store.status

    def fail(job_id: str) -> JobStatus:
        if job_id == poison.id:
            raise RuntimeError("a bug")
        return status(job_id)

    monkeypatch.setattr(worker.job_store, "status", fail)
    worker.run_once()
    assert worker.sent == [job]


def test_a_job_that_the_worker_does_not_run_any_more_is_released(worker: MaintainedWorker) -> None:
    job, current = worker.started_job("me"), worker.started_job("me")
    worker.running_stages = [RunningStage(current.id, Stage.EMBED)]
    worker.maintenance.rescue.release_idle()
    assert worker.sent == [job]
    assert worker.job_store.jobs_held_by("me") == [current.id]


@pytest.mark.parametrize("moment", ["before its status", "after its status", "after the look at what runs"])
def test_a_job_that_was_between_two_stages_is_not_released(
    worker: MaintainedWorker, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """It was listed while one stage ran, was not running at the next look, and begins its next stage at `moment`."""
    job, store = worker.started_job("me"), worker.job_store
    status, requeue = store.status, store.requeue
    store.complete_stage(done(job, Stage.EMBED), Stage.EMBED, 1.0, Stage.EMBED.gives, "me")

    def begin(now: str) -> None:
        if now == moment:
            worker.running_stages = [RunningStage(job.id, Stage.MASK)]
            store.start_stage(job.id, Stage.MASK, "me")

    def watched_status(job_id: str) -> JobStatus:
        begin("before its status")
        found = status(job_id)
        begin("after its status")
        return found

    def watched_requeue(*args: object, **options: object) -> State | None:
        begin("after the look at what runs")
        return requeue(*args, **options)

    monkeypatch.setattr(store, "jobs_held_by", lambda worker: [job.id])
    monkeypatch.setattr(store, "status", watched_status)
    monkeypatch.setattr(store, "requeue", watched_requeue)
    worker.maintenance.rescue.release_idle()
    assert worker.sent == []
    assert (status(job.id).worker, status(job.id).attempts) == ("me", {Stage.EMBED: 1, Stage.MASK: 1})


def test_a_stuck_stage_ends_the_worker_and_records_the_cause() -> None:
    worker = MaintainedWorker(stage_timeouts=StageTimeouts(stages={Stage.EMBED: 10}), max_attempts=1)
    job = worker.started_job("me")
    worker.running_stages = [RunningStage(job.id, Stage.EMBED)]
    worker.maintenance.heartbeat.exit_if_stuck()
    assert worker.exits == 0
    last_step_at = worker.running_stages[0].last_step_at - 11
    worker.running_stages = [RunningStage(job.id, Stage.EMBED, last_step_at=last_step_at)]
    worker.maintenance.heartbeat.exit_if_stuck()
    assert worker.exits == 1
    worker.maintenance_of("other").rescue.rescue_orphans()
    assert worker.sent == [job]
    with pytest.raises(MaxAttemptsExceeded, match="timeout"):
        worker.job_store.start_stage(job.id, Stage.EMBED, "other")


def started_minutes_ago(worker: MaintainedWorker, minutes: int) -> RunningStage:
    return RunningStage(worker.started_job("me").id, Stage.EMBED, last_step_at=time.monotonic() - 60 * minutes)


def test_beside_a_stuck_stage_only_those_that_hang_with_it_lose_an_attempt() -> None:
    worker = MaintainedWorker(stage_timeouts=StageTimeouts(default=3600))
    stuck, with_it, innocent = worker.running_stages = [started_minutes_ago(worker, minutes) for minutes in (60, 59, 1)]
    worker.maintenance.heartbeat.exit_if_stuck()
    assert worker.exits == 1
    assert [job.id for job in worker.sent] == [innocent.job_id]
    assert worker.job_store.status(innocent.job_id).attempts == {Stage.EMBED: 0}
    for each in (stuck, with_it):
        assert worker.job_store.status(each.job_id).attempts == {Stage.EMBED: 1}
        assert worker.job_store._state.records[each.job_id]["cause:embed"] == "timeout"
    worker.maintenance_of("other").rescue.rescue_orphans()
    assert {job.id for job in worker.sent} == {stuck.job_id, with_it.job_id, innocent.job_id}


def test_a_stuck_worker_ends_even_if_it_cannot_requeue_the_other_jobs(worker: MaintainedWorker, monkeypatch) -> None:
    worker.running_stages = [started_minutes_ago(worker, minutes) for minutes in (60, 1)]
    monkeypatch.setattr(worker.job_store, "requeue", unavailable)
    worker.maintenance.heartbeat.exit_if_stuck()
    assert (worker.exits, worker.sent) == (1, [])


def test_stages_that_are_slow_but_not_stuck_end_nothing() -> None:
    worker = MaintainedWorker(stage_timeouts=StageTimeouts(default=3600))
    worker.running_stages = [started_minutes_ago(worker, minutes) for minutes in (59, 40)]
    worker.maintenance.heartbeat.exit_if_stuck()
    assert (worker.exits, worker.sent) == (0, [])


def hour_without_a_step(worker: MaintainedWorker, clock: LoadingClock) -> RunningStage:
    """Return a stage whose last step ended an hour ago, on models that `clock` knows of."""
    models, job = SimpleNamespace(loading_clock=clock), worker.started_job("me")
    return RunningStage(job.id, Stage.EMBED, last_step_at=time.monotonic() - 3600, models=models)


def test_a_stage_is_not_stuck_while_its_model_is_downloaded_and_loaded() -> None:
    worker, clock = MaintainedWorker(stage_timeouts=StageTimeouts(default=60)), LoadingClock()
    worker.running_stages = [hour_without_a_step(worker, clock)]
    with clock.running():
        worker.maintenance.heartbeat.exit_if_stuck()
    assert worker.exits == 0
    worker.maintenance.heartbeat.exit_if_stuck()
    assert worker.exits == 0, "its time begins with the end of the load"


def test_a_stage_without_a_step_is_stuck_also_if_its_model_was_loaded_before() -> None:
    worker, clock = MaintainedWorker(stage_timeouts=StageTimeouts(default=60)), LoadingClock()
    worker.running_stages = [hour_without_a_step(worker, clock)]
    worker.maintenance.heartbeat.exit_if_stuck()
    assert worker.exits == 1


def test_a_stuck_worker_ends_even_if_it_cannot_record_the_cause(worker: MaintainedWorker, monkeypatch) -> None:
    monkeypatch.setattr(worker.job_store, "record_cause", unavailable)
    worker.running_stages = [RunningStage("ab" * 16, Stage.MASK, last_step_at=-(10**6))]
    with pytest.raises(BrokerUnavailable):
        worker.maintenance.heartbeat.exit_if_stuck()
    assert worker.exits == 1


@pytest.mark.parametrize("error", [BrokerUnavailable("no answer"), RuntimeError("a bug")])
def test_an_error_in_one_duty_does_not_prevent_the_others(
    worker: MaintainedWorker, monkeypatch, error: Exception
) -> None:
    def fail(*args: object) -> None:
        raise error

    monkeypatch.setattr(worker.worker_registry, "send_heartbeat", fail)
    job = worker.started_job("me")
    worker.run_once()
    assert worker.sent == [job]


@pytest.mark.parametrize("error", [BrokerUnavailable("no answer"), RuntimeError("a bug")])
def test_an_error_does_not_prevent_the_end_of_maintenance(
    worker: MaintainedWorker, monkeypatch, error: Exception
) -> None:
    def fail(worker_id: str) -> None:
        raise error

    monkeypatch.setattr(worker.worker_registry, "unregister", fail)
    worker.maintenance.stop()
    assert [thread._stopping.is_set() for thread in worker.maintenance.threads] == [True, True]


def test_a_started_worker_is_registered_until_it_stops(worker: MaintainedWorker) -> None:
    worker.worker_registry.unregister("me")
    worker.maintenance.start()
    assert [info.id for info in worker.worker_registry.workers()] == ["me"]
    worker.maintenance.stop()
    worker.maintenance.heartbeat.send()  # the thread may be about to
    assert worker.worker_registry.workers() == []


def test_a_damaged_record_fails_its_job_and_the_other_jobs_continue(worker: MaintainedWorker) -> None:
    damaged, job = worker.started_job("dead"), worker.started_job("dead")
    record = worker.job_store._state.records[damaged.id]
    request, record["request"] = record["request"], record["request"].replace("target_prompt", "new_field")
    worker.maintenance.rescue.rescue_orphans()
    assert worker.sent == [job]
    record["request"] = request
    status = worker.job_store.status(damaged.id)
    assert (status.state, status.error.code) == (State.FAILED, "bad_record")
    assert "nothing says what to change" in status.error.message


@pytest.mark.parametrize("readable", [True, False])
def test_a_job_of_a_newer_version_is_left_to_newer_workers(worker: MaintainedWorker, readable: bool) -> None:
    newer, job = worker.started_job("dead"), worker.started_job("dead")
    record = worker.job_store._state.records[newer.id]
    record["contract"] = str(CONTRACT + 1)
    if not readable:
        record["stage"] = "upscale"
    before = dict(record)
    worker.maintenance.rescue.rescue_orphans()
    assert worker.sent == [job]
    assert record == before
