"""What becomes of bytes on their way to and from an S3 server that fails: all of them arrive, or a typed error does."""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial

import pytest

from diffedit import Settings, StoreRefused, StoreUnavailable
from diffedit.contract.object_keys import artifact_key
from diffedit.objects import s3
from diffedit.objects.s3 import SMALL, S3ObjectStore
from tests.support.proxies import Exchange, FaultProxy

DATA = os.urandom(300_000)
ALWAYS = 20
"""More often than anybody tries."""

DOWNLOADS = {
    "fails": (Exchange.fails, {"status": 503}),
    "takes too long": (Exchange.fails, {"status": 400, "code": "RequestTimeout"}),
    "is reset": (Exchange.is_reset, {}),
    "is reset on its way": (Exchange.answer_is_reset, {"after": 100_000}),
    "ends early": (Exchange.answer_is_short, {"after": 100_000}),
    "ends before it begins": (Exchange.answer_is_short, {"after": 0}),
    "ends a byte early": (Exchange.answer_is_short, {"after": len(DATA) - 1}),
}
UPLOADS = {
    "fails": (Exchange.fails, {"status": 500}),
    "takes too long": (Exchange.fails, {"status": 400, "code": "RequestTimeout"}),
    "is reset before it begins": (Exchange.upload_is_reset, {"after": 0}),
    "is reset on its way": (Exchange.upload_is_reset, {"after": 100_000}),
    "is reset a byte early": (Exchange.upload_is_reset, {"after": len(DATA) - 1}),
}


@pytest.fixture
def proxy(settings: Settings) -> Iterator[FaultProxy]:
    with FaultProxy(settings.s3_endpoint_url) as proxy:
        yield proxy


@pytest.fixture
def object_store(settings: Settings, proxy: FaultProxy) -> S3ObjectStore:
    return S3ObjectStore(settings.model_copy(update={"s3_endpoint_url": proxy.url}))


@pytest.fixture
def key() -> str:
    return artifact_key("trajectory", os.urandom(32).hex(), "safetensors")


@pytest.mark.parametrize("case", DOWNLOADS)
def test_a_download_arrives_whole_or_not_at_all(
    object_store: S3ObjectStore, proxy: FaultProxy, key: str, case: str
) -> None:
    fault, how = DOWNLOADS[case]
    object_store.put(key, DATA)
    proxy.meets("GET", fault, **how)
    assert object_store.get(key) == DATA
    assert not proxy.pending
    proxy.meets("GET", fault, **how, times=ALWAYS)
    with pytest.raises(StoreUnavailable) as caught:
        object_store.get(key)
    assert not isinstance(caught.value, StoreRefused)


@pytest.mark.parametrize("case", UPLOADS)
def test_an_upload_arrives_whole_or_not_at_all(
    object_store: S3ObjectStore, proxy: FaultProxy, key: str, case: str
) -> None:
    fault, how = UPLOADS[case]
    proxy.meets("PUT", fault, **how, times=ALWAYS)
    with pytest.raises(StoreUnavailable) as caught:
        object_store.put(key, DATA)
    assert not isinstance(caught.value, StoreRefused)
    assert not object_store.exists(key)
    proxy.up()
    proxy.meets("PUT", fault, **how)
    object_store.put(key, DATA)
    assert not proxy.pending
    assert object_store.get(key) == DATA


@pytest.mark.parametrize("fault", ["fails", "is reset"])
def test_what_cannot_be_looked_up_is_not_taken_for_missing(
    object_store: S3ObjectStore, proxy: FaultProxy, key: str, fault: str
) -> None:
    fault, how = DOWNLOADS[fault]
    proxy.meets("HEAD", fault, **how, times=ALWAYS)
    with pytest.raises(StoreUnavailable):
        object_store.exists(key)


def test_a_server_that_was_away_is_found_again(object_store: S3ObjectStore, proxy: FaultProxy, key: str) -> None:
    object_store.put(key, DATA)
    proxy.down()
    for ask in (
        lambda: object_store.get(key),
        lambda: object_store.put(key, DATA),
        lambda: object_store.exists(key),
        object_store.ping,
    ):
        with pytest.raises(StoreUnavailable):
            ask()
    proxy.up()
    assert object_store.get(key) == DATA


@pytest.mark.parametrize(("size", "asks"), [(SMALL, False), (SMALL + 1, True)])
def test_small_uploads_ask_no_permission_first(settings: Settings, size: int, asks: bool) -> None:
    object_store, sent = S3ObjectStore(settings), []
    object_store._s3.meta.events.register(
        "before-send.s3.PutObject", lambda request, **_: sent.append("Expect" in request.headers)
    )
    key = artifact_key("mask", "ef" * 32, "png")
    object_store.put(key, bytes(size))
    assert sent == [asks]
    assert len(object_store.get(key)) == size


def test_a_server_that_never_answers_is_asked_once(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four attempts of 30 seconds each held `edit`, `result` and `health` for two and a half minutes."""
    monkeypatch.setattr(s3, "S3_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        mute = S3ObjectStore(settings.model_copy(update={"s3_endpoint_url": address}))
        key = artifact_key("mask", "ab" * 32, "png")
        calls: list[Callable[[], object]] = [
            mute.ping,
            partial(mute.exists, key),
            partial(mute.get, key),
            partial(mute.put, key, DATA),
        ]
        for call in calls:
            with pytest.raises(StoreUnavailable, match="does not answer"):
                call()
        server.setblocking(False)
        connections = 0
        with suppress(BlockingIOError):
            while True:
                server.accept()[0].close()
                connections += 1
    assert connections == len(calls)
