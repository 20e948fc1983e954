"""What the observers of a runner are told of each stage."""

import logging

import pytest

from diffedit.contract.job import State
from diffedit.contract.stages import Artifact, Lane, Stage
from diffedit_worker.runtime.stage_report import Outcome, StageReport
from tests.support.inline_worker import InlineWorker


class Reports(list[StageReport]):
    """An observer that keeps what it is told."""

    def __call__(self, report: StageReport) -> None:
        self.append(report)

    @property
    def outcomes(self) -> list[tuple[Stage, Outcome, str]]:
        return [(each.stage, each.outcome, each.code) for each in self]


@pytest.fixture
def reports() -> Reports:
    return Reports()


@pytest.fixture
def worker(reports: Reports) -> InlineWorker:
    worker = InlineWorker()
    worker.restart(context={"name": lambda: "rig@here"}, observers=[reports])
    return worker


def test_each_stage_is_reported_with_what_it_took(worker: InlineWorker, reports: Reports) -> None:
    job = worker.edit(owner="ada", lane="batch")
    assert reports.outcomes == [
        (stage, Outcome.MADE, "") for stage in (Stage.EMBED, Stage.MASK, Stage.INVERT, Stage.EDIT)
    ]
    status = job.status()
    for report in reports:
        assert (report.job_id, report.profile, report.lane, report.owner) == (job.id, "tiny", Lane.BATCH, "ada")
        assert (report.worker, report.attempt) == ("rig@here", 1)
        assert 0 < report.device_seconds <= report.compute_seconds
        assert report.waited == status.waits[report.stage]
        assert report.seconds == pytest.approx(status.timings[report.stage], abs=1e-4)
        parts = (report.load_seconds, report.compute_seconds, report.save_seconds)
        assert min(parts) > 0 and sum(parts) <= report.seconds
    assert status.started_at
    assert [each.started_at for each in reports] == sorted(each.started_at for each in reports)


def test_what_is_found_is_not_computed(worker: InlineWorker, reports: Reports) -> None:
    worker.edit()
    reports.clear()
    worker.edit()
    assert {report.outcome for report in reports} == {Outcome.FOUND}
    assert all(report.load_seconds and not report.compute_seconds and not report.save_seconds for report in reports)


def test_a_failure_is_reported_with_its_code(worker: InlineWorker, reports: Reports) -> None:
    job = worker.edit(mask_thresholding_ratio=100.0)
    assert job.status().state is State.FAILED
    assert reports.outcomes[-1] == (Stage.MASK, Outcome.FAILED, "empty_mask")
    assert reports[-1].compute_seconds > 0


def test_an_error_of_the_worker_is_reported_before_the_worker_may_end(worker: InlineWorker, reports: Reports) -> None:
    told: list[int] = []
    worker.models_of = lambda profile: 1 / 0
    worker.restart(context={"stage_refused": lambda *refusal: told.append(len(reports))}, observers=[reports])
    worker.edit()
    assert reports.outcomes == [(Stage.EMBED, Outcome.REFUSED, "internal")]
    assert told == [1]


def test_a_damaged_artifact_and_the_second_attempt_are_reported(worker: InlineWorker, reports: Reports) -> None:
    def damage(stage: Stage, job) -> None:
        if stage is Stage.EDIT and not any(report.outcome is Outcome.REQUEUED for report in reports):
            key = worker.job_store.status(job.id).artifact_keys[Artifact.MASK]
            worker.object_store.put(key, b"no picture")

    worker.before_stage = damage
    worker.edit()
    requeued = [each for each in reports if each.outcome is Outcome.REQUEUED]
    assert [(each.stage, each.code) for each in requeued] == [(Stage.EDIT, "bad_artifact")]
    assert reports.outcomes[-1] == (Stage.EDIT, Outcome.MADE, "")
    assert [each.attempt for each in reports if each.stage is Stage.MASK] == [1, 2]


def test_a_stage_that_a_cancellation_stops_is_dropped(worker: InlineWorker, reports: Reports) -> None:
    worker.before_report(lambda job_id, step: worker.client.job(job_id).cancel())
    worker.edit()
    assert reports.outcomes == [(Stage.EMBED, Outcome.DROPPED, "")]


def test_a_worker_that_shuts_down_requeues(worker: InlineWorker, reports: Reports) -> None:
    def shut_down(job_id: str, step: int) -> None:
        worker.shutting_down = worker.stage_of(job_id) is Stage.INVERT

    worker.before_report(shut_down)
    worker.edit()
    assert reports.outcomes[-1] == (Stage.INVERT, Outcome.REQUEUED, "")


def test_what_is_not_started_is_not_reported(worker: InlineWorker, reports: Reports) -> None:
    job = worker.edit()
    reports.clear()
    assert worker.runner.run(Stage.EDIT, job.id) is None
    assert worker.runner.run(Stage.EDIT, "ab" * 16) is None
    assert reports == []


def test_an_observer_that_fails_hinders_nobody(reports: Reports, caplog: pytest.LogCaptureFixture) -> None:
    worker = InlineWorker()
    worker.restart(observers=[lambda report: 1 / 0, reports])
    job = worker.edit()
    assert job.status().state is State.SUCCEEDED
    assert len(reports) == 4
    lost = [record for record in caplog.records if "an observer of stage" in record.getMessage()]
    assert [record.levelno for record in lost] == [logging.ERROR] * 4


def test_the_log_has_a_line_for_each_stage(worker: InlineWorker, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="diffedit_worker.runtime.stage_log")
    job = worker.edit()
    lines = [each.getMessage() for each in caplog.records if each.name == "diffedit_worker.runtime.stage_log"]
    assert [line.split()[:4] for line in lines] == [
        ["job", f"{job.id}:", stage, "made"] for stage in ("embed", "mask", "invert", "edit")
    ]
