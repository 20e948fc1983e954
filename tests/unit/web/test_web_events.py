"""The events of an edit. That a stream ends when the page goes is in tests/integration."""

import json

import pytest

from diffedit import testing
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
