"""Clients and workers of three versions side by side: the last release, the present code, and a newer one.

The newer one has one more parameter and one more field in a worker's announcement (tests/support/releases.py).
"""

import itertools
import json
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from diffedit import Settings
from diffedit.jobs.keys import HEARTBEAT, job_key
from diffedit.objects.s3 import S3ObjectStore
from diffedit_worker.local.process_group import Process
from diffedit_worker.local.stack import LocalServices
from tests.support.factories import PEAR, PICTURE, QUICK, slow
from tests.support.releases import (
    NEWER_CONTRACT,
    Release,
    ReleaseClient,
    last_release,
    newer_release,
    present_release,
)
from tests.support.services import WorkerGroup, cancel_unfinished_jobs
from tests.support.waiting import until

SEEDS = itertools.count()
CONCEPTS = {"source_concept": "pear", "target_concept": "cherries", "num_prompts": 2}
NAMES = ("last", "present", "newer")
LOAD, WAITING = 40, 4
DAY = 24 * 3600

Clients = dict[str, ReleaseClient]


class Fleet:
    """The workers of the stack, each of one release."""

    def __init__(self, stack: LocalServices, releases: dict[str, Release]) -> None:
        self.group = WorkerGroup(stack)
        self.stack, self.releases = stack, releases
        self.running: list[tuple[str, Process]] = []

    def consists_of(self, *names: str) -> None:
        """Kill and start workers until there is one of each of these releases. The workers are idle."""
        wanted = list(names)
        for name, process in list(self.running):
            if name in wanted:
                wanted.remove(name)
            else:
                self.group.kill(process)
                self.running.remove((name, process))
        for name in wanted:
            self.start(name)
        until(lambda: len(self.announced()) == len(names), "the end of the heartbeats of killed workers")

    def start(self, name: str) -> None:
        """Start a worker, and check that it is of this release."""
        (process,) = self.group.start(1, **self.releases[name].environment)
        self.running.append((name, process))
        (info,) = [each for each in self.announced() if each["name"].startswith(self.group_name(process))]
        assert info.get("contract") == self.releases[name].contract
        assert ("power" in info) is (name == "newer")

    def replace_all_by(self, name: str) -> None:
        """Stop one worker after the other, as a supervisor does, and start one of this release in its place."""
        for each in list(self.running):
            self.stack.stop(each[1])
            self.running.remove(each)
            self.start(name)

    def group_name(self, process: Process) -> str:
        return next(name for name, each in self.group.processes.items() if each is process)

    def announced(self) -> list[dict[str, Any]]:
        """Return the heartbeats as they are in Redis."""
        keys = list(self.group.redis.scan_iter(HEARTBEAT + "*"))
        return [json.loads(text) for text in self.group.redis.mget(keys) if text] if keys else []

    def outcomes(self, jobs: Sequence[str]) -> Counter[str]:
        """Wait until these jobs have ended; return how, as their records say, without the code of any version."""
        until(lambda: all(self._outcome(job) for job in jobs), "the end of all jobs")
        return Counter(map(self._outcome, jobs))

    def unfinished(self, jobs: Sequence[str]) -> int:
        return sum(not self._outcome(job) for job in jobs)

    def _outcome(self, job: str) -> str:
        outcome, error = self.group.redis.hmget(job_key(job), "outcome", "error")
        return f"{outcome}: {error}" if error else outcome or ""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServices]:
    with LocalServices(tmp_path_factory.mktemp("versions")) as stack:
        stack.environment |= {"DIFFEDIT_WORKER_TTL": "3"}
        yield stack


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Release]:
    return {
        "last": last_release(tmp_path_factory.mktemp("last")),
        "present": present_release(),
        "newer": newer_release(tmp_path_factory.mktemp("newer")),
    }


@pytest.fixture(scope="module")
def clients(stack: LocalServices, releases: dict[str, Release]) -> Iterator[Clients]:
    with ExitStack() as context:
        yield {
            name: context.enter_context(ReleaseClient(release, stack.environment)) for name, release in releases.items()
        }


@pytest.fixture(scope="module")
def fleet(stack: LocalServices, releases: dict[str, Release]) -> Iterator[Fleet]:
    fleet = Fleet(stack, releases)
    yield fleet
    for _, process in fleet.running:
        fleet.group.kill(process)


@pytest.fixture(autouse=True)
def no_unfinished_jobs(fleet: Fleet) -> Iterator[None]:
    """Cancel what the test leaves unfinished, so that the next one finds the workers idle."""
    yield
    cancel_unfinished_jobs(fleet.group.client)


