"""`diffedit admin`: what it prints, as text and as JSON, and its exit codes."""

import json
import time

import pytest

from diffedit import OwnerLimits, Stage, State
from diffedit.contract.job import ErrorInfo
from tests.support.cli import WORKER, Cli
from tests.support.factories import a_worker

LOST = ErrorInfo(stage=Stage.MASK, code="worker_lost", message="It was lost.")


def failed(cli: Cli, **options: object) -> str:
    job = cli.submit(**options)
    cli.job_store.end_job(job.id, State.FAILED, LOST)
    return job.id


def test_queues_are_shown_with_pauses_and_resumed(cli: Cli) -> None:
    cli.submit()
    words = ("--profile", "tiny", "--group", "language", "--lane", "interactive")
    assert cli("admin", "pause", *words, "--reason", "new models", "--dry-run").stdout.endswith("would be paused\n")
    assert cli("admin", "pause", *words, "--reason", "new models").stdout == "diffedit.tiny.language  paused\n"
    lines = [line.strip() for line in cli("admin", "queues").stdout.splitlines()]
    (row,) = [line for line in lines if line.startswith("diffedit.tiny.language ")]
    assert row.split()[1:5] == ["1", "0", "0", "0"] and row.endswith("UTC: new models")
    (queue,) = [each for each in cli.json("admin", "queues") if each["paused_reason"]]
    assert (queue["name"], queue["waiting"], queue["workers"]) == ("diffedit.tiny.language", 1, ["rig@here"])
    shown = cli("health", code=7).stdout
    assert "paused" in shown and "new models" in shown and "; it is paused" in shown
    assert cli.json("admin", "resume") == {"resumed": ["diffedit.tiny.language"], "dry_run": False}
    assert cli("admin", "resume").stdout == "nothing resumed\n"
    cli("health")
    assert cli.error("admin", "pause", "--profile", "nosuch", "--reason", "x", code=2)["error"] == "unknown_profile"


def test_workers_are_shown_and_drained(cli: Cli) -> None:
    assert "rig@here" in cli("admin", "workers").stdout
    (worker,) = cli.json("admin", "workers")
    assert (worker["id"], worker["state"]) == (WORKER, "idle")
    assert cli("admin", "drain", "rig", "--dry-run").stdout == "rig@here  would be drained\n"
    assert cli.json("admin", "drain", "rig") == {"drained": ["rig@here"], "dry_run": False}
    assert cli.worker_registry.send_heartbeat(a_worker(id=WORKER))
    assert "no live worker" in cli.error("admin", "drain", "other", code=2)["message"]


def test_jobs_are_listed_by_what_they_have_in_common(cli: Cli) -> None:
    lost, waiting = failed(cli, owner="u1"), cli.submit().id
    words = ("--state", "failed", "--code", "worker_lost", "--stage", "mask", "--profile", "tiny", "--owner", "u1")
    assert [each["id"] for each in cli.json("admin", "jobs", *words, "--since", "1h")] == [lost]
    shown = cli("admin", "jobs").stdout
    assert lost in shown and waiting in shown and "worker_lost" in shown
    page = cli("admin", "jobs", "--limit", "1")
    cursor = page.stderr.split("--cursor ")[1].strip()
    assert lost in cli("admin", "jobs", "--limit", "1", "--cursor", cursor).stdout
    assert cli.error("admin", "jobs", "--since", "soon", code=2)["error"] == "invalid_request"


def test_jobs_are_retried_in_place(cli: Cli) -> None:
    lost, other = failed(cli), failed(cli)
    words = ("admin", "retry", "--failed", "--code", "worker_lost", "--since", "2h")
    shown = cli(*words, "--dry-run")
    assert set(shown.stdout.split()) == {lost, other}
    assert shown.stderr == "2 jobs start over (nothing was changed: --dry-run); 0 cannot\n"
    found = cli.json(*words, "--limit", "1")
    assert found == {"jobs": [{"id": other, "done": True, "error": None, "message": None}], "dry_run": False}
    mixed = cli("admin", "retry", lost, other, code=1)
    assert mixed.stdout.split() == [lost] and "cannot_change" in mixed.stderr
    assert cli.error("admin", "retry", lost, code=1)["error"] == "cannot_change"
    assert cli.error("admin", "retry", "ab" * 16, code=4)["error"] == "job_not_found"
    assert cli.error("admin", "retry", code=2)["error"] == "invalid_request"


