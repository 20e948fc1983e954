"""What is one owner's does not exist for another one: every route of the application, in every state of an edit."""

import re
from collections.abc import Callable

import httpx
import pytest

from diffedit import JobStatus, OwnerLimits, Stage, State, UploadUrl, testing
from diffedit.handle import JobHandle
from tests.support.web_api import PROMPTS, WebApi, png, routes

pytestmark = pytest.mark.anyio
FILES = {"image": ("green.png", png(), "image/png")}
OF_AN_EDIT = "{edit_id}"
OF_NO_OWNER = {"/v1/health", "/v1/models", "/v1/models/{model}"}
LISTS = {"/v1/edits"}
SUBMISSIONS = {"/v1/edits", "/v1/masks", "/v1/uploads", "/v1/images/edits"}
"""The paths that name no edit. A route that is in none of these sets must be added to one, and to a test below."""
HEADERS = {"Prefer": "wait=1", "Idempotency-Key": "order-17", "Last-Event-ID": "0" * 16, "If-None-Match": "*"}


def operations(api: WebApi) -> set[tuple[str, str]]:
    """Return the method and the path of every route. One of HEAD is that of GET."""
    return {(method, route.path) for route in routes(api.app) for method in route.methods - {"HEAD"}}


def heads(api: WebApi) -> set[str]:
    return {route.path for route in routes(api.app) if "HEAD" in route.methods}


def queued(job: JobHandle) -> None:
    pass


def running(job: JobHandle) -> None:
    """The picture forms, and there is a preview."""
    for stage in (Stage.EMBED, Stage.MASK, Stage.INVERT):
        testing._start(job, stage)
        testing._complete(job, stage, {})
    testing._start(job, Stage.EDIT)
    job._job_store.publish_preview(job.id, b"RIFF preview")


def failed(job: JobHandle) -> None:
    testing.fail(job, "empty_mask", "the mask selects nothing")


def cancelled(job: JobHandle) -> None:
    job.cancel()


async def test_every_route_is_of_an_edit_or_known_to_these_tests(api: WebApi) -> None:
    of_no_edit = {(method, path) for method, path in operations(api) if OF_AN_EDIT not in path}
    assert of_no_edit == ({("GET", path) for path in OF_NO_OWNER | LISTS} | {("POST", path) for path in SUBMISSIONS})
    assert heads(api) <= {path for method, path in operations(api) if method == "GET"}
    names = {name for _, path in operations(api) for name in re.findall(r"{(\w+)", path)}
    assert names == {"edit_id", "model"}


@pytest.mark.parametrize(
    "become", [queued, running, testing.succeed, failed, cancelled], ids=lambda each: each.__name__
)
@pytest.mark.parametrize("query", ["", "?inline", "?preview=true"])
async def test_every_route_of_an_edit_hides_the_edits_of_others(
    api: WebApi, become: Callable[[JobHandle], None], query: str
) -> None:
    edit = await api.submit(webhook="https://shop.example/hooks")
    become(api.job(edit)._blocking)
    before, unknown = await api.job(edit).status(queue=True), "0" * 32
    found = sorted((method, path) for method, path in operations(api) if OF_AN_EDIT in path)
    assert len(found) >= 12
    parameters = {
        (method.upper(), path): {each["name"] for each in operation.get("parameters", ()) if each["in"] == "query"}
        for path, described in api.app.openapi()["paths"].items()
        for method, operation in described.items()
    }
    asked = query[1:].partition("=")[0]
    for method, path in found:
        answers = []
        for edit_id in (edit["id"], unknown):
            headers = {**HEADERS, **api.stranger}
            url = path.replace(OF_AN_EDIT, edit_id) + query
            known = not asked or asked in parameters[method, path]
            status, code = (404, "job_not_found") if known else (400, "invalid_request")
            assert await api.problem(method, url, status, headers=headers) == code, (method, path)
            answers.append(without_id(await api(method, url, status, headers=headers), edit_id))
            if known and path in heads(api) and method == "GET":
                await api("HEAD", url, 404, headers=headers)
        # Nothing tells that the edit exists.
        assert answers[0] == answers[1], (method, path)
    after = await api.job(edit).status(queue=True)
    assert unchanging(after) == unchanging(before)
    assert [status.id for status in await api.client.jobs()] == [edit["id"]]


def without_id(response: httpx.Response, edit_id: str) -> tuple[str, dict[str, str]]:
    """Return the body and the headers of an answer without what the caller has sent."""
    headers = {name: value for name, value in response.headers.items() if name != "x-ratelimit-remaining"}
    return response.text.replace(edit_id, "ID"), headers


def unchanging(status: JobStatus) -> JobStatus:
    return status.model_copy(update={"eta": None})


async def test_no_list_shows_the_edits_of_others(api: WebApi) -> None:
    for number in range(3):
        edit = await api.submit(seed=str(number), **{"tags[album]": "9"})
    cursor = (await api("GET", "/v1/edits?limit=1", 200)).json()["next_cursor"]
    for path in LISTS:
        for query in ("", f"?cursor={cursor}", "?tag=album", "?tag=album%3D9", "?state=queued", "?limit=100"):
            shown = await api("GET", path + query, 200, headers=api.stranger)
            assert shown.json()["data"] == [], query
    assert len((await api("GET", "/v1/edits", 200)).json()["data"]) == 3
    for path in OF_NO_OWNER:
        shown = await api("GET", path.replace("{model}", "tiny"), 200, headers=api.stranger)
        assert edit["id"] not in shown.text and "u17" not in shown.text


