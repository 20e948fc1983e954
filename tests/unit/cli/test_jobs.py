"""The commands about jobs that were submitted before."""

import json
import uuid
from pathlib import Path

import pytest

from diffedit import State
from diffedit.contract.job import ErrorInfo
from diffedit.contract.stages import Stage
from diffedit.contract.versions import CONTRACT
from diffedit.provenance import with_manifest
from tests.support.cli import RESULT, WORKER, Cli

FAILURE = ErrorInfo(stage=Stage.MASK, code="empty_mask", message="no difference")


def rows(text: str) -> dict[str, str]:
    """Return the text of the second column of a table by that of the first."""
    pairs = (line.strip().partition(" ") for line in text.splitlines())
    return {name: value.strip() for name, _, value in pairs}


def test_status_shows_the_current_stage(cli: Cli) -> None:
    job = cli.submit()
    shown = rows(cli("status", job.id).stdout)
    assert shown == {"job": job.id, "state": "queued", "stage": "queued", "progress": "0%", "ahead": "0"}
    cli.job_store.start_stage(job.id, Stage.EMBED, WORKER)
    cli.job_store.report_step(job.id, 1, 4, WORKER)
    shown = rows(cli("status", job.id).stdout)
    assert (shown["state"], shown["stage"]) == ("running", "embed (1 of 4), step 1/4")


def test_status_shows_the_seconds_of_each_stage(cli: Cli) -> None:
    job = cli.submit()
    cli.succeed(job)
    shown = rows(cli("status", job.id).stdout)
    assert shown["state"] == "succeeded"
    assert shown["stage"] == ""
    assert shown["progress"] == "100%"
    assert [shown[stage] for stage in ("embed", "mask", "invert", "edit")] == ["0.50 s"] * 4


def test_status_marks_a_stage_whose_artifact_existed(cli: Cli) -> None:
    job = cli.submit().status().job
    cli.job_store.start_stage(job.id, Stage.EMBED, WORKER)
    keys = {artifact: f"artifacts/{artifact.value}/ab/{'ab' * 32}.safetensors" for artifact in Stage.EMBED.gives}
    cli.job_store.complete_stage(job.with_artifacts(keys), Stage.EMBED, 0.5, [], WORKER)
    assert rows(cli("status", job.id).stdout)["embed"] == "0.50 s (cached)"


def test_status_shows_why_a_job_failed(cli: Cli) -> None:
    job = cli.submit()
    cli.job_store.end_job(job.id, State.FAILED, FAILURE)
    shown = rows(cli("status", job.id).stdout)
    assert (shown["state"], shown["stage"]) == ("failed", "mask: empty_mask")
    assert shown["error"] == "empty_mask: no difference"


def test_status_as_json_is_the_whole_record(cli: Cli) -> None:
    job = cli.submit()
    assert cli.json("status", job.id) == job.status(queue=True).model_dump(mode="json")


def test_watch_ends_with_the_job(cli: Cli) -> None:
    job = cli.submit()
    cli.succeed(job)
    assert cli("watch", job.id).stdout == ""
    lines = cli("watch", job.id, "--json").stdout.splitlines()
    assert [json.loads(line)["state"] for line in lines] == ["succeeded"]


def test_watch_as_json_prints_the_last_status_of_a_failed_job_and_the_error(cli: Cli) -> None:
    job = cli.submit()
    cli.job_store.end_job(job.id, State.FAILED, FAILURE)
    result = cli("watch", job.id, "--json", code=1)
    assert json.loads(result.stdout)["state"] == "failed"
    error = json.loads(result.stderr)
    assert error["error"] == "job_failed"
    assert error["message"] == f"job {job.id}: failed in stage mask with empty_mask: no difference"
    assert (error["job_id"], error["stage"]) == (job.id, "mask")


def test_the_error_of_a_failed_job_has_its_error_code(cli: Cli) -> None:
    job = cli.submit()
    cli.job_store.end_job(job.id, State.FAILED, FAILURE)
    error = json.loads(cli("result", job.id, "--json", code=1).stderr.splitlines()[-1])
    assert error.keys() == {"error", "message", "retryable", "job_id", "stage", "error_code"}
    assert error["error_code"] == "empty_mask"


def test_result_saves_the_files(cli: Cli, tmp_path: Path) -> None:
    job = cli.submit()
    cli.succeed(job)
    assert "out/result.png" in cli("result", job.id).stdout.splitlines()
    saved = cli.json("result", job.id, "--out", "again")
    assert saved["files"]["result"] == "again/result.png"
    manifest = json.loads((tmp_path / "again/manifest.json").read_text())
    assert (tmp_path / "again/result.png").read_bytes() == with_manifest(RESULT, manifest)


def test_a_result_that_was_deleted_can_be_retried(cli: Cli) -> None:
    job = cli.submit()
    cli.succeed(job)
    cli.object_store.delete(job.status().artifact_keys["result"])
    error = cli.error("result", job.id, code=1)
    assert error["error"] == "bad_artifact"
    assert f"diffedit retry {job.id}" in error["message"]