def test_jobs_are_cancelled_and_moved(cli: Cli) -> None:
    first, second = cli.submit(owner="u1"), cli.submit()
    other = ("diffedit.other.language", "diffedit.other.diffusion")
    cli.worker_registry.send_heartbeat(a_worker(id="w2", name="two@here", profile="other", queues=other))
    assert cli("admin", "move", second.id, "--to", "other").stderr == "1 jobs are moved to other; 0 cannot\n"
    assert second.status().request.params.profile == "other"
    assert cli("admin", "move", "--from", "tiny", "--to", "other", "--dry-run").stdout == f"{first.id}\n"
    assert cli("admin", "cancel", "--owner", "u1").stdout == f"{first.id}\n"
    assert first.status().state is State.CANCELLED
    assert cli.error("admin", "move", second.id, "--to", "nosuch", code=2)["error"] == "unknown_profile"


def test_why_and_owners(cli: Cli) -> None:
    job = cli.submit()
    assert cli("admin", "why", job.id).stdout.startswith(f"job {job.id} is queued\n  It waits for stage embed")
    assert cli.json("admin", "why", job.id)["queue"] == "diffedit.tiny.language"
    cli("admin", "why", "ab" * 16, code=4)
    cli.client.set_owner_limits("u1", OwnerLimits(max_running=2))
    cli.client.set_owner_limits(None, OwnerLimits(max_queued=9))
    assert "(all others)" in cli("admin", "owners").stdout
    assert [each["owner"] for each in cli.json("admin", "owners")] == [None, "u1"]


def test_health_of_one_worker(cli: Cli) -> None:
    for name in ("rig", "rig@here", WORKER):
        cli("health", "--worker", name)
    cli("health", "--worker", "other", code=7)
    cli.worker_registry.send_heartbeat(a_worker(id=WORKER, name="rig@here", paused=True, draining=True))
    assert "draining" in cli("health", "--worker", "rig", code=7).stdout


def test_health_waits_for_a_worker(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    cli.worker_registry.unregister(WORKER)
    asked, ask = [], cli.client.health

    def health() -> object:
        asked.append(None)
        if len(asked) == 3:
            cli.worker_registry.send_heartbeat(a_worker(id=WORKER))
        return ask()

    monkeypatch.setattr(cli.client, "health", health)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    assert json.loads(cli("health", "--timeout", "60", "--json").stdout)["workers"]
    assert len(asked) == 3
    cli.worker_registry.unregister(WORKER)
    cli("health", "--timeout", "0.01", code=7)


def test_contradictions_and_reasons_that_say_nothing_are_refused(cli: Cli) -> None:
    assert "exclude each other" in cli.error("admin", "retry", "--failed", "--state", "cancelled", code=2)["message"]
    cli("admin", "retry", "--failed", "--state", "failed")
    assert cli.error("admin", "pause", "--reason", "  ", code=2)["error"] == "invalid_request"


def test_names_from_redis_steer_no_terminal(cli: Cli) -> None:
    """Whoever can write to Redis can name a queue and a worker."""
    cli.job_store.pause_queues(["diffedit.e\x1b[2Jvil.language"], "why\x1b[31m")
    cli.worker_registry.send_heartbeat(a_worker(id=WORKER, name="rig\x1b[31m@here"))
    shown = [cli("admin", *words).output for words in (["queues"], ["workers"], ["drain", WORKER], ["resume"])]
    shown.append(cli("admin", "cancel", "a\x1b[31m", "b\x1b[31m", code=1).output)
    assert not [text for text in shown if "\x1b" in text] and all("\N{REPLACEMENT CHARACTER}" in text for text in shown)
