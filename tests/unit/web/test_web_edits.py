"""Edits over HTTP: submit, list, show, cancel, retry, delete."""

import asyncio
import time

import pytest

from diffedit import JobNotFound, Stage, State, testing
from tests.support.factories import a_worker
from tests.support.web_api import PROMPTS, WebApi, png

pytestmark = pytest.mark.anyio
FILES = {"image": ("green.png", png(), "image/png")}


async def test_a_form_submits_an_edit(api: WebApi) -> None:
    data = {**PROMPTS, "seed": "7", "strength": "0.5", "mask_cleanup": "true", "lane": "batch", "negative_prompt": ""}
    response = await api("POST", "/v1/edits", 202, files=FILES, data=data)
    edit = response.json()
    assert response.headers["location"] == edit["links"]["self"] == f"/v1/edits/{edit['id']}"
    status = await api.job(edit).status()
    assert (status.owner, status.options.lane) == ("u17", "batch")
    params = status.request.params
    assert (params.seed, params.strength, params.mask_cleanup) == (7, 0.5, True)
    assert status.request.negative_prompt is None
    assert (edit["state"], edit["position"]) == ("queued", 0)
    assert (edit["texts"]["source_prompt"], edit["params"]["seed"]) == (PROMPTS["source_prompt"], 7)


async def test_a_status_shows_no_key_no_worker_and_no_owner(api: WebApi) -> None:
    edit = await api.submit()
    testing.succeed(api.job(edit))
    status = await api.job(edit).status()
    shown = (await api("GET", edit["links"]["self"], 200)).text
    secrets = [*status.artifact_keys.values(), *status.contents.values(), status.request.image, status.worker, "u17"]
    assert all(secrets)
    assert [secret for secret in secrets if str(secret) in shown] == []


@pytest.mark.parametrize("tags", [{"tags": '{"album": "9"}'}, {"tags[album]": "9"}])
async def test_a_form_has_tags_as_json_or_one_by_one(api: WebApi, tags: dict[str, str]) -> None:
    edit = await api.submit(**tags)
    assert edit["tags"] == {"album": "9"}
    assert [each["id"] for each in (await api("GET", "/v1/edits?tag=album%3D9", 200)).json()["data"]] == [edit["id"]]
    assert (await api("GET", "/v1/edits?tag=album%3D8", 200)).json()["data"] == []
    assert len((await api("GET", "/v1/edits?tag=album", 200)).json()["data"]) == 1


async def test_json_names_an_upload(api: WebApi) -> None:
    picture = png()
    asked = {"content_type": "image/png", "size": len(picture)}
    upload = (await api("POST", "/v1/uploads", 201, json=asked)).json()
    body = {"uploaded": upload["key"], **PROMPTS, "seed": 7, "mask_thresholding_ratio": "otsu"}
    assert await api.problem("POST", "/v1/edits", 400, json=body) == "upload_not_found"
    owned = api.client._blocking.for_owner("u17")
    testing.upload(owned, _url(upload), picture)
    edit = (await api("POST", "/v1/edits", 202, json=body)).json()
    assert (await api.job(edit).status()).request.params.mask_thresholding_ratio == "otsu"
    # It is the upload of this owner, whoever knows the key.
    assert await api.problem("POST", "/v1/edits", 400, json=body, headers=api.stranger) == "upload_not_found"


def _url(upload: dict[str, object]) -> object:
    from diffedit import UploadUrl

    return UploadUrl.model_validate(upload)


