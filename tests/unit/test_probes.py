"""Whether a worker lives and is ready, as its probes are told."""

import json
import threading
from pathlib import Path

import pytest

from diffedit.alive import why_not
from diffedit.errors import BrokerUnavailable, InvalidRequest
from diffedit.jobs.workers import WorkerLimits
from diffedit.testing import MemoryObjectStore, memory_backend
from diffedit_worker.runtime.duties import DutyThread
from diffedit_worker.runtime.heartbeat_file import HeartbeatFile
from diffedit_worker.runtime.maintenance import Maintenance
from diffedit_worker.runtime.probes import STALLED_AFTER, Probes
from diffedit_worker.settings import WorkerSettings
from tests.support.contexts import a_context, a_fitness
from tests.support.factories import a_worker
from tests.support.waiting import until


class Rig:
    """The probes of a worker whose threads do not run, by a clock that a test sets."""

    def __init__(self) -> None:
        self.now, self.obstacle = 1000.0, None
        self.backend = memory_backend(limits=WorkerLimits())
        settings = WorkerSettings(worker_ttl=20)
        self.maintenance = Maintenance(
            self.backend.job_store,
            self.backend.worker_registry,
            settings,
            a_worker(id="rig"),
            a_context(),
            a_fitness(self.backend),
            running_stages=list,
            object_store=MemoryObjectStore(),
        )
        self.probes = Probes(settings.worker_ttl, lambda: self.obstacle, clock=lambda: self.now)

    def start(self) -> None:
        """Let everything have turned now."""
        self.probes.loop.turned()
        for thread in self.maintenance.threads:
            thread.turned_at = self.now
            thread._thread.is_alive = lambda: True
        self.maintenance.heartbeat.sent_at = self.now
        self.probes.watch(self.maintenance)

    def ask(self, path: str) -> tuple[int, list[str]]:
        answer = self.probes.pages[path]("")
        return answer.status, json.loads(answer.body)["why"]


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_a_worker_that_starts_lives_and_is_not_ready(rig: Rig) -> None:
    rig.now += 100 * STALLED_AFTER  # models may take any time
    assert rig.ask("/livez") == (200, [])
    assert rig.ask("/readyz") == (503, ["it starts, or loads its models"])


def test_a_worker_that_was_announced_is_ready(rig: Rig) -> None:
    rig.start()
    assert rig.ask("/livez") == (200, [])
    assert rig.ask("/readyz") == (200, [])


def test_a_worker_whose_heartbeat_redis_does_not_take_lives_and_is_not_ready(rig: Rig) -> None:
    rig.start()
    rig.now += 21
    assert rig.ask("/livez") == (200, [])
    assert rig.ask("/readyz") == (503, ["Redis has not taken its heartbeat lately"])


def test_a_worker_that_waits_for_the_broker_for_long_lives_and_is_not_ready(rig: Rig) -> None:
    rig.start()
    rig.probes.loop.left()
    rig.now += 2 * STALLED_AFTER
    for thread in rig.maintenance.threads:
        thread.turned_at = rig.now
    assert rig.ask("/livez") == (200, [])
    assert "it has no connection to Redis" in rig.ask("/readyz")[1]


@pytest.mark.parametrize("stalled", ["event loop", "heartbeat", "maintenance"])
def test_a_worker_does_not_live_if_one_of_its_threads_has_stalled(rig: Rig, stalled: str) -> None:
    rig.start()
    rig.now += STALLED_AFTER + 1
    if stalled != "event loop":
        rig.probes.loop.turned()
    for thread in rig.maintenance.threads:
        if thread.name != stalled:
            thread.turned_at = rig.now
    assert rig.ask("/livez") == (503, [f"the thread '{stalled}' has not turned for 301 s"])
    assert rig.ask("/readyz")[0] == 503


def test_a_worker_does_not_live_if_one_of_its_threads_has_ended(rig: Rig) -> None:
    rig.start()
    rig.maintenance.threads[0]._thread.is_alive = lambda: False
    assert rig.ask("/livez") == (503, ["the thread 'heartbeat' has ended"])


def test_threads_that_were_stopped_are_no_fault(rig: Rig) -> None:
    rig.start()
    for thread in rig.maintenance.threads:
        thread.stop()
        thread._thread.is_alive = lambda: False
    assert rig.ask("/livez") == (200, [])


def test_what_hinders_a_worker_is_said(rig: Rig) -> None:
    rig.start()
    rig.obstacle = "it stops"
    assert rig.ask("/livez") == (200, [])
    assert rig.ask("/readyz") == (503, ["it stops"])


def test_a_thread_turns_while_its_duties_fail() -> None:
    asked = []

    def duty() -> None:
        asked.append(thread.turned_at)
        raise BrokerUnavailable("frozen")

    thread = DutyThread("heartbeat", 0.01, duty)
    assert thread.turned_at is None
    thread.start()
    until(lambda: len(asked) >= 3, "three turns")
    thread.stop()
    assert asked == sorted(set(asked))


def test_a_duty_that_never_ends_is_no_turn() -> None:
    hangs, release = threading.Event(), threading.Event()
    thread = DutyThread("heartbeat", 0.001, hangs.set, release.wait)
    thread.start()
    assert hangs.wait(10)
    until(lambda: thread._thread.is_alive() and hangs.is_set(), "the hanging duty")
    thread.stop()
    release.set()
    thread._thread.join(10)
    assert thread.turned_at is not None and not thread.has_died


def test_the_heartbeat_of_a_worker_notes_what_redis_took(rig: Rig) -> None:
    assert rig.maintenance.heartbeat.sent_at is None
    rig.maintenance.heartbeat.send()
    assert rig.maintenance.heartbeat.sent_at is not None


def test_the_heartbeat_file_says_what_the_probes_say(rig: Rig, tmp_path: Path) -> None:
    path = tmp_path / "worker"
    file = HeartbeatFile(path, rig.probes.state)
    assert why_not(str(path), 30, ready=False) is None
    assert why_not(str(path), 30, ready=True) == "it starts, or loads its models"
    rig.start()
    file.write()
    assert why_not(str(path), 30, ready=True) is None
    rig.now += STALLED_AFTER + 1
    file.write()
    assert "the thread 'heartbeat' has not turned" in str(why_not(str(path), 30, ready=False))
    assert [each.name for each in tmp_path.iterdir()] == ["worker"]


def test_a_heartbeat_file_that_cannot_be_written_is_refused_at_the_start(rig: Rig, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="DIFFEDIT_HEARTBEAT_FILE"):
        HeartbeatFile(tmp_path / "missing" / "worker", rig.probes.state)


def test_a_heartbeat_file_that_can_no_longer_be_written_ends_nothing_and_is_logged_once(
    rig: Rig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    file = HeartbeatFile(folder / "worker", rig.probes.state)
    (folder / "worker").unlink()
    folder.rmdir()
    file.write()
    file.write()
    assert len(caplog.records) == 1
    folder.mkdir()
    file.write()
    assert (folder / "worker").exists()
