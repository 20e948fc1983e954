"""The pictures of an edit over HTTP: as links, and as bytes."""

import io

import pytest
from PIL import Image

from diffedit import Stage, testing
from diffedit.contract.stages import Artifact
from tests.support.web_api import SIZE, WebApi, png, web_api

pytestmark = pytest.mark.anyio
SLOTS = ("result", "mask", "original", "thumbnail")


@pytest.fixture
async def edit(api: WebApi) -> dict[str, object]:
    """Return an edit that has succeeded."""
    edit = await api.submit()
    testing.succeed(api.job(edit), Image.new("RGB", SIZE, "red"))
    return edit


@pytest.mark.parametrize("slot", SLOTS)
async def test_a_picture_is_a_link_to_the_bucket(api: WebApi, edit: dict[str, object], slot: str) -> None:
    response = await api("GET", f"/v1/edits/{edit['id']}/{slot}?filename=pears.png", 303)
    result = await api.job(edit).result()
    assert response.headers["location"] == await result.url(600, slot=slot, filename="pears.png")
    assert response.headers["cache-control"] == "private, max-age=300"


@pytest.mark.parametrize("inline", ["inline", "inline=", "inline=1"])
@pytest.mark.parametrize("slot", SLOTS)
async def test_a_picture_is_given_inline(api: WebApi, edit: dict[str, object], slot: str, inline: str) -> None:
    response = await api("GET", f"/v1/edits/{edit['id']}/{slot}?{inline}", 200)
    file = await (await api.job(edit).result()).file(slot)
    assert (response.content, response.headers["content-type"]) == (file.data, file.content_type)
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in response.headers["content-security-policy"]
    assert Image.open(io.BytesIO(response.content)).size == SIZE
    tag = response.headers["etag"]
    for known in (tag, f"W/{tag}", "*", f'"other", W/{tag}'):
        etag = {"If-None-Match": known}
        assert (await api("GET", f"/v1/edits/{edit['id']}/{slot}?{inline}", 304, headers=etag)).content == b""
    await api("GET", f"/v1/edits/{edit['id']}/{slot}?{inline}", 200, headers={"If-None-Match": f'"x{tag[1:]}'})


@pytest.mark.parametrize("slot", SLOTS)
async def test_the_headers_alone(api: WebApi, edit: dict[str, object], slot: str) -> None:
    path = f"/v1/edits/{edit['id']}/{slot}"
    for query, status in (("", 303), ("?inline", 200)):
        shown = await api("GET", path + query, status)
        alone = await api("HEAD", path + query, status)
        assert alone.content == b""
        varying = {"x-ratelimit-remaining"}
        assert {k: v for k, v in alone.headers.items() if k not in varying} == {
            k: v for k, v in shown.headers.items() if k not in varying
        }
    await api("HEAD", path, 404, headers=api.stranger)


async def test_a_server_without_links_gives_bytes() -> None:
    async with web_api(links=False) as api:
        edit = await api.submit()
        testing.succeed(api.job(edit))
        response = await api("GET", f"{edit['links']['result']}?filename=%C3%A4.png", 200)
        assert response.headers["content-disposition"].startswith("attachment; filename=")


@pytest.mark.parametrize("inline", ["", "&inline"])
async def test_a_name_of_a_file_is_checked(api: WebApi, edit: dict[str, object], inline: str) -> None:
    for name in ("a%2Fb", "%0d%0aSet-Cookie:x", "x" * 151):
        path = f"/v1/edits/{edit['id']}/result?filename={name}{inline}"
        assert await api.problem("GET", path, 400) == "invalid_request"


async def test_what_is_not_made_yet_is_a_conflict_and_the_original_is_there(api: WebApi) -> None:
    edit = await api.submit()
    for slot in ("result", "mask", "thumbnail"):
        response = await api("GET", f"/v1/edits/{edit['id']}/{slot}", 409)
        assert response.json()["code"] == "not_finished"
        assert response.headers["retry-after"] == "5"
    original = await api("GET", f"/v1/edits/{edit['id']}/original?inline", 200)
    assert Image.open(io.BytesIO(original.content)).getpixel((0, 0)) == (0, 128, 0)


async def test_the_mask_is_there_while_the_edit_goes_on(api: WebApi) -> None:
    edit = await api.submit()
    job = api.job(edit)._blocking
    for stage in (Stage.EMBED, Stage.MASK):
        testing._start(job, stage)
        testing._complete(job, stage, {Artifact.MASK: png("L", 255)})
    assert (await api("GET", edit["links"]["self"], 200)).json()["state"] == "running"
    assert (await api("GET", edit["links"]["mask"] + "?inline", 200)).content == png("L", 255)
    assert await api.problem("GET", edit["links"]["result"], 409) == "not_finished"


async def test_a_picture_that_was_lost_is_no_mistake_of_the_server(api: WebApi, edit: dict[str, object]) -> None:
    key = (await api.job(edit).status()).artifact_keys[Artifact.RESULT]
    api.client._blocking._object_store.delete(key)
    assert await api.problem("GET", f"/v1/edits/{edit['id']}/result?inline", 500) == "artifact_missing"


async def test_a_preview_is_there_while_the_picture_forms(api: WebApi) -> None:
    edit = await api.submit()
    job, path = api.job(edit)._blocking, edit["links"]["preview"]
    store, worker = job._job_store, testing._WORKER
    for stage in (Stage.EMBED, Stage.MASK, Stage.INVERT):
        testing._start(job, stage)
        assert (await api("GET", path, 204)).content == b""
        assert store.report_step(job.id, 1, 2, worker) == (None, False)  # nobody can watch this stage
        testing._complete(job, stage, {})
    testing._start(job, Stage.EDIT)
    assert store.report_step(job.id, 1, 2, worker) == (None, False)
    await api("GET", path, 204)
    assert store.report_step(job.id, 1, 2, worker) == (None, True)
    store.publish_preview(job.id, b"RIFF")
    response = await api("GET", path, 200)
    assert (response.content, response.headers["content-type"]) == (b"RIFF", "image/webp")
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-content-type-options"] == "nosniff"
    testing._complete(job, Stage.EDIT, {})
    await api("GET", path, 204)


async def test_a_mask_has_no_preview(api: WebApi) -> None:
    edit = await api.submit("/v1/masks")
    assert edit["links"]["preview"] is None
    await api("GET", f"/v1/edits/{edit['id']}/preview", 204)
