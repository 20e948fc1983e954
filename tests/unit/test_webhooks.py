"""Webhooks: URLs, addresses, signatures, requests to receivers that misbehave, and the sender."""

import base64
import hmac
import ipaddress
import json
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import trustme
from standardwebhooks import Webhook, WebhookVerificationError

from diffedit import Client, InvalidRequest, JobHandle, Settings, WaitingEvents
from diffedit.contract.job import JobOptions
from diffedit.contract.webhooks import DeliveryState
from diffedit.testing import memory_client, succeed
from diffedit.webhooks import addresses, posting, sender
from diffedit.webhooks.addresses import Forbidden, address_of, is_public, networks_of
from diffedit.webhooks.posting import post
from diffedit.webhooks.sender import Sender, delay_after
from diffedit.webhooks.signing import new_secret, secrets_of, signed_headers
from tests.support.fake_service import TEXTS, png
from tests.support.webhook_receiver import Handler, Receiver, receiving

SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
LOOPBACK = networks_of("127.0.0.0/8")
PUBLIC = "93.184.216.34"


def with_settings(**settings: str) -> Client:
    client = memory_client()
    client._settings = Settings(**settings)
    return client


@pytest.mark.parametrize("url", ["https://example.com", "http://10.0.0.1:8000/a?b=c", "https://[::1]/"])
def test_a_webhook_is_a_url(url: str) -> None:
    assert JobOptions(webhook=url).webhook == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com/hooks",
        "ftp://example.com",
        "https://",
        "https:///path",
        "https://user:pass@example.com",
        "https://example.com/#part",
        "https://example.com:99999",
        "https://example.com:0",
        "https://[::1",
        "https://example.com/a b",
        "https://example.com/a\r\nHost: b",
        "https://exämple.com",
        "https://example.com/" + "a" * 2000,
    ],
)
def test_what_is_no_url_of_a_webhook_is_refused(url: str) -> None:
    with pytest.raises(ValueError):
        JobOptions(webhook=url)


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",  # noqa: S104
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "fd00::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::127.0.0.1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::7f00:1",
        "2002:7f00:1::",
        "2002:a00:1::1",
        "2001:0:7f00:1::",
    ],
)
def test_a_private_address_is_not_public(text: str) -> None:
    assert not is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize(
    "text", [PUBLIC, "2606:2800:220:1:248:1893:25c8:1946", f"::ffff:{PUBLIC}", "64:ff9b::5db8:d822"]
)
def test_a_public_address_is_public(text: str) -> None:
    assert is_public(ipaddress.ip_address(text))


