"""What becomes of a job whose stage stops early: the table, and what the runner then does to the job's record."""

import logging

import pytest

from diffedit import State
from diffedit.contract.job import Job
from diffedit.contract.stages import Artifact, Stage
from diffedit.errors import (
    ArtifactError,
    ArtifactMissing,
    BadPicture,
    BadRecord,
    BrokerFull,
    BrokerUnavailable,
    DeviceFailed,
    DiffEditError,
    EmptyMask,
    InvalidRequest,
    JobElsewhere,
    JobNotFound,
    ModelUnavailable,
    NewerRecord,
    NotFinite,
    OutOfMemory,
    StoreRefused,
    StoreUnavailable,
    TextTooLong,
    UnknownPreset,
    UnknownProfile,
    WorkerUnfit,
)
from diffedit.jobs.store import MaxAttemptsExceeded, OwnerBusy, QueuePaused, RefusedBefore
from diffedit_worker.models.loading import Models
from diffedit_worker.runtime.artifacts import ArtifactDamaged
from diffedit_worker.runtime.dispositions import (
    DISPOSITIONS,
    BeingMade,
    Disposition,
    JobEnded,
    WorkerStopping,
    disposition_of,
)
from diffedit_worker.runtime.failures import MAX_ATTEMPTS_MESSAGES, error_info
from tests.support.backend_behaviour import orphans
from tests.support.factories import a_job, a_worker
from tests.support.inline_worker import InlineWorker, tiny

DAMAGED = ArtifactDamaged(Artifact.EMBEDDINGS, ArtifactError("cut short"))

CASES = [
    (JobEnded(State.CANCELLED), Disposition.DROP),
    (JobNotFound("ab" * 16), Disposition.DROP),
    (JobElsewhere("ab" * 16), Disposition.DROP),
    (BrokerUnavailable("no answer"), Disposition.DROP),
    (BrokerFull(), Disposition.DROP),
    (WorkerStopping(), Disposition.REQUEUE),
    (BeingMade("artifacts/mask"), Disposition.WAIT_FOR_LOCK),
    (DAMAGED, Disposition.MAKE_AGAIN),
    (RefusedBefore(), Disposition.HAND_BACK),
    (OwnerBusy(), Disposition.PARK),
    (QueuePaused(), Disposition.HOLD),
    (NewerRecord("ab" * 16), Disposition.HAND_BACK),
    (MaxAttemptsExceeded("timeout"), Disposition.FAIL),
    (BadRecord("ab" * 16, "damaged"), Disposition.FAIL),
    (InvalidRequest("not valid"), Disposition.FAIL),
    (BadPicture("not a picture"), Disposition.FAIL),
    (EmptyMask("nothing to edit"), Disposition.FAIL),
    (TextTooLong("caption", 700, 600), Disposition.FAIL),
    (ArtifactError("not the picture that was uploaded"), Disposition.FAIL),
    (ArtifactMissing(), Disposition.REFUSE),
    (UnknownPreset("tiny", "fast", ()), Disposition.FAIL),
    (UnknownProfile("no such profile"), Disposition.REFUSE),
    (StoreUnavailable("no answer"), Disposition.REFUSE),
    (StoreRefused("AccessDenied"), Disposition.REFUSE),
    (NotFinite("UNet", "cuda:0", "float16"), Disposition.REFUSE),
    (OutOfMemory(), Disposition.REFUSE),
    (ModelUnavailable("no such directory"), Disposition.REFUSE),
    (DeviceFailed("CUDA error"), Disposition.REFUSE),
    (WorkerUnfit("the clock is wrong"), Disposition.REFUSE),
    (RuntimeError("a bug"), Disposition.REFUSE),
]


@pytest.mark.parametrize(("error", "disposition"), CASES, ids=lambda value: type(value).__name__)
def test_each_error_leads_to_one_disposition(error: Exception, disposition: Disposition) -> None:
    assert disposition_of(error) is disposition


def test_the_cases_cover_the_table() -> None:
    kinds = {type(error) for error, _ in CASES}
    assert DISPOSITIONS.keys() - {Exception} <= kinds
    assert set(DISPOSITIONS.values()) == set(Disposition)