@pytest.mark.parametrize("command", ["watch", "result"])
def test_a_wait_that_is_too_short_says_so(cli: Cli, command: str) -> None:
    job = cli.submit()
    assert f"job {job.id}" in cli(command, job.id, "--timeout", "0.01", code=5).stderr
    lines = cli(command, job.id, "--timeout", "0.01", "--json", code=5).stderr.splitlines()
    assert json.loads(lines[-1])["job_id"] == job.id


def test_jobs_names_those_that_cannot_be_read(cli: Cli) -> None:
    good, damaged = cli.submit(), cli.submit()
    cli.job_store._state.records[damaged.id]["request"] = "{"
    shown = cli("jobs")
    assert good.id in shown.stdout
    assert damaged.id not in shown.stdout
    assert f"warning: the records of these jobs cannot be read: {damaged.id}" in shown.stderr
    assert [job["id"] for job in cli.json("jobs")] == [good.id]


def test_a_job_of_a_newer_version_is_not_retried_in_part(cli: Cli) -> None:
    job = cli.submit()
    cli.succeed(job)
    cli.job_store._state.records[job.id]["contract"] = str(CONTRACT + 1)
    assert job.id in cli("jobs").stdout
    assert "upgrade" in cli.error("retry", job.id, code=1)["message"]


def test_cancel(cli: Cli) -> None:
    first, second = cli.submit(), cli.submit()
    assert cli("cancel", first.id).stdout == "cancelled\n"
    assert cli.json("cancel", second.id) == {"id": second.id, "state": "cancelled"}
    assert first.status().state is second.status().state is State.CANCELLED


def test_a_job_that_has_ended_cannot_be_cancelled(cli: Cli) -> None:
    job = cli.submit()
    cli.succeed(job)
    assert "succeeded" in cli("cancel", job.id, code=2).stderr


def test_retry_prints_the_new_id(cli: Cli) -> None:
    job = cli.submit()
    assert "queued" in cli("retry", job.id, code=2).stderr
    job.cancel()
    assert cli("retry", job.id).stdout.strip() == cli.sent[1].id
    assert cli.json("retry", job.id) == {"id": cli.sent[2].id, "retry_of": job.id}
    assert cli.sent[1].request == cli.sent[0].request


def test_a_retry_with_a_key_makes_one_new_job(cli: Cli) -> None:
    job = cli.submit()
    job.cancel()
    first, second = (cli("retry", job.id, "--idempotency-key", "k").stdout for _ in range(2))
    assert first == second == f"{cli.sent[1].id}\n"
    assert len(cli.sent) == 2
    error = cli.error("retry", cli.submit().id, "--idempotency-key", "", code=2)
    assert "idempotency_key" in error["message"]


def test_jobs_lists_the_newest_first(cli: Cli) -> None:
    older, newer = cli.submit(), cli.submit()
    cli.job_store.end_job(older.id, State.FAILED, FAILURE)
    head, first, second = cli("jobs").stdout.splitlines()
    assert head.split() == ["id", "state", "stage", "submitted", "seconds"]
    assert first.split()[:3] == [newer.id, "queued", "queued"]
    assert second.split()[:4] == [older.id, "failed", "mask:", "empty_mask"]
    assert [job["id"] for job in cli.json("jobs")] == [newer.id, older.id]


def test_jobs_can_be_limited_and_chosen_by_state(cli: Cli) -> None:
    older, newer = cli.submit(), cli.submit()
    older.cancel()
    assert [job["id"] for job in cli.json("jobs", "--state", "cancelled")] == [older.id]
    assert [job["id"] for job in cli.json("jobs", "--limit", "1")] == [newer.id]
    cli("jobs", "--state", "lost", code=2)
    cli("jobs", "--limit", "0", code=2)


def test_ids_are_whole_on_a_narrow_terminal(cli: Cli) -> None:
    job = cli.submit()
    assert job.id in cli("jobs", width=40).stdout


@pytest.mark.parametrize("command", ["status", "watch", "result", "cancel", "retry"])
def test_an_unknown_job_is_named(cli: Cli, command: str) -> None:
    unknown = uuid.uuid4().hex
    error = cli.error(command, unknown, code=4)
    assert (error["error"], error["job_id"]) == ("job_not_found", unknown)


@pytest.mark.parametrize("command", ["status", "watch", "result", "cancel", "retry"])
def test_an_argument_cannot_control_the_terminal(cli: Cli, command: str) -> None:
    assert "\x1b" not in cli(command, "\x1b[2Jx[/red]", code=4).output


def test_an_error_message_cannot_control_the_terminal(cli: Cli) -> None:
    job = cli.submit()
    message = "torn [/models] [enforce fail at x.cc:12] \x1b]0;title\x07"
    cli.job_store.end_job(job.id, State.FAILED, ErrorInfo(stage=None, code="internal", message=message))
    shown = cli("status", job.id).output + cli("jobs").output
    assert "torn [/models] [enforce fail at x.cc:12]" in shown
    assert "\x1b" not in shown
