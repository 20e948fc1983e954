"""The events of an edit. That a stream ends when the page goes is in tests/integration."""

import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from sse_starlette import ServerSentEvent

from diffedit import Stage, testing
from diffedit.errors import BrokerUnavailable, InvalidKey
from diffedit_web import events
from tests.support.web_api import WebApi

pytestmark = pytest.mark.anyio


def parsed(text: str) -> list[dict[str, str]]:
    """Return the events of a stream, each with its fields."""
    blocks = [block for block in text.split("\n\n") if block and not block.startswith(":")]
    return [dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":")) for block in blocks]


async def test_a_finished_edit_has_one_event_and_the_stream_ends(api: WebApi) -> None:
    edit = await api.submit()
    testing.succeed(api.job(edit))
    response = await api("GET", edit["links"]["events"], 200)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-store"
    (event,) = parsed(response.text)
    assert (event["event"], event["retry"]) == ("status", "2000")
    assert json.loads(event["data"]) == (await api("GET", edit["links"]["self"], 200)).json()


async def test_a_page_that_has_seen_the_end_is_told_not_to_come_again(api: WebApi) -> None:
    edit = await api.submit()
    testing.succeed(api.job(edit))
    (event,) = parsed((await api("GET", edit["links"]["events"], 200)).text)
    response = await api("GET", edit["links"]["events"], 204, headers={"Last-Event-ID": event["id"]})
    assert response.content == b""
    # One that has seen an earlier event gets the end.
    (again,) = parsed((await api("GET", edit["links"]["events"], 200, headers={"Last-Event-ID": "earlier"})).text)
    assert again["id"] == event["id"]


async def test_the_events_of_an_unknown_edit(api: WebApi) -> None:
    assert await api.problem("GET", f"/v1/edits/{'0' * 32}/events", 404) == "job_not_found"


@asynccontextmanager
async def forming(api: WebApi, *, previews: bool) -> AsyncIterator[tuple[object, AsyncIterator[ServerSentEvent]]]:
    """Give a job whose picture forms, and the events of its stream after the one that shows this."""
    handle = api.job(await api.submit())
    for stage in (Stage.EMBED, Stage.MASK, Stage.INVERT):
        testing._start(handle._blocking, stage)
        testing._complete(handle._blocking, stage, {})
    testing._start(handle._blocking, Stage.EDIT)
    stream = events.event_stream(handle, "u17", None, lambda name, job_id: f"/{name}", previews=previews).body_iterator
    assert (await anext(stream)).event == "status"
    yield handle._blocking, stream
    await stream.aclose()


async def test_a_page_that_asks_for_previews_gets_each_once(api: WebApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "PREVIEW_INTERVAL", 0.01)
    async with forming(api, previews=True) as (job, stream):
        store, files = job._job_store, [b"RIFF\xff one", b"RIFF\xff two"]
        for file in files:
            store.publish_preview(job.id, file)
            event = await anext(stream)
            assert (event.event, event.id) == ("preview", None)
            head, _, text = event.data.partition(",")
            assert (head, base64.b64decode(text)) == ("data:image/webp;base64", file)
        assert store.report_step(job.id, 7, 9, testing._WORKER) == (None, True)
        event = await anext(stream)
        assert (event.event, json.loads(event.data)["step"]) == ("status", 7)
        testing._complete(job, Stage.EDIT, {})
        assert [json.loads(event.data)["state"] async for event in stream] == ["succeeded"]


async def test_a_page_that_asks_for_none_lets_no_worker_make_any(api: WebApi) -> None:
    async with forming(api, previews=False) as (job, stream):
        job._job_store.publish_preview(job.id, b"RIFF")  # for another page
        assert job._job_store.report_step(job.id, 7, 9, testing._WORKER) == (None, False)
        assert (await anext(stream)).event == "status"
        testing._complete(job, Stage.EDIT, {})
        assert [event.event async for event in stream] == ["status"]


async def test_a_preview_that_cannot_be_read_does_not_end_the_stream(
    api: WebApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "PREVIEW_INTERVAL", 0.01)
    async with forming(api, previews=True) as (job, stream):
        asked = []

        def preview(job_id: str) -> bytes:
            asked.append(job_id)
            raise BrokerUnavailable("away")

        monkeypatch.setattr(job._job_store, "preview", preview)
        job._job_store.report_step(job.id, 7, 9, testing._WORKER)
        assert json.loads((await anext(stream)).data)["step"] == 7
        job._job_store.report_step(job.id, 8, 9, testing._WORKER)
        assert json.loads((await anext(stream)).data)["step"] == 8
        assert asked


async def test_previews_are_asked_for_in_the_query(api: WebApi, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    whole = events.event_stream
    monkeypatch.setattr(
        "diffedit_web.routes.edits.event_stream",
        lambda *args, previews, **other: (asked.append(previews), whole(*args, previews=previews, **other))[1],
    )
    edit = await api.submit()
    testing.succeed(api.job(edit))
    for query in ("", "?preview=false", "?preview=true"):
        assert len(parsed((await api("GET", edit["links"]["events"] + query, 200)).text)) == 1
    assert asked == [False, False, True]
    assert await api.problem("GET", edit["links"]["events"] + "?preview=perhaps", 400) == "invalid_request"


async def test_the_stream_of_a_key_that_was_revoked_ends(api: WebApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "RECHECK", 0.0)
    text, key = await api.client.add_api_key("u17", rate=3)
    edit = await api.submit()
    job = api.job(edit)

    async def recheck() -> None:
        await api.client.admit(text)

    stream = events.event_stream(job, "u17", None, lambda name, job_id: f"/{name}", recheck=recheck).body_iterator
    assert (await anext(stream)).event == "status"
    for step in range(1, 6):  # more than the rate allows
        if step == 1:
            testing._start(job._blocking, Stage.EMBED)
        job._blocking._job_store.report_step(job.id, step, 9, testing._WORKER)
        assert (await anext(stream)).event == "status"
    assert await api.client.revoke_api_key(key.id)
    job._blocking._job_store.report_step(job.id, 7, 9, testing._WORKER)
    last = [event async for event in stream]
    assert [event.event for event in last] == ["problem"]
    assert json.loads(last[0].data)["code"] == "invalid_key"


async def test_the_route_of_events_asks_for_the_key_again(api: WebApi, monkeypatch: pytest.MonkeyPatch) -> None:
    given = []
    whole = events.event_stream

    def stream(*args: object, recheck: Callable[[], Awaitable[object]], **other: object) -> object:
        given.append(recheck)
        return whole(*args, recheck=recheck, **other)

    monkeypatch.setattr("diffedit_web.routes.edits.event_stream", stream)
    edit = await api.submit()
    testing.succeed(api.job(edit))
    await api("GET", edit["links"]["events"], 200)
    (recheck,) = given
    await recheck()
    for known in await api.client.api_keys():
        await api.client.revoke_api_key(known.id)
    with pytest.raises(InvalidKey):
        await recheck()
