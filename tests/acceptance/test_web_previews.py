"""Live previews through real processes: `diffedit serve`, a worker that makes an edit, and a page that watches it."""

import base64
import io
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import redis
from PIL import Image

from diffedit import Client
from diffedit.jobs import keys
from diffedit_worker.local.stack import LocalServices
from diffedit_worker.runtime.previews import PREVIEW_INTERVAL
from tests.support.factories import PEAR, PICTURE, slow
from tests.support.services import redis_of
from tests.support.web_server import Served, served_process

pytestmark = pytest.mark.usefixtures("no_unfinished_jobs")


@pytest.fixture(scope="module")
def server(stack: LocalServices, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served_process(stack.environment, tmp_path_factory.mktemp("web")) as server:
        yield server


@pytest.fixture
def http(server: Served, client: Client) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {client.add_api_key('u17')[0]}"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=120) as http:
        yield http


@pytest.fixture
def published(stack: LocalServices) -> Iterator["Published"]:
    """What Redis says of previews while the test runs."""
    connection = redis_of(stack, decode_responses=True)
    before = connection.config_get("notify-keyspace-events")
    connection.config_set("notify-keyspace-events", "K$")
    with connection.pubsub(ignore_subscribe_messages=True) as pubsub:
        yield Published(pubsub)
    connection.config_set("notify-keyspace-events", before["notify-keyspace-events"])


class Published:
    def __init__(self, pubsub: redis.client.PubSub) -> None:
        pubsub.psubscribe(f"__keyspace@0__:{keys.PREVIEW}*")
        pubsub.get_message(timeout=5)  # the answer to this command
        self._pubsub = pubsub

    def count(self, job_id: str) -> int:
        """Return how many previews of this job were stored since the last call. Those of other jobs are lost."""
        channels = []
        while message := self._pubsub.get_message(timeout=0.5):
            channels.append(message["channel"])
        return sum(channel.endswith(f"{keys.PREVIEW}{job_id}") for channel in channels)


def submitted(http: httpx.Client) -> dict[str, Any]:
    """Submit an edit that takes seconds, and return its first status."""
    data = {name: str(value) for name, value in {**PEAR, **slow(), "guidance_scale": 7.5, "feature_reuse": 1}.items()}
    response = http.post("/v1/edits", files={"image": PICTURE.read_bytes()}, data=data)
    assert response.status_code == 202, response.text
    return dict(response.json())


def events_of(http: httpx.Client, edit: dict[str, Any], query: str = "") -> Iterator[tuple[str, str]]:
    """Yield the name and the data of each event of an edit's stream, which ends with its success."""
    name = data = ""
    with http.stream("GET", edit["links"]["events"] + query) as stream:
        for line in stream.iter_lines():
            field, _, value = line.partition(": ")
            if field == "event":
                name = value
            elif field == "data":
                data = value
                yield name, data
    assert '"state":"succeeded"' in data


def is_preview(file: bytes) -> bool:
    """Return whether this is a WebP file of the expected size that shows something."""
    with Image.open(io.BytesIO(file)) as preview:
        preview.load()
        # The latents of the bundled model are a quarter as wide as the picture.
        assert (preview.format, preview.size) == ("WEBP", (16, 16))
        return max(high - low for low, high in preview.convert("RGB").getextrema()) > 20


def test_a_page_that_watches_sees_the_picture_form(http: httpx.Client, published: Published) -> None:
    edit, previews, fetched = submitted(http), [], []
    for name, data in events_of(http, edit, "?preview=true"):
        if name == "preview":
            head, _, text = data.partition(",")
            assert head == "data:image/webp;base64"
            previews.append(base64.b64decode(text))
            fetched.append(http.get(f"{edit['links']['self']}/preview"))
    assert previews and all(map(is_preview, previews))
    assert len(set(previews)) == len(previews)
    # A program without a stream gets them, too, until the picture is made.
    answers = [response.content for response in fetched if response.status_code == 200]
    assert answers and all(map(is_preview, answers))
    assert published.count(edit["id"]) >= len(previews)


def test_without_a_page_that_watches_no_preview_is_published(http: httpx.Client, published: Published) -> None:
    edit = submitted(http)
    events = list(events_of(http, edit))
    assert {name for name, _ in events} == {"status"}
    assert json.loads(events[-1][1])["timings"]["edit"] > 2 * PREVIEW_INTERVAL, "too short for a preview"
    assert published.count(edit["id"]) == 0
    assert http.get(f"{edit['links']['self']}/preview").status_code == 204