@pytest.mark.parametrize(
    ("data", "word"),
    [
        ({"strength": "2"}, "strength"),
        ({"seed": "x"}, "seed"),
        ({"strenght": "0.5"}, "did you mean strength"),
        ({"owner": "u18"}, "owner"),
        ({"idempotency_key": "x"}, "idempotency_key"),
        ({"uploaded": "uploads/x"}, "image"),
        ({"source_prompt": "a\x00b"}, "source_prompt"),
        ({"target_prompt": ""}, "target_prompt"),
        ({"tags": "nonsense"}, "tags"),
        ({"image": "/etc/passwd"}, "image: this must be a file"),
        ({"mask": "/etc/passwd"}, "mask: this must be a file"),
        ({"preset": "unheard"}, "preset"),
    ],
)
async def test_a_form_that_is_not_valid_is_refused(api: WebApi, data: dict[str, str], word: str) -> None:
    files = {} if "image" in data else {"files": FILES}
    if "uploaded" in data:
        files = {"files": {"mask": FILES["image"]}}
    response = await api("POST", "/v1/edits", 400, data={**PROMPTS, **data}, **(files or {"files": {"mask": b"x"}}))
    assert word in response.json()["detail"]
    assert (await api("GET", "/v1/edits", 200)).json()["data"] == []


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ("[]", "object"),
        ("nonsense", "no JSON"),
        ("[" * 50_000, "no JSON"),
        ("{}", "uploaded"),
        ('{"uploaded": 7}', "uploaded"),
        ('{"uploaded": "/etc/passwd", "target_prompt": "x"}', "no upload"),
        ('{"uploaded": "uploads/x", "image": "/etc/passwd"}', "image"),
        ('{"uploaded": "uploads/x", "mask": "/etc/passwd"}', "mask"),
        ('{"uploaded": "uploads/x", "target_prompt": "x", "seed": "7"}', "seed"),
        ('{"uploaded": "uploads/x", "target_prompt": "\\ud800"}', "target_prompt: Invalid JSON"),
        ('{"uploaded": "uploads/x", "tags": {"a": ["\\udc00\\ud800"]}}', "tags: Invalid JSON"),
        ('{"uploaded": "uploads/x", "target_prompt": "x", "strength": NaN}', "strength"),
    ],
)
async def test_json_that_is_not_valid_is_refused(api: WebApi, body: str, word: str) -> None:
    headers = {"Content-Type": "application/json"}
    response = await api("POST", "/v1/edits", 400, content=body, headers=headers)
    assert word in response.json()["detail"]


@pytest.mark.parametrize("path", ["/v1/edits", "/v1/masks"])
async def test_a_profile_that_nobody_knows_is_refused(api: WebApi, path: str) -> None:
    asked = {"files": FILES, "data": {**PROMPTS, "profile": "nosuch"}}
    problem = (await api("POST", path, 400, **asked)).json()
    assert problem["code"] == "unknown_profile"
    assert "now served: tiny" in problem["detail"]
    body = {"uploaded": "uploads/x", **PROMPTS, "profile": "nosuch"}
    assert await api.problem("POST", path, 400, json=body) == "unknown_profile"
    assert (await api("GET", "/v1/edits", 200)).json()["data"] == []
    # A worker that served it once may come back, so that such an edit waits.
    registry = api.client._blocking._backend.worker_registry
    registry.send_heartbeat(a_worker(profile="nosuch"))
    registry.unregister(a_worker().id)
    assert (await api("POST", path, 202, **asked)).json()["params"]["profile"] == "nosuch"


async def test_a_repeated_request_gets_the_first_edit(api: WebApi) -> None:
    async def submit(status: int, **data: str) -> dict[str, object]:
        options = {"files": FILES, "data": {**PROMPTS, **data}, "headers": {"Idempotency-Key": "order-17"}}
        return dict((await api("POST", "/v1/edits", status, **options)).json())

    first, again = await submit(202), await submit(202)
    assert first["id"] == again["id"]
    assert (await submit(409, seed="7"))["code"] == "idempotency_conflict"
    other = {"Idempotency-Key": "order-17", **api.stranger}
    strange = (await api("POST", "/v1/edits", 202, files=FILES, data=PROMPTS, headers=other)).json()
    assert strange["id"] != first["id"]


