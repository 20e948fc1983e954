"""`diffedit health` and `diffedit gc`."""

import dataclasses
import time
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from diffedit.contract.object_keys import submission_key
from diffedit.errors import BrokerUnavailable, StoreUnavailable
from diffedit.jobs.workers import Trouble, TroubleKind
from tests.support.cli import WORKER, Cli
from tests.support.factories import a_worker
from tests.support.fake_service import TEXTS, png

DAY = 24 * 3600


def test_health_shows_each_worker_with_its_device(cli: Cli) -> None:
    job = "ab" * 16
    cli.worker_registry.send_heartbeat(a_worker(id="2", name="gpu@here", device="cuda:1", job=job, memory=3 * 2**20))
    lines = [line.split(maxsplit=1) for line in cli("health").stdout.splitlines()]
    assert [text.strip() for row, text in lines if row == "worker"] == [
        f"gpu@here  profile tiny on cuda:1, busy with job {job}, 3 MiB",
        "rig@here  profile tiny on cpu, idle, 0 MiB",
    ]
    assert [text.strip() for row, text in lines if row == "queue"] == [
        "diffedit.tiny.diffusion  0 waiting",
        "diffedit.tiny.diffusion.batch  0 waiting",
        "diffedit.tiny.language  0 waiting",
        "diffedit.tiny.language.batch  0 waiting",
    ]


def test_health_shows_all_jobs_of_a_worker(cli: Cli) -> None:
    jobs = ("ab" * 16, "cd" * 16)
    cli.worker_registry.send_heartbeat(a_worker(id="2", name="gpu@here", job=jobs[1], jobs=jobs))
    assert f"busy with jobs {jobs[0]}, {jobs[1]}," in " ".join(cli("health").stdout.split())


def test_health_without_workers(cli: Cli) -> None:
    cli.worker_registry.unregister(WORKER)
    shown = cli("health", code=7).stdout
    assert "none; start one with `diffedit worker` or `diffedit up`" in shown
    assert "diffedit.tiny.language  0 waiting; no worker takes jobs from this queue" in shown


def test_health_names_a_service_that_does_not_answer(cli: Cli, monkeypatch) -> None:
    def fail(error: Exception) -> None:
        raise error

    monkeypatch.setattr(cli.job_store, "ping", lambda: fail(BrokerUnavailable("no Redis \x1b[2J")))
    monkeypatch.setattr(cli.object_store, "ping", lambda: fail(StoreUnavailable("no S3")))
    shown = cli("health", code=7).stdout
    assert "no Redis" in shown
    assert "no S3" in shown
    assert "\x1b" not in shown


def test_health_shows_what_to_correct_and_is_healthy_all_the_same(cli: Cli, monkeypatch) -> None:
    warned = dataclasses.replace(cli.client._backend, warnings=lambda: ["maxmemory-policy is x \x1b[2J"])
    monkeypatch.setattr(cli.client, "_backend", warned)
    shown = cli("health").stdout
    assert "warning" in shown and "maxmemory-policy is x" in shown
    assert "\x1b" not in shown
    assert cli.json("health")["broker_warnings"] == ["maxmemory-policy is x \x1b[2J"]


def test_health_names_what_cannot_be_read(cli: Cli) -> None:
    jobs = [cli.submit().id for _ in range(6)]
    assert "damaged" not in cli("health").stdout
    for job in jobs:
        cli.job_store._state.records[job]["created"] = "1e300"
    shown = " ".join(cli("health").stdout.split())
    assert f"damaged 6 keys in Redis cannot be read: diffedit:job:{jobs[0]}, " in shown
    assert jobs[5] not in shown
    assert len(cli.json("health")["damaged"]) == 6