@pytest.mark.parametrize("cause", MAX_ATTEMPTS_MESSAGES)
def test_the_last_failed_attempt_names_its_cause_and_what_to_do(cause: str) -> None:
    info = error_info(MaxAttemptsExceeded(cause), Stage.MASK)
    assert (info.stage, info.code) == (Stage.MASK, cause)
    assert info.message == MAX_ATTEMPTS_MESSAGES[cause]


def test_an_unknown_cause_is_its_own_message() -> None:
    assert error_info(MaxAttemptsExceeded("sunspots"), Stage.MASK).message == "sunspots"


def test_an_error_of_this_project_keeps_its_code_and_text() -> None:
    info = error_info(EmptyMask("nothing to edit"), Stage.MASK)
    assert (info.code, info.message) == ("empty_mask", "nothing to edit")


@pytest.fixture
def worker() -> InlineWorker:
    return InlineWorker()


def fail_in(worker: InlineWorker, stage: Stage, error: Exception, times: int = 1) -> None:
    """Let the stage raise this error in its first attempts, when it asks for its models."""
    left = iter(range(times))
    current: list[Stage] = []
    worker.before_stage = lambda stage, job: current.append(stage)

    def models_of(profile: str) -> Models:
        if current[-1] is stage and next(left, None) is not None:
            raise error
        return tiny(profile)

    worker.models_of = models_of
    worker.restart()


def test_an_unexpected_error_is_recorded_without_its_text(worker: InlineWorker, caplog) -> None:
    fail_in(worker, Stage.EMBED, RuntimeError("s3cret"))
    with caplog.at_level(logging.ERROR):
        error = worker.edit().status().refusal
    assert (error.stage, error.code) == (Stage.EMBED, "internal")
    assert "RuntimeError" in error.message
    assert "s3cret" not in error.message
    assert "Traceback" in caplog.text and "s3cret" in caplog.text


def test_a_failed_stage_fails_the_job_at_once(worker: InlineWorker) -> None:
    fail_in(worker, Stage.MASK, EmptyMask("nothing to edit"))
    status = worker.edit().status()
    assert (status.state, status.error.code) == (State.FAILED, "empty_mask")
    assert status.attempts == {Stage.EMBED: 1, Stage.MASK: 1}


def test_a_stage_that_a_worker_cannot_run_is_passed_on_at_once(worker: InlineWorker) -> None:
    sent: list[Job] = []
    worker.worker_registry.send_heartbeat(a_worker(id="healthy", name="healthy@here"))
    refusals: list[tuple[Stage, str, Exception]] = []
    error = RuntimeError("a bug")
    fail_in(worker, Stage.MASK, error)
    worker.restart(context={"enqueue": sent.append, "stage_refused": lambda *refusal: refusals.append(refusal)})
    job = worker.edit()
    assert [each.id for each in sent] == [job.id]
    assert refusals == [(Stage.MASK, job.id, error)]
    status = job.status()
    assert (status.state, status.refused_by) == (State.RUNNING, {Stage.MASK: ("rig@here",)})
    assert (status.refusal.code, status.attempts[Stage.MASK]) == ("internal", 0)
    assert worker.job_store.jobs_held_by("rig") == []
    # The message comes back to the same worker, which leaves it to the other one.
    assert worker.runner.run(Stage.MASK, job.id) is None
    assert [each.id for each in sent] == [job.id, job.id]
    assert job.status().attempts[Stage.MASK] == 0


def test_an_error_of_the_device_is_reported_as_one(worker: InlineWorker, caplog) -> None:
    refusals: list[Exception] = []
    fail_in(worker, Stage.MASK, RuntimeError("CUDA error: an illegal memory access was encountered\nlong advice"))
    worker.restart(context={"stage_refused": lambda stage, job_id, error: refusals.append(error)})
    with caplog.at_level(logging.ERROR):
        info = worker.edit().status().refusal
    assert isinstance(refusals[0], DeviceFailed)
    assert info.code == "device_failed"
    assert "an illegal memory access" in info.message
    assert "long advice" not in info.message
    assert "long advice" in caplog.text


