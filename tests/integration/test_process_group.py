"""Child processes: none of them outlives its owner, and no other process pays for it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from diffedit.errors import LocalError
from diffedit_worker.local import process_group as module
from diffedit_worker.local.process_group import ProcessGroup
from diffedit_worker.local.signals import sigterm_as_interrupt
from tests.support.processes import children_of, is_ready, owner_of
from tests.support.waiting import until

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]
STUBBORN = ["/bin/sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 0.1; done"]

OWNER = """
import sys, threading
from pathlib import Path
from diffedit_worker.local.process_group import ProcessGroup
print("begins", flush=True)
directory = Path(sys.argv[1])
with ProcessGroup(directory) as children:
    for name in ("one", "two"):
        children.start(name, [sys.executable, "-c", "import time; time.sleep(60)"], environment={}, cwd=directory)
    print("ready", flush=True)
    threading.Event().wait()
"""


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    with owner_of(tmp_path, OWNER) as it:
        assert is_ready(it)
        yield it


@pytest.fixture
def leftovers() -> Iterator[list[subprocess.Popen[bytes]]]:
    processes = [subprocess.Popen(["sleep", "60"]) for _ in range(2)]
    yield processes
    for process in processes:
        process.kill()
        process.wait()


def test_a_child_sees_its_environment_its_directory_and_its_input(tmp_path: Path) -> None:
    with ProcessGroup(tmp_path) as children:
        command = ["/bin/sh", "-c", "echo $GREETING from $PWD; cat"]
        children.start("child", command, environment={"GREETING": "hello"}, cwd=tmp_path, stdin="and more").wait()
        assert children.log_tail("child").splitlines()[2:] == [f"hello from {tmp_path}", "and more"]
        with pytest.raises(LocalError, match=r"child ended with status 0\. The end of .*child.log:\n(.|\n)*and more"):
            children.check()


def test_children_end_with_their_owner(tmp_path: Path) -> None:
    with ProcessGroup(tmp_path) as children:
        one, two = (children.start(name, SLEEP, environment={}, cwd=tmp_path) for name in ("one", "two"))
        with pytest.raises(LocalError, match=f"one is already running as process {one.pid}"):
            children.start("one", SLEEP, environment={})
        children.end([one], 3)
        children.check()
        assert children.processes == {"two": two}
    assert children_of(tmp_path) == []
    assert not (tmp_path / "processes.json").exists()


def test_a_child_that_will_not_end_is_killed_after_the_grace(tmp_path: Path) -> None:
    with ProcessGroup(tmp_path) as children:
        child = children.start("child", STUBBORN, environment={"PATH": os.defpath})
        until(lambda: "deaf" in children.log_tail("child"))
        children.end([child], 0.2)
        assert child.returncode == -signal.SIGKILL


def test_only_one_owner_at_a_time(tmp_path: Path, owner: subprocess.Popen[str]) -> None:
    with pytest.raises(LocalError, match=f"in use by process {owner.pid}; .* --dir"), ProcessGroup(tmp_path):
        pass
    assert len(children_of(tmp_path)) == 3  # the owner itself, whose command line names the directory, and its two
    assert (tmp_path / "processes.json").exists()


def test_children_go_with_a_killed_owner(tmp_path: Path, owner: subprocess.Popen[str]) -> None:
    assert len(children_of(tmp_path)) == 3
    owner.kill()
    if sys.platform == "linux":
        until(lambda: not children_of(tmp_path))
    owner.wait()
    with ProcessGroup(tmp_path) as children:
        assert bool(children.cleared) == (sys.platform != "linux")


def test_children_that_outlive_a_killed_owner_are_cleared_away(tmp_path: Path) -> None:
    without_death_signal = f"import psutil, sys\n{OWNER}".replace("print", 'sys.platform = "elsewhere"\nprint', 1)
    with owner_of(tmp_path, without_death_signal) as owner:
        assert is_ready(owner)
        owner.kill()
        owner.wait()
        assert len(children_of(tmp_path)) == 2
        with ProcessGroup(tmp_path) as children:
            assert sorted(sentence.split()[1] for sentence in children.cleared) == ["one", "two"]
            assert children_of(tmp_path) == []


def test_only_the_very_processes_of_the_killed_owner_are_cleared_away(
    tmp_path: Path, leftovers: list[subprocess.Popen[bytes]]
) -> None:
    owner = subprocess.Popen(["true"])
    owner.wait()
    left, stranger = leftovers
    created = psutil.Process(left.pid).create_time()
    registered = [
        {"name": "valkey", "pid": left.pid, "created": created},
        {"name": "s3", "pid": stranger.pid, "created": created - 3600},
        {"name": "worker", "pid": owner.pid, "created": created},
    ]
    (tmp_path / "processes.json").write_text(json.dumps({"owner": owner.pid, "children": registered}))
    with ProcessGroup(tmp_path) as children:
        assert len(children.cleared) == 1
        assert f"valkey (process {left.pid}), left behind by process {owner.pid}" in children.cleared[0]
    assert left.poll() is not None
    assert stranger.poll() is None, "this one only has the pid"


def test_an_interrupt_while_clearing_away_spares_no_leftover(
    tmp_path: Path, leftovers: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    registered = [{"name": "it", "pid": it.pid, "created": psutil.Process(it.pid).create_time()} for it in leftovers]
    (tmp_path / "processes.json").write_text(json.dumps({"owner": 1, "children": registered}))
    kill = module._kill

    def interrupted_kill(pid: int, created: float) -> bool:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.2)
        return kill(pid, created)

    monkeypatch.setattr(module, "_kill", interrupted_kill)
    with pytest.raises(KeyboardInterrupt), ProcessGroup(tmp_path):
        pass
    assert all(it.poll() is not None for it in leftovers)
    assert not (tmp_path / "processes.json").exists()


def test_sigterm_as_interrupt_restores_the_handler() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), sigterm_as_interrupt():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupt_that_nobody_minded_comes_again(number: int) -> None:
    def wait_for_it() -> None:
        with suppress(KeyboardInterrupt):  # as Python does in the callback of a weak reference
            signal.raise_signal(number)
        time.sleep(10)

    with pytest.raises(KeyboardInterrupt), sigterm_as_interrupt():
        wait_for_it()
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