async def test_a_request_waits_for_the_end_if_it_prefers_to(api: WebApi) -> None:
    async def work() -> None:
        while not (page := await api.client.jobs()):
            await asyncio.sleep(0.01)
        testing.succeed(api.client.job(page[0].id))

    worker = asyncio.create_task(work())
    options = {"files": FILES, "data": PROMPTS, "headers": {"Prefer": "wait=30"}}
    response = await api("POST", "/v1/edits", 200, **options)
    await worker
    assert response.json()["state"] == "succeeded"
    assert response.headers["preference-applied"] == "wait=30"
    # Another one does not end in time.
    began = time.monotonic()
    response = await api("POST", "/v1/edits", 202, **{**options, "headers": {"Prefer": "respond-async, wait=1"}})
    assert response.json()["state"] == "queued"
    assert time.monotonic() - began >= 1
    shown = await api("GET", response.headers["location"], 200, headers={"Prefer": "wait=0"})
    assert shown.json()["state"] == "queued"


async def test_an_edit_that_succeeded_has_done_all_steps(api: WebApi) -> None:
    edit = await api.submit()
    job = api.job(edit)._blocking
    for stage in (Stage.EMBED, Stage.MASK, Stage.INVERT):
        testing._start(job, stage)
        testing._complete(job, stage, {})
    testing._start(job, Stage.EDIT)
    job._job_store.report_step(job.id, 21, 24, testing._WORKER)
    shown = (await api("GET", edit["links"]["self"], 200)).json()
    assert (shown["step"], shown["steps"]) == (21, 24)
    testing._complete(job, Stage.EDIT, {})
    shown = (await api("GET", edit["links"]["self"], 200)).json()
    assert (shown["state"], shown["step"], shown["steps"]) == ("succeeded", 24, 24)


async def test_a_mask_alone(api: WebApi) -> None:
    edit = await api.submit("/v1/masks", seed="7")
    assert edit["goal"] == "mask"
    assert (edit["links"]["result"], edit["links"]["thumbnail"]) == (None, None)
    testing.succeed(api.job(edit))
    assert (await api("GET", edit["links"]["mask"] + "?inline", 200)).headers["content-type"] == "image/png"
    assert await api.problem("GET", f"/v1/edits/{edit['id']}/result", 400) == "invalid_request"


