"""OpenAI's convention, called by OpenAI's own client in this process. tests/acceptance has it over a real worker."""

import asyncio
import base64
import contextlib
import io
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx2
import openai
import pytest
from PIL import Image

from diffedit import AsyncJobHandle, JobStatus, State, testing
from tests.support.web_api import SIZE, WebApi, png, web_api

pytestmark = pytest.mark.anyio
RED = Image.new("RGB", SIZE, "red")
PROMPT = {"prompt": "a bowl of pears", "model": "tiny"}


class Worker:
    """Ends each job that is submitted, in the background. `statuses` are those of all jobs, in order."""

    def __init__(self, api: WebApi, end: Callable[[AsyncJobHandle], None]) -> None:
        self.api, self.end, self.statuses = api, end, list[JobStatus]()

    async def run(self) -> None:
        while True:
            for status in await self.api.client.jobs():
                if not status.is_terminal:
                    self.end(self.api.client.job(status.id))
                    self.statuses.append(status)
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def working(
    api: WebApi, end: Callable[[AsyncJobHandle], None] = lambda job: testing.succeed(job, RED)
) -> AsyncIterator[Worker]:
    worker = Worker(api, end)
    task = asyncio.create_task(worker.run())
    yield worker
    task.cancel()


@pytest.fixture
async def client(api: WebApi) -> AsyncIterator[openai.AsyncOpenAI]:
    key = api.headers["Authorization"].partition(" ")[2]
    async with openai_client(api, key) as client:
        yield client


def openai_client(api: WebApi, key: str) -> openai.AsyncOpenAI:
    transport = httpx2.ASGITransport(app=api.app)
    http = httpx2.AsyncClient(transport=transport)
    return openai.AsyncOpenAI(api_key=key, base_url="http://testserver/v1", http_client=http, max_retries=0)


def opened(image: Any) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(image.b64_json)))


async def test_a_picture_is_edited(api: WebApi, client: openai.AsyncOpenAI) -> None:
    async with working(api) as worker:
        extra = {"source_prompt": "a bowl of fruits", "seed": 7, "strength": 0.5, "tags": {"album": "9"}}
        answer = await client.images.edit(image=png(), **PROMPT, extra_body=extra)
    (status,) = worker.statuses
    request = status.request
    assert (request.source_prompt, request.target_prompt) == ("a bowl of fruits", "a bowl of pears")
    assert (request.params.seed, request.params.strength, request.params.profile) == (7, 0.5, "tiny")
    assert (status.owner, status.tags) == ("u17", {"album": "9"})
    (image,) = answer.data
    assert opened(image).getpixel((0, 0)) == (255, 0, 0)
    assert (image.edit, image.seed) == (status.id, 7)
    assert (answer.output_format, answer.created > 10**9) == ("png", True)