@pytest.fixture(scope="module", params=NAMES, ids="worker={}".format)
def worker(request: pytest.FixtureRequest, fleet: Fleet) -> str:
    """The release of the only worker. Tests with the same one run after each other."""
    fleet.consists_of(request.param)
    return str(request.param)


@pytest.fixture(params=NAMES, ids="client={}".format)
def client(request: pytest.FixtureRequest, clients: Clients) -> ReleaseClient:
    return clients[request.param]


@pytest.fixture
def other(client: ReleaseClient, clients: Clients) -> ReleaseClient:
    """A client of another version: the one before, or after the first."""
    names = {id(each): name for name, each in clients.items()}
    return clients[{"last": "present", "present": "last", "newer": "present"}[names[id(client)]]]


def edit(client: ReleaseClient, **asked: Any) -> str:
    """Submit a short edit that shares nothing but its texts with others, unless `asked` says otherwise."""
    given = {"image": str(PICTURE), **PEAR, **QUICK, "seed": next(SEEDS)}
    return str(client("edit", **{**given, **asked}))


def running(fleet: Fleet, client: ReleaseClient, **asked: Any) -> str:
    """Submit a long edit and wait until it has made a step."""
    job = edit(client, **{**slow(), **asked})
    until(lambda: fleet.group.redis.hget(job_key(job), "step") not in (None, "0"), "a step of the long edit")
    return job


@contextmanager
def load(fleet: Fleet, clients: Sequence[ReleaseClient]) -> Iterator[list[str]]:
    """Let these clients keep a few jobs waiting while the context lasts. Yields all their jobs."""
    jobs: list[str] = []
    finished = threading.Event()

    def submit() -> None:
        for client in itertools.cycle(clients):
            jobs.append(edit(client, num_inference_steps=40))
            until(lambda: finished.is_set() or fleet.unfinished(jobs) < WAITING, "a job ends")
            if finished.is_set():
                return

    with ThreadPoolExecutor() as executor:
        submission = executor.submit(submit)
        try:
            yield jobs
        finally:
            finished.set()
        submission.result()


def test_each_kind_of_edit_succeeds(worker: str, client: ReleaseClient, fleet: Fleet) -> None:
    texts = dict.fromkeys(PEAR)
    edits = [
        edit(client),
        edit(client, lane="batch", deadline=600),
        edit(client, **texts, **CONCEPTS),
    ]
    preview = client("preview_mask", image=str(PICTURE), **PEAR, **QUICK, seed=next(SEEDS))
    assert fleet.outcomes([*edits, preview]) == {"succeeded": 4}
    for job in edits:
        result, request = client("result", job), client("status", job)["request"]
        assert result["size"] == [64, 64]
        assert {name: result["request"][name] for name in PEAR} == {name: request[name] for name in PEAR}
        assert result["request"]["params"].items() >= {"seed": request["params"]["seed"], **QUICK}.items()
    assert client("wait", preview)["request"]["goal"] == "mask"


def test_a_job_that_is_retried_in_place_is_run_watched_and_listed_whatever_the_versions(
    worker: str, client: ReleaseClient, fleet: Fleet
) -> None:
    admin = fleet.group.client.admin
    job = edit(client, num_inference_steps=100)
    assert client("cancel", job)
    assert [status.id for status in admin.jobs(1, state="cancelled")] == [job]
    assert admin.retry(job)[0].done
    assert client("wait", job)["state"] == "succeeded"
    assert [status.id for status in admin.jobs(1, state="succeeded")] == [job]


def test_the_jobs_of_an_owner_are_served_and_read_by_all_versions(
    worker: str, client: ReleaseClient, clients: Clients, fleet: Fleet, tmp_path: Path
) -> None:
    with Image.open(PICTURE) as picture:
        for form in ("jpeg", "webp"):
            picture.convert("RGB").save(tmp_path / f"picture.{form}", quality=95)
    pictures = [PICTURE, *tmp_path.iterdir()]
    asked = {"owner": "u17", "tags": {"album": "9"}, "keep": 3600}
    jobs = [edit(clients["present"], image=str(picture), **asked) for picture in pictures]
    assert fleet.outcomes(jobs) == {"succeeded": 3}
    for job in jobs:
        assert client("result", job)["size"] == [64, 64]
    assert set(jobs) <= {status["id"] for status in client("jobs")}
    assert clients["present"]("delete_owner", owner="u17")["jobs"] == 3


