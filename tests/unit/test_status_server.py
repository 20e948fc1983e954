"""The small HTTP server of workers and of the exporter."""

import http.client
import logging
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from diffedit.errors import CannotListen
from diffedit.status_server import Answer, StatusServer, text_answer
from diffedit_worker.local.commands import _metrics_port
from diffedit_worker.runtime.status_server import serve_status
from diffedit_worker.settings import WorkerSettings

HOST = "127.0.0.1"


@pytest.fixture
def server() -> Iterator[StatusServer]:
    pages = {
        "/livez": lambda accept: text_answer("ok"),
        "/readyz": lambda accept: text_answer("not yet", 503),
        "/accept": lambda accept: Answer(200, accept.encode(), "text/x-accept"),
        "/broken": lambda accept: text_answer(str(1 / 0)),
    }
    server = StatusServer(pages, host=HOST, port=0)
    server.start()
    yield server
    server.stop()


def ask(server: StatusServer, path: str, method: str = "GET", **headers: str) -> tuple[int, str, str]:
    """Return the status, the media type and the body of an answer."""
    with closing(http.client.HTTPConnection(HOST, server.port, timeout=30)) as connection:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.getheader("Content-Type", ""), answer.read().decode()


def test_each_page_is_served_at_its_path(server: StatusServer) -> None:
    assert ask(server, "/livez") == (200, "text/plain; charset=utf-8", "ok\n")
    assert ask(server, "/readyz?verbose=1")[::2] == (503, "not yet\n")
    assert ask(server, "/accept", Accept="a/b") == (200, "text/x-accept", "a/b")
    assert ask(server, "/livez", "HEAD")[::2] == (200, "")


def test_an_unknown_path_lists_the_others(server: StatusServer) -> None:
    assert ask(server, "/")[::2] == (404, "/accept\n/broken\n/livez\n/readyz\n")
    assert ask(server, "/livez", "POST")[0] == 501


def test_a_page_that_fails_says_nothing_of_it_but_in_the_log(
    server: StatusServer, caplog: pytest.LogCaptureFixture
) -> None:
    status, _, text = ask(server, "/broken")
    assert status == 500 and "ZeroDivisionError" not in text
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [ZeroDivisionError]


def test_a_client_that_sends_nothing_keeps_nobody_waiting(server: StatusServer) -> None:
    with socket.create_connection((HOST, server.port)):
        assert ask(server, "/livez")[0] == 200


def test_a_port_that_is_taken_is_an_error_that_names_the_setting(server: StatusServer) -> None:
    settings = WorkerSettings(metrics_host=HOST, metrics_port=server.port)
    with pytest.raises(CannotListen, match=f"port {server.port} .* with DIFFEDIT_METRICS_PORT"):
        serve_status(settings, {})


def test_workers_of_one_machine_get_ports_of_their_own() -> None:
    assert [_metrics_port(WorkerSettings(metrics_port=9100), number) for number in (1, 2)] == [
        {"DIFFEDIT_METRICS_PORT": "9100"},
        {"DIFFEDIT_METRICS_PORT": "9101"},
    ]
    for port in (None, 0):
        assert _metrics_port(WorkerSettings(metrics_port=port), 2) == {}


def test_a_worker_serves_on_its_port_only_if_one_is_named(caplog: pytest.LogCaptureFixture) -> None:
    assert serve_status(WorkerSettings(), {}) is None
    caplog.set_level(logging.INFO)
    server = serve_status(
        WorkerSettings(metrics_host=HOST, metrics_port=0), {"/livez": lambda accept: text_answer("ok")}
    )
    assert server
    assert f"serving /livez on port {server.port}" in caplog.text
    assert ask(server, "/livez")[0] == 200
    server.stop()
    with pytest.raises(OSError):
        ask(server, "/livez")