def test_a_stage_that_nobody_else_can_try_waits_without_a_message(worker: InlineWorker) -> None:
    sent: list[Job] = []
    fail_in(worker, Stage.MASK, StoreUnavailable("no answer"))
    worker.restart(context={"enqueue": sent.append})
    job = worker.edit()
    assert sent == []
    assert orphans(worker.backend, waited=0) == [job.id]
    worker.send(job.status().job)  # as the leader does after a while
    assert (job.status().state, job.status().attempts[Stage.MASK]) == (State.SUCCEEDED, 1)


def test_a_requeued_job_does_not_count_the_attempt(worker: InlineWorker) -> None:
    fail_in(worker, Stage.MASK, WorkerStopping())
    status = worker.edit().status()
    assert (status.state, status.attempts[Stage.MASK]) == (State.SUCCEEDED, 1)


def test_a_job_that_waits_for_a_lock_gets_no_message_and_counts_no_attempt(worker: InlineWorker) -> None:
    sent: list[Job] = []
    fail_in(worker, Stage.MASK, BeingMade("artifacts/mask"))
    worker.restart(context={"enqueue": sent.append})
    job = worker.edit()
    assert sent == []
    assert job.status().attempts.get(Stage.MASK, 0) == 0
    assert worker.job_store.jobs_held_by("rig") == []
    worker.send(job.status().job)
    assert job.status().state is State.SUCCEEDED


def test_a_dropped_job_stays_as_it_is_for_maintenance(worker: InlineWorker) -> None:
    fail_in(worker, Stage.MASK, BrokerUnavailable("no answer"))
    job = worker.edit()
    assert job.status().state is State.RUNNING
    assert worker.job_store.jobs_held_by("rig") == [job.id]


def test_a_message_without_a_record_is_dropped(worker: InlineWorker) -> None:
    assert worker.runner.run(Stage.EMBED, a_job().id) is None


@pytest.mark.parametrize("error", [BrokerUnavailable("no answer"), JobNotFound("ab" * 16)])
def test_a_failure_that_cannot_be_recorded_does_not_end_the_worker(
    worker: InlineWorker, monkeypatch, error: DiffEditError
) -> None:
    def fail(*args: object) -> None:
        raise error

    monkeypatch.setattr(worker.job_store, "end_job", fail)
    fail_in(worker, Stage.MASK, EmptyMask("nothing to edit"))
    assert worker.edit().status().state is State.RUNNING


@pytest.mark.parametrize("error", [WorkerStopping(), StoreUnavailable("no answer")])
def test_a_job_that_cannot_be_requeued_stays_as_it_is_for_maintenance(
    worker: InlineWorker, monkeypatch, error: Exception
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise BrokerUnavailable("no answer")

    monkeypatch.setattr(worker.job_store, "requeue", fail)
    monkeypatch.setattr(worker.job_store, "refuse_stage", fail)
    fail_in(worker, Stage.MASK, error)
    job = worker.edit()
    assert worker.job_store.jobs_held_by("rig") == [job.id]


def test_after_an_unexpected_error_at_the_start_the_job_stays_as_it_is_for_maintenance(
    worker: InlineWorker, monkeypatch
) -> None:
    def fail(*args: object) -> None:
        raise RuntimeError("a bug")

    start = worker.job_store.start_stage
    monkeypatch.setattr(worker.job_store, "start_stage", lambda *args, **options: (start(*args, **options), fail())[1])
    job = worker.edit()
    assert worker.job_store.jobs_held_by("rig") == [job.id]


def test_a_paused_worker_returns_its_messages(worker: InlineWorker) -> None:
    sent: list[Job] = []
    worker.restart(context={"enqueue": sent.append, "paused": lambda: True})
    job = worker.edit()
    assert [each.id for each in sent] == [job.id]
    assert job.status().attempts == {}


def test_the_messages_of_a_job_that_has_ended_are_dropped_by_a_paused_worker(worker: InlineWorker) -> None:
    sent: list[Job] = []
    job = worker.edit()
    assert job.status().state is State.SUCCEEDED
    worker.restart(context={"enqueue": sent.append, "paused": lambda: True})
    assert worker.runner.run(Stage.EDIT, job.id) is None
    assert sent == []