@pytest.fixture
def resolves(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Let names have these addresses, one list for each look-up, and note the look-ups."""

    def set_answers(*answers: list[str]) -> list[str]:
        left, asked, look_up = list(answers), [], socket.getaddrinfo

        def getaddrinfo(host: str, port: int, *more: object, **named: object) -> list[tuple[object, ...]]:
            if host[0].isdigit():
                return look_up(host, port, *more, **named)
            asked.append(host)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in left.pop(0)]

        monkeypatch.setattr(addresses.socket, "getaddrinfo", getaddrinfo)
        return asked

    return set_answers


def test_only_an_address_that_may_be_used_is_chosen(resolves: Callable[..., list[str]]) -> None:
    resolves(["10.0.0.1", PUBLIC], ["10.0.0.1"], ["10.0.0.1"], [PUBLIC], ["fe80::1%eth0"])
    assert address_of("a.example", 443, (), encrypted=True) == PUBLIC
    with pytest.raises(Forbidden, match="is private"):
        address_of("a.example", 443, LOOPBACK, encrypted=True)
    assert address_of("a.example", 80, networks_of("10.0.0.0/8"), encrypted=False) == "10.0.0.1"
    with pytest.raises(Forbidden, match="needs https"):
        address_of("a.example", 80, (), encrypted=False)
    with pytest.raises(Forbidden):
        address_of("a.example", 443, (), encrypted=True)


def test_the_connection_goes_to_the_address_that_was_checked(
    resolves: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = resolves([PUBLIC], ["127.0.0.1"])  # a second look-up would be the rebinding
    connected = []

    def connect(address: tuple[str, int], **_: object) -> None:
        connected.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(posting.socket, "create_connection", connect)
    with pytest.raises(ConnectionRefusedError):
        post("https://a.example/hooks", b"", {})
    assert (asked, connected) == (["a.example"], [(PUBLIC, 443)])


def test_networks_must_be_networks() -> None:
    assert [str(each) for each in networks_of(" 10.1.0.0/16, ::1 ,")] == ["10.1.0.0/16", "::1/128"]
    with pytest.raises(InvalidRequest, match="DIFFEDIT_WEBHOOK_ALLOW"):
        networks_of("intranet")


def test_a_signature_is_that_of_the_standard() -> None:
    body = b'{"type":"edit.succeeded"}'
    headers = signed_headers("0f.succeeded", 1731705121, body, [SECRET])
    assert headers == {
        "webhook-id": "0f.succeeded",
        "webhook-timestamp": "1731705121",
        "webhook-signature": "v1,Mu0yF6cWuxcKU/zMpoYo5pr5gmx3we9kOBrC/GxXkag=",
    }
    # The same as the standard writes it, without its library.
    digest = hmac.digest(bytes(range(32)), b"0f.succeeded.1731705121." + body, "sha256")
    assert headers["webhook-signature"] == f"v1,{base64.b64encode(digest).decode()}"


def test_the_package_of_the_standard_verifies_all_secrets_in_force() -> None:
    old = new_secret()
    headers = signed_headers("0f.failed", int(time.time()), b"{}", [new_secret(), old])
    assert Webhook(old).verify(b"{}", headers) == {}
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify(b"{}", headers)


def test_each_owner_has_secrets_of_its_own() -> None:
    setting = f"{SECRET}, {new_secret()},"
    found = [secrets_of(setting, owner) for owner in (None, "u1", "u2")]
    assert found[0][0] == SECRET
    assert len({text for each in found for text in each}) == 6
    assert found[1] == secrets_of(setting, "u1")
    client = with_settings(webhook_secrets=setting)
    assert (client.webhook_secrets(), client.webhook_secrets("u1")) == (found[0], found[1])
    assert client.for_owner("u1").webhook_secrets() == found[1]
    with pytest.raises(InvalidRequest, match="another owner"):
        client.for_owner("u1").webhook_secrets("u2")


@pytest.mark.parametrize("setting", [None, "", " , ", "whsec_", "whsec_AAAA", SECRET.removeprefix("whsec_"), "whsec_é"])
def test_a_secret_that_is_none_is_refused_and_not_shown(setting: str | None) -> None:
    with pytest.raises(InvalidRequest, match="DIFFEDIT_WEBHOOK_SECRETS") as caught:
        Sender(Settings(webhook_secrets=setting), memory_client()._backend.outbox)
    assert not setting or len(setting) < 10 or setting not in str(caught.value)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as server:
        yield server


def test_a_request_is_made_as_given_and_no_redirect_is_followed(receiver: Receiver) -> None:
    receiver.answers = [200, 307]
    assert post(receiver.url, b"body", {"webhook-id": "1"}, LOOPBACK) == 200
    assert post(receiver.url, b"body", {"webhook-id": "1"}, LOOPBACK) == 307
    assert [path for path, _, _ in receiver.requests] == ["/hooks?a=1"] * 2
    _, headers, body = receiver.requests[0]
    assert (headers["host"], headers["webhook-id"], body) == (f"127.0.0.1:{receiver.server_port}", "1", b"body")
    with pytest.raises(Forbidden):
        post(receiver.url, b"", {})
    assert len(receiver.requests) == 2


def drip_header(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
    while True:
        handler.wfile.write(b"x")
        time.sleep(0.02)


def drip_body(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    while True:
        handler.wfile.write(b"x")
        time.sleep(0.02)


def silence(handler: Handler) -> None:
    time.sleep(2)


@pytest.mark.parametrize("behaviour", [drip_header, drip_body, silence])
def test_a_slow_answer_is_cut_off(receiver: Receiver, behaviour: Callable[[Handler], None]) -> None:
    receiver.answers = [behaviour]
    with pytest.raises(TimeoutError):
        post(receiver.url, b"", {}, LOOPBACK, seconds=0.3)


def test_of_an_endless_answer_only_the_beginning_is_read(receiver: Receiver) -> None:
    def endless(handler: Handler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            handler.wfile.write(b"x" * 65536)

    receiver.answers = [endless]
    assert post(receiver.url, b"", {}, LOOPBACK) == 200


def test_a_handshake_that_never_ends_is_cut_off() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}/"
        with pytest.raises(TimeoutError):
            post(url, b"", {}, LOOPBACK, seconds=0.3)


@contextmanager
def secured(receiver: Receiver, authority: trustme.CA, name: str) -> Iterator[str]:
    """Let the receiver show a certificate for this name. Yields its port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    receiver.socket = context.wrap_socket(receiver.socket, server_side=True)
    yield str(receiver.server_port)


def test_the_certificate_must_be_that_of_the_name_in_the_url(
    receiver: Receiver, resolves: Callable[..., list[str]]
) -> None:
    authority = trustme.CA()
    ours = ssl.create_default_context()
    authority.configure_trust(ours)
    resolves(["127.0.0.1"], ["127.0.0.1"], ["127.0.0.1"])
    with secured(receiver, authority, "hooks.example") as port:
        assert post(f"https://hooks.example:{port}/", b"body", {}, LOOPBACK, ours) == 204
        assert receiver.requests[0][1]["host"] == f"hooks.example:{port}"
        with pytest.raises(ssl.SSLCertVerificationError):
            post(f"https://other.example:{port}/", b"body", {}, LOOPBACK, ours)
        with pytest.raises(ssl.SSLCertVerificationError):
            post(f"https://hooks.example:{port}/", b"body", {}, LOOPBACK)
    assert len(receiver.requests) == 1


@pytest.fixture
def client() -> Client:
    return with_settings(webhook_secrets=SECRET, webhook_allow="127.0.0.0/8")


@pytest.fixture
def a_sender(client: Client, monkeypatch: pytest.MonkeyPatch) -> Sender:
    monkeypatch.setattr(sender, "delay_after", lambda attempt: 0.02)
    return Sender(client._settings, client._backend.outbox)


def submitted(client: Client, url: str, **options: object) -> JobHandle:
    return client.edit(png(), **TEXTS, webhook=url, **options)


def until_delivered(job: JobHandle, a_sender: Sender) -> None:
    deadline = time.monotonic() + 20
    while any(each.state is DeliveryState.PENDING for each in job.status().deliveries):
        assert time.monotonic() < deadline
        if not a_sender.send_next():
            time.sleep(0.01)


def test_an_event_is_sent_again_until_it_is_taken(client: Client, a_sender: Sender, receiver: Receiver) -> None:
    receiver.answers = [500, 302, lambda handler: handler.connection.close(), 200]
    job = submitted(client, receiver.url, owner="u1")
    job.cancel()
    until_delivered(job, a_sender)
    (delivery,) = job.status().deliveries
    assert (delivery.state, delivery.attempts, delivery.error) == (DeliveryState.DELIVERED, 4, None)
    assert len({headers["webhook-id"] for _, headers, _ in receiver.requests}) == 1
    _, headers, body = receiver.requests[-1]
    assert json.loads(body)["type"] == "edit.cancelled"
    secrets, at = client.webhook_secrets("u1"), int(headers["webhook-timestamp"])
    assert headers["webhook-signature"] == signed_headers(f"{job.id}.cancelled", at, body, secrets)["webhook-signature"]


def test_a_warning_needs_events_that_wait_and_no_sender() -> None:
    assert WaitingEvents(due=1, oldest=61).unsent
    assert not WaitingEvents(due=1, oldest=61, has_sender=True).unsent
    assert not WaitingEvents(due=1, oldest=59).unsent
    assert not WaitingEvents().unsent


def test_the_health_shows_the_events_that_wait(client: Client, a_sender: Sender, receiver: Receiver) -> None:
    assert client.health().webhooks == WaitingEvents()
    submitted(client, receiver.url).cancel()
    found = client.health().webhooks
    assert (found.due, found.has_sender) == (1, False)
    assert a_sender.send_next() and not a_sender.send_next()
    assert client.health().webhooks == WaitingEvents(has_sender=True)


def test_a_receiver_that_is_gone_gets_nothing_more(client: Client, a_sender: Sender, receiver: Receiver) -> None:
    receiver.answers = [410]
    job = submitted(client, receiver.url)
    job.cancel()
    until_delivered(job, a_sender)
    (delivery,) = job.status().deliveries
    assert (delivery.state, delivery.error) == (DeliveryState.GIVEN_UP, "the answer was 410")
    job.resend_webhook()
    until_delivered(job, a_sender)
    assert job.status().deliveries[0].state is DeliveryState.DELIVERED


def test_a_private_address_is_not_asked(client: Client, receiver: Receiver) -> None:
    job = submitted(client, receiver.url)
    job.cancel()
    a_sender = Sender(Settings(webhook_secrets=SECRET), client._backend.outbox)
    assert a_sender.send_next() and not a_sender.send_next()
    assert "DIFFEDIT_WEBHOOK_ALLOW" in str(job.status().deliveries[0].error)
    assert receiver.requests == []


def test_a_damaged_event_is_given_up(client: Client, a_sender: Sender, receiver: Receiver) -> None:
    job = submitted(client, receiver.url, tags={"album": "9"})
    job.cancel()
    client._job_store._state.outbox[f"{job.id}.cancelled"]["tags"] = "{"
    assert a_sender.send_next() and not a_sender.send_next()
    assert job.status().deliveries[0].error == "the event is damaged"
    assert receiver.requests == []


def test_all_events_are_sent_side_by_side_until_the_end(
    client: Client, a_sender: Sender, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    jobs = [submitted(client, receiver.url) for _ in range(5)]
    for job in jobs:
        succeed(job)
    stop = threading.Event()
    running = threading.Thread(target=a_sender.run, args=(stop, 3))
    running.start()
    deadline = time.monotonic() + 20
    while any(each.state is DeliveryState.PENDING for job in jobs for each in job.status().deliveries):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    stop.set()
    running.join(20)
    assert not running.is_alive()
    assert len({headers["webhook-id"] for _, headers, _ in receiver.requests}) == len(receiver.requests) == 10
    assert receiver.url not in caplog.text and SECRET not in caplog.text  # URLs may hold what is secret


def test_a_job_without_a_webhook_or_a_start_cannot_be_resent(client: Client, receiver: Receiver) -> None:
    with pytest.raises(InvalidRequest, match="no event"):
        submitted(client, receiver.url).resend_webhook()
    with pytest.raises(InvalidRequest, match="no event"):
        client.edit(png(), **TEXTS).resend_webhook()


def test_delays_grow_to_an_hour() -> None:
    delays = [delay_after(attempt, lambda low, high: 1.0) for attempt in (1, 2, 3, 7, 100)]
    assert delays == [5, 15, 45, 3600, 3600]
    assert 3.75 <= delay_after(1) <= 6.25
    assert base64.b64decode(new_secret().removeprefix("whsec_")) != base64.b64decode(
        new_secret().removeprefix("whsec_")
    )