def test_health_says_that_webhooks_wait_and_nothing_sends_them(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "webhooks" not in cli("health").stdout
    cli.client.edit(png(), **TEXTS, webhook="https://example.com/hooks").cancel()
    (event,) = cli.job_store._state.outbox.values()
    due = float(event["due"])
    monkeypatch.setattr("diffedit.jobs.memory_outbox.time", SimpleNamespace(time=lambda: due))  # time stands still
    shown = cli("health").stdout
    assert "1 waiting, the oldest for 0 s" in shown and "nothing sends" not in shown
    event["due"] = f"{due - 75:.6f}"
    shown = cli("health").stdout
    assert "the oldest for 75 s; nothing sends events: start `diffedit webhooks`" in shown
    report = cli.json("health")["webhooks"]
    assert (report["due"], round(report["oldest"]), report["has_sender"]) == (1, 75, False)


def test_health_as_json(cli: Cli) -> None:
    report = cli.json("health")
    assert report["broker"] == report["object_store"] == "ok"
    assert report["workers"][0]["name"] == "rig@here"
    cli.worker_registry.unregister(WORKER)
    assert '"workers":[]' in cli("health", "--json", code=7).stdout


def with_old_objects(cli: Cli) -> tuple[str, str]:
    """Return the ids of a job that waits and of a job that has ended; their images were stored three days ago."""
    ended, waiting = cli.submit(), cli.submit()
    cli.succeed(ended)
    for key, (stored_at, data) in list(cli.object_store._objects.items()):
        cli.object_store._objects[key] = (stored_at - 3 * DAY, data)
    return waiting.id, ended.id


def test_gc_deletes_old_objects_but_not_those_in_use(cli: Cli) -> None:
    waiting, _ = with_old_objects(cli)
    before = dict(cli.object_store._objects)
    assert "3 objects (0.0 MB) would be deleted; 1 older objects are in use" in (
        cli("gc", "--older-than", "2d", "--dry-run").stdout
    )
    assert cli.object_store._objects == before
    assert "3 objects (0.0 MB) deleted; 1 older objects are in use" in cli("gc", "--older-than", "2d").stdout
    assert cli.object_store._objects.keys() == {cli.client.job(waiting).status().request.image, submission_key(waiting)}
    assert "0 objects (0.0 MB) deleted" in cli("gc", "--older-than", "4d").stdout


def test_gc_as_json(cli: Cli) -> None:
    with_old_objects(cli)
    counts = cli.json("gc", "--older-than", "2d", "--dry-run")
    assert (counts["objects"], counts["in_use"]) == (3, 1)


def test_gc_refuses_what_is_not_an_age(cli: Cli) -> None:
    cli("gc", code=2)
    error = cli.error("gc", "--older-than", "now", code=2)
    assert error["error"] == "invalid_request"
    assert "older_than" in error["message"]


def test_health_names_workers_in_trouble_and_since_when(cli: Cli) -> None:
    trouble = Trouble(
        name="gpu7@there",
        kind=TroubleKind.PAUSED,
        code="store_refused",
        message="S3 refused the request (AccessDenied)",
        queues=("diffedit.tiny.diffusion",),
        since=datetime(2026, 1, 2, 3, 4, tzinfo=UTC),
    )
    cli.worker_registry.report_trouble(trouble)
    cli.worker_registry.send_heartbeat(a_worker(id="2", name="gpu7@there", paused=True))
    shown = cli("health").stdout
    assert "gpu7@there  profile tiny on cpu, paused" in shown
    assert (
        "gpu7@there  since 2026-01-02 03:04 UTC paused, takes no jobs from diffedit.tiny.diffusion: S3 refused" in shown
    )
    assert cli.json("health")["troubles"][0]["code"] == "store_refused"


def test_health_names_a_worker_that_could_not_run_a_stage(cli: Cli) -> None:
    since = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    trouble = Trouble(
        name="rig@here", kind="refusing", stage="mask", code="out_of_memory", message="the device is small", since=since
    )
    cli.worker_registry.report_trouble(trouble)
    shown = cli("health").stdout
    assert "rig@here  since 2026-01-02 03:04 UTC could not run stage mask: the device is small" in shown


def test_health_is_not_ok_if_all_workers_are_paused(cli: Cli) -> None:
    cli.worker_registry.send_heartbeat(a_worker(id=WORKER, name="rig@here", paused=True))
    assert "no worker takes jobs from this queue" in cli("health", code=7).stdout


@pytest.mark.parametrize(("done", "refused", "code"), [(0, 0, 0), (10, 3, 0), (9, 3, 7), (0, 1, 7)])
def test_health_is_not_ok_if_workers_could_not_run_a_quarter_of_the_recent_stages(
    cli: Cli, done: int, refused: int, code: int
) -> None:
    cli.job_store._state.stages += [(time.time(), "done")] * done + [(time.time(), "refused")] * refused
    cli.job_store._state.stages.append((time.time() - 3600, "refused"))
    shown = cli("health", code=code).stdout
    assert (f"{done} done, {refused} times a worker could not run one" in shown) is (refused > 0)


def test_health_shows_the_queue_of_a_profile_that_nobody_serves(cli: Cli) -> None:
    cli.submit(profile="sd21")
    assert "diffedit.sd21.language  0 waiting; no worker takes jobs from this queue" in cli("health", code=7).stdout


def test_usage_shows_what_owners_have_used(cli: Cli) -> None:
    for owner in ("zoe \x1b[2J", "zoe \x1b[2J", "u1", None):
        job = cli.submit(**({"owner": owner.replace("\x1b", "")} if owner else {}))
        job.cancel()
    assert cli("usage").stdout.split() == [
        *("owner", "gpu", "seconds", "megapixels", "succeeded", "failed", "cancelled", "expired"),
        *("zoe", "[2J", "0.0", "0.00", "0", "0", "2", "0"),
        *("(no", "owner)", "0.0", "0.00", "0", "0", "1", "0"),
        *("u1", "0.0", "0.00", "0", "0", "1", "0"),
    ]
    found = cli.json("usage", "--by", "profile,day", "--since", "1d")
    assert [(each["profile"], each["jobs"], each["cancelled"]) for each in found] == [("tiny", 4, 4)]
    assert "owner" not in found[0] and found[0]["day"]
    assert cli.json("usage", "--owner", "u1")[0]["jobs"] == 1
    assert cli("usage", "--by", "user", code=2).stdout == ""


def test_an_owner_gets_a_weight(cli: Cli) -> None:
    assert "weight: 1" in cli("limits", "u1").stdout
    assert cli.json("limits", "u1", "--weight", "2.5")["weight"] == 2.5
    assert cli.client.owner_limits("u1").weight == 2.5
    assert cli.client.owner_limits("u2").weight == 1


@pytest.mark.parametrize("words", [("--weight", "0"), ("--weight", "nan"), ("--max-queued", "-1")])
def test_limits_out_of_range_are_refused_with_one_line(cli: Cli, words: tuple[str, str]) -> None:
    error = cli.error("limits", "u1", *words, code=2)
    assert error["error"] == "invalid_request" and words[0][2:].replace("-", "_") in error["message"]


def test_health_says_why_the_worker_that_was_asked_for_takes_no_jobs(cli: Cli) -> None:
    assert cli("health", "--worker", "rig").stderr == ""
    assert "worker gpu-9: no live worker has this name" in cli("health", "--worker", "gpu-9", code=7).stderr
    cli.worker_registry.send_heartbeat(a_worker(id=WORKER, name="rig@here", paused=True))
    assert "worker rig: it is paused" in cli("health", "--worker", "rig", code=7).stderr


def test_lists_shorten_nothing_on_a_narrow_screen(cli: Cli) -> None:
    cli.client.admin.pause(reason="x" * 200)
    assert "x" * 200 in cli("admin", "queues", width=60).stdout
    job = cli.submit(owner="o" * 200)
    (row,) = [line for line in cli("admin", "jobs", width=60).stdout.splitlines() if job.id in line]
    assert " queued " in row and "o" * 200 in row
