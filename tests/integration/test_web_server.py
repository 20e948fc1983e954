"""`diffedit serve` over a real Valkey and a real S3 server: streams end, connections stay few, limits hold."""

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from diffedit import Client, JobStatus, Settings, State, testing
from diffedit_web import bodies, create_app, events
from diffedit_worker.local.stack import LocalServices
from tests.support.waiting import until
from tests.support.web_api import PROMPTS, png
from tests.support.web_server import Served, served_app, served_process

pytestmark = pytest.mark.filterwarnings("ignore::diffedit.NoWorkerWarning")
FILES = {"image": ("green.png", png(), "image/png")}


@pytest.fixture(scope="module")
def client(settings: Settings) -> Iterator[Client]:
    with Client(settings) as client:
        yield client


@pytest.fixture(scope="module")
def key(client: Client) -> str:
    return client.add_api_key("u17", rate=60_000)[0]


@pytest.fixture(scope="module")
def server(stack: LocalServices, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served_process(stack.environment, tmp_path_factory.mktemp("web")) as server:
        yield server


@pytest.fixture
def http(server: Served, key: str) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=30) as http:
        yield http


@pytest.fixture
def connection(settings: Settings) -> redis.Redis:
    return redis.Redis.from_url(settings.redis_url.get_secret_value(), decode_responses=True)


def submit(http: httpx.Client, **options: Any) -> dict[str, Any]:
    response = http.post("/v1/edits", files=FILES, data={**PROMPTS, **options})
    assert response.status_code == 202, response.text
    return dict(response.json())


def next_event(lines: Iterator[str]) -> dict[str, str]:
    """Return the fields of the next event of a stream. Comments are passed over."""
    fields: dict[str, str] = {}
    for line in lines:
        if line and not line.startswith(":"):
            name, _, value = line.partition(": ")
            fields[name] = value
        elif fields:
            return fields
    raise EOFError


def reads(connection: redis.Redis) -> int:
    """Return how many records were read so far."""
    stats = connection.info("commandstats")
    return int(stats.get("cmdstat_hgetall", {"calls": 0})["calls"])


def test_a_stream_follows_an_edit_and_ends_with_it(http: httpx.Client, client: Client) -> None:
    edit = submit(http)
    with http.stream("GET", edit["links"]["events"]) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = response.iter_lines()
        first = next_event(lines)
        assert json.loads(first["data"])["state"] == "queued"
        client.job(edit["id"]).cancel()
        last = next_event(lines)
        assert json.loads(last["data"])["state"] == "cancelled"
        with pytest.raises(EOFError):
            next_event(lines)
    assert http.get(edit["links"]["events"], headers={"Last-Event-ID": last["id"]}).status_code == 204
    with http.stream("GET", edit["links"]["events"], headers={"Last-Event-ID": first["id"]}) as response:
        assert next_event(response.iter_lines())["id"] == last["id"]


def test_a_page_that_connects_again_gets_only_what_is_new(http: httpx.Client, client: Client) -> None:
    edit = submit(http)
    with http.stream("GET", edit["links"]["events"]) as response:
        seen = next_event(response.iter_lines())["id"]
    with http.stream("GET", edit["links"]["events"], headers={"Last-Event-ID": seen}) as response:
        client.job(edit["id"]).cancel()
        assert json.loads(next_event(response.iter_lines())["data"])["state"] == "cancelled"


def test_nothing_is_read_any_more_when_the_page_has_gone(http: httpx.Client, connection: redis.Redis) -> None:
    edit = submit(http)
    with http.stream("GET", edit["links"]["events"]) as response:
        lines = response.iter_lines()  # the connection ends with this generator
        next_event(lines)
        before = reads(connection)
        until(lambda: reads(connection) > before + 2, "the server reads while a page is there")

    def is_quiet() -> bool:
        before = reads(connection)
        time.sleep(2.5)  # twice the longest pause between two requests
        return reads(connection) == before

    until(is_quiet, "the server reads nothing more", timeout=30)


def test_many_streams_cost_few_connections(
    http: httpx.Client, key: str, server: Served, connection: redis.Redis
) -> None:
    def connections() -> int:
        return len(connection.client_list())

    edits = [submit(http, seed=str(number)) for number in range(5)]
    before, sockets = connections(), []
    for number in range(100):
        host, port = server.url.removeprefix("http://").split(":")
        sock = socket.create_connection((host, int(port)), timeout=10)
        path = edits[number % len(edits)]["links"]["events"]
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\n\r\n".encode())
        sockets.append(sock)
    for sock in sockets:
        assert b" 200 " in sock.recv(65536)
    assert connections() - before <= 12
    assert http.get("/v1/edits").status_code == 200
    for sock in sockets:
        sock.close()


def test_the_server_ends_at_once_though_streams_are_open(
    stack: LocalServices, tmp_path: Path, key: str, http: httpx.Client
) -> None:
    edit = submit(http)
    with served_process(stack.environment, tmp_path) as server:
        headers = {"Authorization": f"Bearer {key}"}
        with httpx.stream("GET", server.url + edit["links"]["events"], headers=headers, timeout=30) as response:
            lines = response.iter_lines()
            next_event(lines)
            assert server.process
            server.process.send_signal(signal.SIGTERM)
            with pytest.raises((EOFError, httpx.RemoteProtocolError)):
                next_event(lines)
        assert server.process.wait(timeout=9) in (0, -signal.SIGTERM)
        assert "Traceback" not in server.log
        assert key not in server.log
        assert edit["links"]["events"] in server.log