async def test_pages_go_through_all_edits_of_the_owner(api: WebApi) -> None:
    ours = [(await api.submit())["id"] for _ in range(5)]
    await api("POST", "/v1/edits", 202, files=FILES, data=PROMPTS, headers=api.stranger)
    seen, cursor = [], ""
    while True:
        page = (await api("GET", f"/v1/edits?limit=2{cursor}", 200)).json()
        seen += [edit["id"] for edit in page["data"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert seen == ours[::-1]
    assert (await api("GET", "/v1/edits?state=failed", 200)).json()["data"] == []


@pytest.mark.parametrize("query", ["state=odd", "limit=0", "limit=101", "limit=x", "cursor=nonsense"])
async def test_a_wrong_query_is_refused(api: WebApi, query: str) -> None:
    assert await api.problem("GET", f"/v1/edits?{query}", 400) == "invalid_request"


async def test_a_parameter_that_no_route_knows_is_refused(api: WebApi) -> None:
    edit = await api.submit()
    response = await api("GET", "/v1/edits?stat=failed", 400)
    assert response.json()["detail"] == "stat: the query has no such parameter here; known: cursor, limit, state, tag"
    for path in (edit["links"]["self"], f"{edit['links']['self']}/texts", edit["links"]["mask"]):
        assert await api.problem("GET", f"{path}?wait=3", 400) == "invalid_request"
    assert await api.problem("POST", f"{edit['links']['self']}/cancel?force=1", 400) == "invalid_request"
    assert await api.problem("POST", "/v1/edits?seed=7", 400, files=FILES, data=PROMPTS) == "invalid_request"
    await api("GET", "/v1/models?api-version=1", 200)  # clients of OpenAI's API send what they like


async def test_an_edit_shows_what_became_of_its_events(api: WebApi) -> None:
    edit = await api.submit(webhook="https://example.com/hooks")
    resend = f"{edit['links']['self']}/webhook"
    assert (edit["webhook"], edit["deliveries"]) == ("https://example.com/hooks", [])
    assert await api.problem("POST", resend, 400) == "invalid_request"
    await api("POST", f"{edit['links']['self']}/cancel", 200)
    outbox = api.client._blocking._backend.outbox
    outbox.settle(outbox.claim(60), "the answer was 500")
    (delivery,) = (await api("GET", edit["links"]["self"], 200)).json()["deliveries"]
    known = {name: delivery[name] for name in ("event", "state", "attempts", "error")}
    assert known == {"event": "edit.cancelled", "state": "given_up", "attempts": 1, "error": "the answer was 500"}
    (delivery,) = (await api("POST", resend, 202)).json()["deliveries"]
    assert (delivery["state"], outbox.claim(60).job_id) == ("pending", edit["id"])
    assert (
        await api.problem("POST", "/v1/edits", 400, files=FILES, data={**PROMPTS, "webhook": "x"}) == "invalid_request"
    )


async def test_cancel_and_retry(api: WebApi) -> None:
    edit = await api.submit()
    assert await api.problem("POST", f"{edit['links']['self']}/retry", 400) == "invalid_request"
    for _ in range(2):
        cancelled = (await api("POST", f"{edit['links']['self']}/cancel", 200)).json()
        assert cancelled["state"] == "cancelled"
    retry = f"{edit['links']['self']}/retry"
    again = [(await api("POST", retry, 202, headers={"Idempotency-Key": "2"})).json()["id"] for _ in range(2)]
    assert again[0] == again[1] != edit["id"]
    assert await api.problem("GET", edit["links"]["result"], 409) == "job_cancelled"


async def test_a_deleted_edit_is_gone(api: WebApi) -> None:
    edit = await api.submit()
    testing.succeed(api.job(edit))
    keys = (await api.job(edit).status()).artifact_keys.values()
    await api("DELETE", edit["links"]["self"], 204)
    assert await api.problem("GET", edit["links"]["self"], 404) == "job_not_found"
    assert await api.problem("DELETE", edit["links"]["self"], 404) == "job_not_found"
    with pytest.raises(JobNotFound):
        await api.job(edit).status()
    assert not any(api.client._blocking._object_store.exists(key) for key in keys if "embedding" not in key)


async def test_a_failed_edit_tells_its_owner_what_concerns_the_request_only(api: WebApi) -> None:
    failed = await api.submit()
    testing.fail(api.job(failed), "empty_mask", "the mask selects nothing")
    error = (await api("GET", failed["links"]["self"], 200)).json()["error"]
    assert error == {"code": "empty_mask", "detail": "the mask selects nothing", "stage": "embed"}
    problem = (await api("GET", failed["links"]["result"], 422)).json()
    assert (problem["code"], problem["error_code"], problem["edit"]) == ("job_failed", "empty_mask", failed["id"])
    broken = await api.submit(seed="1")
    testing.fail(api.job(broken), "store_refused", "http://10.0.0.1:9000 refuses /srv/key")
    shown = (await api("GET", broken["links"]["self"], 200)).text + (
        await api("GET", broken["links"]["result"], 500)
    ).text
    assert "store_refused" in shown
    assert "10.0.0.1" not in shown
    assert "/srv" not in shown


async def test_of_many_submissions_each_makes_one_job(api: WebApi) -> None:
    ids = [edit["id"] for edit in await asyncio.gather(*(api.submit(seed=str(number)) for number in range(40)))]
    assert len(set(ids)) == 40
    assert {(await api.client.job(each).status()).state for each in ids} == {State.QUEUED}