async def test_a_mask_is_transparent_where_the_picture_may_change(api: WebApi, client: openai.AsyncOpenAI) -> None:
    mask = Image.new("RGBA", SIZE, (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (0, 0, 20, SIZE[1]))
    buffer = io.BytesIO()
    mask.save(buffer, "PNG")
    async with working(api) as worker:
        await client.images.edit(image=png(), mask=buffer.getvalue(), **PROMPT)
        ours = png("L", 255)
        await client.images.edit(image=png(), mask=ours, **PROMPT)
    used = [
        Image.open(io.BytesIO(api.client._blocking._object_store.get(each.request.mask))) for each in worker.statuses
    ]
    assert [used[0].getpixel((x, 5)) for x in (0, 19, 20, 60)] == [255, 255, 0, 0]
    assert used[1].getextrema() == (255, 255)


async def test_a_mask_that_is_opaque_and_black_everywhere_is_explained(api: WebApi, client: openai.AsyncOpenAI) -> None:
    for mask in (png("RGBA", (0, 0, 0, 255)), png("L", 0)):
        with pytest.raises(openai.BadRequestError, match="make transparent what may change") as caught:
            await client.images.edit(image=png(), mask=mask, **PROMPT)
        assert (caught.value.param, caught.value.code) == ("mask", "bad_picture")


async def test_several_pictures_have_several_seeds(api: WebApi, client: openai.AsyncOpenAI) -> None:
    async with working(api):
        answer = await client.images.edit(image=png(), n=3, **PROMPT, extra_body={"seed": 2**32 - 2})
        assert [image.seed for image in answer.data] == [2**32 - 2, 2**32 - 1, 0]
        drawn = await client.images.edit(image=png(), n=2, **PROMPT)
        assert len({image.seed for image in drawn.data}) == 2


@pytest.mark.parametrize(
    ("size", "expected"), [("auto", SIZE), ("64x48", SIZE), ("128x96", (128, 96)), ("32x24", (32, 24))]
)
@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
async def test_sizes_and_formats(
    api: WebApi, client: openai.AsyncOpenAI, size: str, expected: tuple[int, int], kind: str
) -> None:
    async with working(api):
        answer = await client.images.edit(image=png(), size=size, output_format=kind, output_compression=90, **PROMPT)
    image = opened(answer.data[0])
    assert (image.size, image.format, answer.output_format) == (expected, kind.upper(), kind)


async def test_a_link_instead_of_the_bytes(api: WebApi, client: openai.AsyncOpenAI) -> None:
    async with working(api):
        (image,) = (await client.images.edit(image=png(), response_format="url", **PROMPT)).data
    assert image.url.startswith("memory://artifacts/result/")
    assert image.b64_json is None


async def test_two_concepts(api: WebApi, client: openai.AsyncOpenAI) -> None:
    async with working(api) as worker:
        await client.images.edit(image=png(), prompt="basket", extra_body={"source_concept": "bowl"})
    request = worker.statuses[0].request
    assert (request.source_concept, request.target_concept, request.target_prompt) == ("bowl", "basket", None)


async def test_what_openais_models_know_and_ours_do_not_is_ignored(api: WebApi, client: openai.AsyncOpenAI) -> None:
    async with working(api) as worker:
        await client.images.edit(
            image=[png()], quality="high", background="auto", input_fidelity="low", user="x", stream=False, **PROMPT
        )
    assert len(worker.statuses) == 1


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"prompt": ""}, "prompt"),
        ({"n": 11}, "n"),
        ({"n": "x"}, "n"),
        ({"size": "1x1000"}, "size"),
        ({"size": "huge"}, "size"),
        ({"size": "99999x99999"}, "size"),
        ({"output_format": "gif"}, "output_format"),
        ({"response_format": "url", "output_format": "webp"}, "response_format"),
        ({"stream": True}, "stream"),
        ({"extra_body": {"strength": 2}}, "strength"),
        ({"extra_body": {"target_prompt": "x"}}, "target_prompt"),
        ({"extra_body": {"profile": "tiny"}}, "profile"),
        ({"extra_body": {"owner": "u18"}}, "owner"),
        ({"extra_body": {"strenght": 1}}, "strenght"),
    ],
)
async def test_a_wrong_field_is_named(
    api: WebApi, client: openai.AsyncOpenAI, options: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await client.images.edit(image=png(), **{**PROMPT, **options})
    assert (caught.value.param, caught.value.code) == (param, "invalid_request")
    assert caught.value.type == "invalid_request_error"
    assert await api.client.jobs() == []


async def test_errors_are_those_of_openais_client(api: WebApi, client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="GET /v1/models"):
        await client.images.edit(image=png(), prompt="a bowl of pears", model="gpt-image-1")
    with pytest.raises(openai.BadRequestError) as caught:
        await client.images.edit(image=b"no picture", **PROMPT)
    assert caught.value.code == "bad_picture"
    async with openai_client(api, "sk-wrong") as other:
        with pytest.raises(openai.AuthenticationError):
            await other.images.edit(image=png(), **PROMPT)
        with pytest.raises(openai.AuthenticationError, match="key") as refused:
            await other.models.list()
    assert (refused.value.code, refused.value.type) == ("invalid_key", "authentication_error")
    with pytest.raises(openai.NotFoundError, match="of this name") as unknown:
        await client.models.retrieve("nosuch")
    assert (unknown.value.code, unknown.value.type) == ("not_found", "not_found_error")
    # The same answers are problems of our own API.
    assert await api.problem("GET", "/v1/models/nosuch", 404) == "not_found"
    async with working(api, lambda job: testing.fail(job, "empty_mask", "the mask selects nothing")):
        with pytest.raises(openai.UnprocessableEntityError, match="selects nothing") as failed:
            await client.images.edit(image=png(), **PROMPT)
    assert failed.value.code == "empty_mask"


async def test_the_models(client: openai.AsyncOpenAI) -> None:
    (model,) = [model async for model in client.models.list()]
    assert (model.id, model.object, model.owned_by) == ("tiny", "model", "diffedit")
    assert (await client.models.retrieve("tiny")).id == "tiny"
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("dall-e-2")


async def test_a_repeated_call_with_a_key_gets_the_same_edits(api: WebApi, client: openai.AsyncOpenAI) -> None:
    async with working(api) as worker:
        for _ in range(2):
            headers = {"Idempotency-Key": "order-17"}
            answer = await client.images.edit(image=png(), n=2, **PROMPT, extra_headers=headers)
            assert len({image.edit for image in answer.data}) == 2
    assert len(worker.statuses) == 2


async def test_if_one_of_several_fails_the_others_are_cancelled(api: WebApi, client: openai.AsyncOpenAI) -> None:
    ended = []

    def fail_first(job: AsyncJobHandle) -> None:
        if not ended:
            testing.fail(job, "empty_mask", "the mask selects nothing")
            ended.append(job.id)

    async with working(api, fail_first):
        with pytest.raises(openai.UnprocessableEntityError):
            await client.images.edit(image=png(), n=3, **PROMPT)
    assert sorted(status.state for status in await api.client.jobs()) == [
        State.CANCELLED,
        State.CANCELLED,
        State.FAILED,
    ]


async def test_without_links_a_link_is_refused() -> None:
    async with web_api(links=False) as api, openai_client(api, api.headers["Authorization"][7:]) as client:
        with pytest.raises(openai.BadRequestError, match="b64_json"):
            await client.images.edit(image=png(), response_format="url", **PROMPT)
