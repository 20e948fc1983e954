"""`diffedit serve` against clients that send too much, too slowly, or nothing, and what it writes down."""

import io
import random
import select
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from PIL import Image

from diffedit import Client, Settings
from diffedit_web.bodies import MAX_JSON_BYTES, max_form_bytes
from diffedit_worker.local.stack import LocalServices
from tests.support.waiting import until
from tests.support.web_api import PROMPTS, png
from tests.support.web_server import Served, served_program

pytestmark = pytest.mark.filterwarnings("ignore::diffedit.NoWorkerWarning")
PATIENCE = 3.0
IMPATIENT = f"""
import sys
from diffedit_web import connections
connections.SECONDS = {PATIENCE}
from diffedit.cli import app
app(["serve", "--port", "0", *sys.argv[1:]])
"""
"""The command with a patience that suits a test."""


@pytest.fixture(scope="module")
def key(settings: Settings) -> str:
    with Client(settings) as client:
        return client.add_api_key("u17", rate=60_000).text


@pytest.fixture(scope="module")
def server(stack: LocalServices, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    command = [sys.executable, "-c", IMPATIENT, "--log-level", "debug"]
    with served_program(command, stack.environment, tmp_path_factory.mktemp("web")) as server:
        yield server


def connected(server: Served, receive_buffer: int | None = None) -> socket.socket:
    host, port = server.url.removeprefix("http://").split(":")
    sock = socket.socket()
    sock.settimeout(30)
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.connect((host, int(port)))
    return sock


def client_of(server: Served, key: str) -> httpx.Client:
    return httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {key}"}, timeout=60)


def head(key: str, *lines: str, path: str = "/v1/edits") -> bytes:
    """Return the header of a submission."""
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {key}", *lines, "", ""]).encode()


def is_healthy(server: Served) -> bool:
    return httpx.get(f"{server.url}/v1/health", timeout=30).status_code == 200


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/v1/edits", "multipart/form-data; boundary=b"),
        ("/v1/masks", "multipart/form-data; boundary=b"),
        ("/v1/images/edits", "multipart/form-data; boundary=b"),
        ("/v1/edits", "application/json"),
        ("/v1/uploads", "application/json"),
    ],
)
def test_a_body_whose_length_is_over_the_limit_is_refused_before_it_is_sent(
    server: Served, key: str, path: str, kind: str
) -> None:
    with connected(server) as sock:
        sock.sendall(head(key, f"Content-Type: {kind}", f"Content-Length: {10**12}", path=path))
        assert b" 413 " in sock.recv(65536)


@pytest.mark.parametrize(
    ("kind", "start", "limit"),
    [
        ("application/json", b'{"uploaded": "', MAX_JSON_BYTES),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n',
            max_form_bytes(2),
        ),
    ],
)
def test_a_body_without_a_length_is_read_up_to_the_limit(
    server: Served, key: str, kind: str, start: bytes, limit: int
) -> None:
    block, sent = bytes(2**18).replace(b"\0", b"x"), 0
    with connected(server) as sock:
        sock.sendall(head(key, f"Content-Type: {kind}", "Transfer-Encoding: chunked"))
        sock.sendall(b"%x\r\n%s\r\n" % (len(start), start))
        answer = b""
        while not answer:
            sock.setblocking(True)
            sock.sendall(b"%x\r\n%s\r\n" % (len(block), block))
            sent += len(block)
            assert sent < limit + 2**25, "the server reads on"
            sock.setblocking(False)
            try:
                answer = sock.recv(65536)
            except BlockingIOError:
                continue
        assert b" 413 " in answer
    assert is_healthy(server)


def test_a_client_without_a_key_sends_no_body(server: Served) -> None:
    with connected(server) as sock:
        lines = ("Content-Type: application/json", "Content-Length: 1000", "Expect: 100-continue")
        sock.sendall(head(f"diffedit_{'0' * 12}_{'0' * 48}", *lines))
        assert sock.recv(65536).startswith(b"HTTP/1.1 401 ")


def test_clients_that_send_a_header_byte_by_byte_stop_nobody_and_are_ended(server: Served, key: str) -> None:
    with ExitStack() as stack:
        slow = [stack.enter_context(connected(server)) for _ in range(100)]
        silent = [stack.enter_context(connected(server)) for _ in range(20)]
        begun = head(key)[:-2]
        # As fast as one may, so that it is the time that ends them and not a pause.
        ended, byte = 0, 0
        with client_of(server, key) as http:
            while slow:
                for sock in list(slow):
                    try:
                        sock.sendall(begun[byte : byte + 1] or b"x")
                    except OSError:
                        slow.remove(sock)
                        ended += 1
                byte += 1
                assert http.get("/v1/edits").status_code == 200
        assert ended == 100
        assert [sock.recv(1) for sock in silent] == [b""] * 20