@pytest.mark.parametrize("path", ["/v1/edits", "/v1/masks"])
async def test_an_idempotency_key_of_another_is_a_key_of_ones_own(api: WebApi, path: str) -> None:
    key = {"Idempotency-Key": "order-17"}
    theirs = (await api("POST", path, 202, files=FILES, data=PROMPTS, headers=key)).json()
    stranger = {**key, **api.stranger}
    # Other options would be a conflict, if the key were the same one.
    own = [
        (await api("POST", path, 202, files=FILES, data={**PROMPTS, "seed": "7"}, headers=stranger)).json()["id"]
        for _ in range(2)
    ]
    assert own[0] == own[1] != theirs["id"]
    assert await api.problem("POST", path, 409, files=FILES, data=PROMPTS, headers=stranger) == "idempotency_conflict"
    assert (await api("POST", path, 202, files=FILES, data=PROMPTS, headers=key)).json()["id"] == theirs["id"]


@pytest.mark.parametrize("path", ["/v1/edits", "/v1/masks"])
async def test_an_upload_of_another_does_not_exist(api: WebApi, path: str) -> None:
    asked = {"content_type": "image/png", "size": len(png())}
    upload = (await api("POST", "/v1/uploads", 201, json=asked)).json()
    testing.upload(api.client._blocking.for_owner("u17"), UploadUrl.model_validate(upload), png())
    edit = (await api("POST", path, 202, json={"uploaded": upload["key"], **PROMPTS})).json()
    testing.succeed(api.job(edit))
    status = await api.job(edit).status()
    strange = (await api("POST", "/v1/uploads", 201, json=asked, headers=api.stranger)).json()
    folder = upload["key"].rpartition("/")[0]
    assert strange["key"].rpartition("/")[0] != folder
    # Each that exists, one that does not, and what the other one's edit is made of and has made.
    missing = (f"{folder}/{'0' * 32}.png", f"{folder}/../{'0' * 32}.png", strange["key"])
    refusals = set()
    for key in (upload["key"], *missing, status.request.image, *status.artifact_keys.values()):
        refused = await api("POST", path, 400, json={"uploaded": key, **PROMPTS}, headers=api.stranger)
        assert refused.json()["code"] == "upload_not_found"
        refusals.add(refused.text)
    assert len(refusals) == 1
    assert [status.id for status in await api.client.jobs()] == [edit["id"]]


@pytest.mark.parametrize("path", ["/v1/edits", "/v1/masks"])
async def test_who_has_as_many_waiting_edits_as_allowed_may_try_again_later(api: WebApi, path: str) -> None:
    api.client._blocking.set_owner_limits("u17", OwnerLimits(max_queued=1))
    edit = await api.submit()
    asked = {"files": FILES, "data": PROMPTS}
    response = await api("POST", path, 429, **asked)
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert (problem["code"], problem["status"], problem["retryable"]) == ("owner_limit", 429, True)
    assert "1 waiting" in problem["detail"]
    assert int(response.headers["retry-after"]) > 0
    # It is no limit of others, and what was refused is nowhere.
    await api("POST", path, 202, **asked, headers=api.stranger)
    assert [each["id"] for each in (await api("GET", "/v1/edits", 200)).json()["data"]] == [edit["id"]]
    await api("POST", f"{edit['links']['self']}/cancel", 200)
    await api("POST", path, 202, **asked)
    assert await api.problem("POST", f"{edit['links']['self']}/retry", 429) == "owner_limit"


@pytest.mark.parametrize("limit", [{"max_pixels": 64 * 48 - 1}, {"max_steps": 10}])
async def test_what_is_over_a_limit_for_good_is_refused_for_good(api: WebApi, limit: dict[str, int]) -> None:
    api.client._blocking.set_owner_limits("u17", OwnerLimits(**limit))
    data = {**PROMPTS, "num_inference_steps": "20"}
    response = await api("POST", "/v1/edits", 403, files=FILES, data=data)
    problem = response.json()
    assert (problem["code"], problem["retryable"]) == ("owner_limit", False)
    assert "retry-after" not in response.headers
    assert "DIFFEDIT" not in response.text and "u17" not in response.text


async def test_a_limit_of_an_owner_in_the_form_of_openais_api(api: WebApi) -> None:
    api.client._blocking.set_owner_limits("u17", OwnerLimits(max_queued=1))
    response = await api("POST", "/v1/images/edits", 429, files=FILES, data={"prompt": "a bowl of pears", "n": "2"})
    assert response.json()["error"]["code"] == "owner_limit"
    assert int(response.headers["retry-after"]) > 0
    # The first of the two was submitted, and nobody could fetch it.
    assert {status.state for status in await api.client.jobs()} <= {State.CANCELLED}


async def test_the_documentation_names_both_answers(api: WebApi) -> None:
    for path in ("/v1/edits", "/v1/masks", "/v1/edits/{edit_id}/retry"):
        answers = api.app.openapi()["paths"][path]["post"]["responses"]
        assert all("owner_limit" in answers[status]["description"] for status in ("403", "429"))
