"""Whether a server can listen: each reason has its own advice."""

import errno
import socket

import pytest

from diffedit import listening
from diffedit.errors import CannotListen, LocalError
from diffedit.listening import check_address


def test_a_free_port_may_be_used_and_is_left_free() -> None:
    check_address("127.0.0.1", 0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    for _ in range(2):
        check_address("127.0.0.1", port)
        check_address("localhost", port)
    with socket.create_server(("127.0.0.1", port)):
        pass


def test_a_port_that_is_taken_is_named_with_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        for host in ("127.0.0.1", "localhost"):
            with pytest.raises(CannotListen, match=f"another program uses port {port} .* --port") as caught:
                check_address(host, port)
    assert isinstance(caught.value, LocalError)
    assert caught.value.code == "cannot_listen"


@pytest.mark.parametrize(
    ("host", "advice"), [("192.0.2.1", "no address of this machine.*--host"), ("no.such.invalid", "unknown.*--host")]
)
def test_an_address_that_is_not_ours_is_refused(host: str, advice: str) -> None:
    with pytest.raises(CannotListen, match=advice):
        check_address(host, 0)


@pytest.mark.parametrize(
    ("number", "advice"), [(errno.EACCES, "above 1023 with --port"), (errno.ENOBUFS, "choose others with")]
)
def test_other_reasons_have_their_advice(number: int, advice: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, "reason")

    monkeypatch.setattr(listening, "_bind", refuse)
    with pytest.raises(CannotListen, match=advice):
        check_address("127.0.0.1", 80)


def test_an_address_that_the_machine_lacks_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `localhost` has one of IPv6, also where IPv6 is switched off."""
    four = (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 0))
    six = (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("192.0.2.1", 0))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [six, four])
    check_address("localhost", 0)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [six, six])
    with pytest.raises(CannotListen, match="no address of this machine"):
        check_address("localhost", 0)