def test_who_sends_a_body_byte_by_byte_stops_nobody(server: Served, key: str) -> None:
    with client_of(server, key) as http, ExitStack() as stack:
        slow = [stack.enter_context(connected(server)) for _ in range(100)]
        for sock in slow:
            sock.sendall(head(key, "Content-Type: multipart/form-data; boundary=b", "Content-Length: 100000"))
        for byte in b"--b\r\nContent":
            for sock in slow:
                sock.sendall(bytes([byte]))
            assert http.post("/v1/edits", files={"image": png()}, data=PROMPTS).status_code == 202


def test_who_goes_on_sending_after_the_answer_is_ended(server: Served, key: str) -> None:
    with connected(server) as sock:
        sock.sendall(head(key, "Content-Type: application/json", f"Content-Length: {10**12}"))
        assert b" 413 " in sock.recv(65536)

        def is_ended() -> bool:
            try:
                sock.sendall(b"x")
            except OSError:
                return True
            return False

        until(is_ended, "the server ends the connection", timeout=30)


def test_a_connection_that_is_used_is_not_ended(server: Served, key: str) -> None:
    with client_of(server, key) as http:
        edit = http.post("/v1/edits", files={"image": png()}, data=PROMPTS).json()
        before = http.get("/v1/health").extensions["network_stream"].get_extra_info("client_addr")
        # An answer that takes longer than the patience, on a connection that is used before and afterwards.
        waited = http.get(edit["links"]["self"], headers={"Prefer": f"wait={round(2 * PATIENCE)}"})
        assert waited.json()["state"] == "queued"
        after = http.get("/v1/health").extensions["network_stream"].get_extra_info("client_addr")
        assert before == after


def noise() -> bytes:
    """Return a picture of more bytes than two sockets hold, because PNG cannot make it smaller."""
    buffer, side = io.BytesIO(), 2000
    Image.frombytes("RGB", (side, side), random.Random(0).randbytes(3 * side * side)).save(buffer, "PNG")
    return buffer.getvalue()


def test_who_takes_nothing_of_an_answer_is_ended_and_who_takes_it_slowly_is_not(server: Served, key: str) -> None:
    with client_of(server, key) as http, ExitStack() as stack:
        edit = http.post("/v1/edits", files={"image": noise()}, data=PROMPTS).json()
        path = f"{edit['links']['original']}?inline"
        picture = http.get(path).content
        idle, slow = (stack.enter_context(connected(server, receive_buffer=2**16)) for _ in range(2))
        for sock in (idle, slow):
            sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\r\n".encode())
        ends = select.poll()
        ends.register(idle, 0)  # only that it is reset
        taken = bytearray()
        while len(taken) < len(picture) * 9 // 10:
            time.sleep(PATIENCE / 4)
            for _ in range(len(picture) // 10 // 2**16):
                taken += slow.recv(2**16)
        while not taken.endswith(picture[-1000:]):
            taken += slow.recv(2**16)
        assert taken.endswith(picture)
        until(lambda: ends.poll(0), "the connection that is idle is ended")
    assert is_healthy(server)


def test_no_key_is_logged_whatever_happens(stack: LocalServices, tmp_path: Path, key: str) -> None:
    secret = key.rpartition("_")[2]
    broken = f"from diffedit_web.routes import edits\nedits.options_of = None\n{IMPATIENT}"
    command = [sys.executable, "-c", broken, "--log-level", "debug"]
    with served_program(command, stack.environment, tmp_path) as server, client_of(server, key) as http:
        assert http.get("/v1/edits").status_code == 200
        assert http.get(f"/v1/edits/{'0' * 32}").status_code == 404
        assert http.post("/v1/edits", content=b"x", headers={"Content-Type": "text/plain"}).status_code == 415
        assert http.get("/v1/edits", headers={"Authorization": f"Bearer {key}x"}).status_code == 401
        assert http.get("/v1/edits", headers={"Authorization": f"Basic {key}"}).status_code == 401
        # A mistake in the program, of which the log has the traceback.
        assert http.post("/v1/edits", files={"image": png()}, data=PROMPTS).status_code == 500
        # Where no key belongs.
        assert http.get(f"/v1/edits/{key}").status_code in (400, 404)
        assert http.get(f"/v1/edits?key={key}&cursor={key}").status_code == 400
        with connected(server) as sock:
            sock.sendall(f"GET /v1/edits HTTP/1.1\r\nAuthorization: Bearer {key}\r\nwrong\r\n\r\n".encode())
            assert b" 400 " in sock.recv(65536)
        until(lambda: server.log.count("HTTP/1.1") >= 8, "the requests in the log")
        assert "TypeError: 'NoneType' object is not callable" in server.log
        assert f"{key.rpartition('_')[0]}_..." in server.log
        assert secret not in server.log


def test_a_monitor_asks_for_headers_alone_and_nobody_sends_too_many(server: Served, key: str) -> None:
    with client_of(server, key) as http:
        shown = http.head("/v1/health")
        assert (shown.status_code, shown.content) == (200, b"")
        assert int(shown.headers["content-length"]) > 0
        assert http.head(f"/v1/edits/{'0' * 32}/result").status_code == 404
        # Refused when they are complete, or by the parser before.
        assert http.get("/v1/health", headers={"X-Long": "x" * 80_000}).status_code in (400, 431)
        assert http.get("/v1/health").status_code == 200