def test_jobs_are_cancelled_and_retried(worker: str, client: ReleaseClient, fleet: Fleet) -> None:
    runs, waits = running(fleet, client), edit(client)
    assert client("cancel", waits) is client("cancel", runs) is True
    retried = client("retry", waits)
    assert fleet.outcomes([runs, waits]) == {"cancelled": 2}
    assert fleet.outcomes([retried]) == {"succeeded": 1}


def test_unfinished_jobs_of_another_version_are_listed_and_keep_their_objects(
    worker: str, client: ReleaseClient, other: ReleaseClient, fleet: Fleet, tmp_path: Path
) -> None:
    picture = tmp_path / "picture.png"
    picture.write_bytes(PICTURE.read_bytes() + uuid.uuid4().bytes)  # a good picture that no other job has
    runs = running(fleet, other, image=str(picture))
    waits = edit(other, image=str(picture))
    used = client("status", waits)["request"]["image"]
    unused = f"inputs/ab/{uuid.uuid4().hex * 2}.png"
    store = S3ObjectStore(Settings.from_env(fleet.stack.environment))
    for key in (used, unused):
        store._s3.put_object(
            Bucket="diffedit", Key=key, Body=picture.read_bytes(), Metadata={"mtime": str(time.time() - DAY)}
        )

    assert {runs, waits} <= {status["id"] for status in client("jobs")}
    health = client("health")
    assert health["ok"] and len(health["workers"]) == 1
    client("collect_garbage", older_than="PT2H")
    assert (store.exists(used), store.exists(unused)) == (True, False)
    client("cancel", runs)
    assert fleet.outcomes([waits]) == {"succeeded": 1}


@pytest.mark.parametrize(("first", "second"), [("last", "present"), ("present", "last"), ("newer", "last")])
def test_an_idempotency_key_names_one_job_for_both_versions(
    first: str, second: str, clients: Clients, fleet: Fleet
) -> None:
    key = uuid.uuid4().hex
    asked = {"seed": next(SEEDS), "idempotency_key": key}
    job = edit(clients[first], **asked)
    assert edit(clients[second], **asked) == job
    assert edit(clients[first], **asked) == job
    clients[second]("cancel", job)


def test_a_mixed_fleet_serves_clients_of_all_versions_under_load(clients: Clients, fleet: Fleet) -> None:
    fleet.consists_of("last", "present")
    jobs = [edit(client) for _, client in zip(range(LOAD), itertools.cycle(clients.values()), strict=False)]
    assert fleet.outcomes(jobs) == {"succeeded": LOAD}
    assert len({fleet.group.redis.hget(job_key(job), "worker") for job in jobs}) == 2


def test_a_rolling_restart_to_the_next_version_and_back_fails_no_job(clients: Clients, fleet: Fleet) -> None:
    fleet.consists_of("last", "last")
    with load(fleet, [clients["last"], clients["present"]]) as jobs:
        for count, name in ((LOAD / 6, "present"), (LOAD / 3, "last")):
            until(lambda count=count: len(jobs) > count, "some jobs between the restarts")
            fleet.replace_all_by(name)
        until(lambda: len(jobs) > LOAD / 2, "some jobs after the restarts")
    assert len(jobs) > LOAD / 2
    assert fleet.outcomes(jobs) == {"succeeded": len(jobs)}


def test_a_job_that_needs_a_newer_worker_waits_until_one_comes(clients: Clients, fleet: Fleet) -> None:
    fleet.consists_of("present")
    ((_, older),) = fleet.running
    jobs = [edit(clients["newer"], tiles=tiles) for tiles in (2, 1, 2, 1)]
    needy, others = jobs[::2], jobs[1::2]
    assert fleet.outcomes(others) == {"succeeded": 2}
    until(lambda: fleet.group.has_logged(older, "left to a worker of a newer version"), "the worker hands a job back")

    listed = {status["id"]: status for status in clients["present"]("jobs")}
    assert [(listed[job]["state"], listed[job]["contract"], listed[job]["attempts"]) for job in needy] == [
        ("queued", NEWER_CONTRACT, {})
    ] * 2
    assert set(others) <= {status["id"] for status in clients["last"]("jobs")}
    for name in ("last", "present"):
        assert clients[name]("health")["ok"]
    clients["present"]("collect_garbage", older_than="1d")

    fleet.start("newer")
    assert fleet.outcomes(needy) == {"succeeded": 2}