def test_who_goes_while_an_edit_is_awaited_leaves_it_or_ends_it(
    http: httpx.Client, client: Client, server: Served
) -> None:
    before = {status.id for status in client.jobs(limit=1000)}

    def new() -> list[JobStatus]:
        return [status for status in client.jobs(limit=1000) if status.id not in before]

    with pytest.raises(httpx.ReadTimeout):
        http.post("/v1/edits", files=FILES, data=PROMPTS, headers={"Prefer": "wait=30"}, timeout=1)
    until(new, "the record of the edit")
    (edit,) = new()  # its id is not known to the caller, but `GET /v1/edits` lists it
    assert not edit.is_terminal
    with pytest.raises(httpx.ReadTimeout):
        http.post("/v1/images/edits", files=FILES, data={"prompt": "a bowl of pears", "n": 2}, timeout=1)
    until(lambda: sum(status.state is State.CANCELLED for status in new()) == 2, "both edits are cancelled")
    assert not client.job(edit.id).status().is_terminal
    assert "Traceback" not in server.log


def test_a_link_leads_to_the_picture_and_an_upload_goes_to_the_bucket(http: httpx.Client) -> None:
    picture = png(colour="blue")
    upload = http.post("/v1/uploads", json={"content_type": "image/png", "size": len(picture)}).json()
    if upload["method"] == "PUT":
        sent = httpx.put(upload["url"], content=picture, headers=upload["headers"], timeout=60)
    else:
        sent = httpx.post(upload["url"], data=upload["fields"], files={"file": picture}, timeout=60)
    assert sent.is_success, sent.text
    edit = http.post("/v1/edits", json={"uploaded": upload["key"], **PROMPTS}).json()
    response = http.get(edit["links"]["original"])
    assert response.status_code == 303
    original = httpx.get(response.headers["location"], timeout=60)
    assert original.content == http.get(edit["links"]["original"] + "?inline").content


def test_while_redis_is_away_the_answer_says_so(tmp_path: Path) -> None:
    nowhere = {"DIFFEDIT_REDIS_URL": "redis://127.0.0.1:1/0", "DIFFEDIT_S3_ENDPOINT_URL": "http://127.0.0.1:1"}
    with served_process(nowhere, tmp_path) as server:
        headers = {"Authorization": f"Bearer diffedit_{'0' * 12}_{'0' * 48}"}
        response = httpx.get(f"{server.url}/v1/edits", headers=headers, timeout=60)
        assert (response.status_code, response.json()["code"]) == (503, "broker_unavailable")
        assert "127.0.0.1" not in response.text
        assert httpx.get(f"{server.url}/v1/health", timeout=60).json()["status"] == "down"


def test_without_keys_only_this_machine_is_served(stack: LocalServices, tmp_path: Path) -> None:
    with served_process(stack.environment, tmp_path, "--open") as server:
        assert httpx.get(f"{server.url}/v1/edits", timeout=60).status_code == 200
        evil = httpx.get(f"{server.url}/v1/edits", headers={"Host": "evil.example"}, timeout=60)
        assert evil.status_code == 400
    with (
        pytest.raises(AssertionError, match="--insecure"),
        served_process(
            stack.environment,
            tmp_path,
            "--open",
            "--host",
            "0.0.0.0",  # noqa: S104
        ),
    ):
        pass


def test_a_port_that_is_taken_is_an_error_that_says_what_to_do(stack: LocalServices, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with (
            pytest.raises(AssertionError, match=f"cannot_listen: another program uses port {port} .* --port"),
            served_process(stack.environment, tmp_path, "--port", str(port)),
        ):
            pass


def test_a_comment_keeps_a_stream_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "HEARTBEAT", 0.2)
    client = testing.async_memory_client()
    with served_app(create_app(client, open_to_all=True)) as server:
        edit = httpx.post(f"{server.url}/v1/edits", files=FILES, data=PROMPTS, timeout=60).json()
        with httpx.stream("GET", server.url + edit["links"]["events"]) as response:
            lines = response.iter_lines()
            next_event(lines)
            comments = [next(line for line in lines if line) for _ in range(3)]
            assert comments == [": still here"] * 3


def test_who_sends_a_body_too_slowly_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "SECONDS", 0.5)
    with served_app(create_app(testing.async_memory_client(), open_to_all=True)) as server:
        host, port = server.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=10) as sock:
            head = "POST /v1/edits HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n"
            sock.sendall(f"{head}Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n".encode())
            assert b" 408 " in sock.recv(65536)


def test_the_command_says_what_is_missing(stack: LocalServices) -> None:
    code = "import sys; sys.modules['fastapi'] = None; from diffedit.cli import app; sys.exit(app(['serve']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "diffedit-service[web]" in done.stderr
