"""A small program that uses every public method, over the doubles. `test_wheel.py` runs it and checks its types."""

import asyncio
import io
import tempfile
from datetime import timedelta
from pathlib import Path

from PIL import Image
from pydantic import SecretStr

import diffedit
from diffedit import (
    AsyncClient,
    AsyncEditResult,
    AsyncJobHandle,
    Client,
    EditOptions,
    EditResult,
    JobHandle,
    JobStatus,
    PictureLike,
    State,
    UploadUrl,
    testing,
)


class Upload:
    """An upload as web frameworks have it: an asynchronous `read`, and the file inside as `.file`."""

    def __init__(self, data: bytes) -> None:
        self.file = io.BytesIO(data)

    async def read(self, size: int = -1) -> bytes:
        return self.file.read(size)


def picture_file() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(buffer, "PNG")
    return buffer.getvalue()


def submit(client: Client, folder: Path) -> list[JobHandle]:
    data = picture_file()
    path = folder / "picture.png"
    path.write_bytes(data)
    forms: list[PictureLike] = [
        path,
        str(path),
        data,
        bytearray(data),
        memoryview(data),
        io.BytesIO(data),
        Upload(data),
    ]
    jobs = [client.edit(form, source_concept="bowl", target_concept="basket") for form in forms]
    options: EditOptions = {"target_prompt": "a basket", "num_inference_steps": 20, "lane": "batch"}
    with path.open("rb") as file:
        jobs.append(client.edit(file, **options))
    jobs += client.edit_many(
        Image.open(path),
        ["a bowl of pears", {"target_prompt": "a basket", "strength": 0.5}],
        source_prompt="a bowl",
        scheduler="dpmsolver++",
        mask_thresholding_ratio="otsu",
        deadline=3600,
    )
    jobs.append(client.preview_mask(path, target_prompt="a basket", lane=diffedit.Lane.INTERACTIVE, seed=1))
    jobs.append(client.edit(path, target_prompt="a basket", mask=Image.new("L", (64, 64), 255), idempotency_key="key"))
    return jobs


def follow(client: Client, job: JobHandle) -> str:
    same: JobHandle = client.job(job.id)
    last: JobStatus = list(same.watch(timeout=1, heartbeat=0.5))[-1]
    state: State = job.wait(timeout=1, progress=False).state
    assert last.state is state is State.SUCCEEDED
    progress: float = job.status(timeout=1).progress
    return f"{state.value} {progress:.0%}"


def show(result: EditResult, folder: Path) -> str:
    images: list[Image.Image] = [result.original, result.image, result.mask, result.grid()]
    prompts: tuple[str, ...] = result.prompts.target
    manifest: dict[str, object] = result.manifest
    paths: dict[str, Path] = result.save(folder / "out")
    assert result.status.error is None and all(path.exists() for path in paths.values())
    small: Image.Image = result.thumbnail
    data, content_type = result.file("thumbnail")
    links = [result.url(expires=60), result.url(slot="thumbnail", filename="small.webp")]
    return f"{len(images)} {prompts[0]} {result.caption} {sorted(manifest)[0]} {links} {small} {data!r} {content_type}"


def send_from_a_browser(client: Client) -> JobHandle:
    url: UploadUrl = client.upload_url("image/png", size=1000, expires=60)
    testing.upload(client, url, picture_file().ljust(1000, b"\0"))
    key: str = url.key
    return client.edit(uploaded=key, target_prompt="a basket")


def fail_and_retry(job: JobHandle) -> str:
    testing.fail(job, "empty_mask", "no difference", stage=diffedit.Stage.MASK)
    assert job.result_so_far().original.size == (64, 64)
    try:
        job.result(timeout=1)
    except diffedit.JobFailed as error:
        again: JobHandle = job.retry(idempotency_key="again")
        cancelled: bool = again.cancel()
        return f"{error.error_code} {error.stage} {error.message} {cancelled}"
    raise AssertionError("the job has not failed")


def send_events(client: Client) -> str:
    job: JobHandle = client.edit(picture_file(), target_prompt="a basket", webhook="https://example.com/hooks")
    preview: bytes | None = job.preview()
    job.cancel()
    job.resend_webhook()
    deliveries: tuple[diffedit.Delivery, ...] = job.status().deliveries
    waiting: diffedit.WaitingEvents = client.health().webhooks
    try:
        secrets: list[str] = client.webhook_secrets("u17")
    except diffedit.InvalidRequest:
        secrets = []  # this client has none
    return f"{preview is None} {deliveries[0].event} {waiting.due} {waiting.unsent} {secrets}"


def operate(client: Client) -> str:
    client.check_profile("tiny")
    health: diffedit.Health = client.health()
    queued: list[JobStatus] = client.jobs(State.QUEUED, limit=10)
    collected: diffedit.Collected = client.collect_garbage(timedelta(days=1), dry_run=True)
    collected = client.collect_garbage("30d")
    restored: diffedit.Restored = client.restore("2h", timedelta(0), dry_run=True)
    present: int = restored.present
    try:
        client.job("0" * 32).status()
    except diffedit.JobLost as error:
        print("lost", error.data_since)
    except diffedit.JobNotFound as error:
        print("unknown", error.data_since)
    return f"{health.ok} {health.workers[0].profile} {len(queued)} {collected.objects} {present > 0}"


def edit_many_rows(client: Client) -> str:
    rows: list[dict[str, object]] = [{"picture": picture_file(), "target_prompt": "a basket", "strength": 7}]
    ended: list[str] = []
    for row, outcome in client.map(rows, in_flight=2, timeout=1, lane="batch"):
        refused: bool = isinstance(outcome, diffedit.InvalidRequest)
        ended.append(f"{row['target_prompt']} {refused}")
    job = client.edit(picture_file(), target_prompt="a basket")
    testing.succeed(job)
    first: JobHandle = next(client.as_completed([job], timeout=1))
    ((same, result),) = client.results([first], timeout=1)
    assert isinstance(result, EditResult) and same is job
    return f"{ended} {result.image.size}"


def serve_an_owner(client: Client) -> str:
    limits = diffedit.OwnerLimits(max_queued=5)
    client.set_owner_limits("u17", limits)
    assert client.owner_limits("u17") == limits
    theirs: Client = client.for_owner("u17")
    first, _ = (theirs.edit(picture_file(), target_prompt="a basket", tags={"album": name}) for name in ("8", "9"))
    page: diffedit.Page = theirs.jobs(tag=("album", "9"), limit=1)
    first.delete()
    used: list[diffedit.Usage] = client.usage("7d", by=("owner", "day"), owner="u17")
    deleted: diffedit.Deleted = client.delete_owner("u17")
    return f"{len(page)} {page[0].owner} {page.cursor} {used[0].day} {used[0].jobs} {deleted.jobs}"


def give_keys(client: Client) -> str:
    text, key = client.add_api_key("u17", name="shop", rate=60)
    admission: diffedit.Admission = client.admit(text)
    keys: list[diffedit.ApiKey] = client.api_keys()
    assert admission.key == key == keys[0]
    revoked: bool = client.revoke_api_key(key.id)
    return f"{key.owner} {admission.remaining} {revoked}"


def administer(client: Client) -> str:
    job = client.edit(picture_file(), target_prompt="a basket", owner="u17")
    admin: diffedit.Admin = client.admin
    query: diffedit.JobQuery = {"profile": "tiny", "older_than": timedelta(0), "state": "queued", "owner": "u17"}
    waiting: diffedit.Page = admin.jobs(10, **query)
    names: list[str] = admin.pause(lane="batch", reason="a test")
    paused: diffedit.Pause = client.health().paused[names[0]]
    queues: list[diffedit.QueueState] = [queue for queue in admin.queues() if queue.paused_since]
    assert admin.resume(dry_run=True) == names and admin.resume(profile="tiny") == names
    workers: list[diffedit.WorkerInfo] = admin.workers()
    why: diffedit.Explanation = admin.why(job.id)
    assert why.stage is diffedit.Stage.CAPTION and admin.drain(workers[0].id, dry_run=True)
    cancelled: list[diffedit.Changed] = admin.cancel(owner="u17", limit=5)
    retried: list[diffedit.Changed] = admin.retry(job.id, no_deadline=True)
    try:
        admin.move(job.id, to="tiny", dry_run=True)
    except diffedit.CannotChange as error:
        return f"{len(waiting)} {len(queues)} {paused.reason} {cancelled == retried} {admin.owners()} {error.code}"
    raise AssertionError


async def administer_and_await(client: AsyncClient) -> int:
    admin: diffedit.AsyncAdmin = client.admin
    queues: list[diffedit.QueueState] = await admin.queues()
    return len(queues) + len(await admin.jobs(state="running"))


async def submit_and_await(client: AsyncClient) -> list[AsyncJobHandle]:
    options: EditOptions = {"target_prompt": "a basket", "num_inference_steps": 20, "lane": "batch"}
    jobs: list[AsyncJobHandle] = [await client.edit(Upload(picture_file()), **options)]
    jobs += await client.edit_many(picture_file(), ["a bowl of pears", {"target_prompt": "a basket"}], deadline=3600)
    jobs.append(await client.preview_mask(picture_file(), target_prompt="a basket", seed=1))
    same: AsyncJobHandle = client.job(jobs[0].id)
    status: JobStatus = await same.status(timeout=1)
    assert status.state is State.QUEUED
    return jobs


async def follow_and_show(job: AsyncJobHandle, folder: Path) -> str:
    seen: list[State] = [status.state async for status in job.watch(timeout=1, heartbeat=0.5)]
    status: JobStatus = await job.wait(timeout=1)
    result: AsyncEditResult = await job.result(timeout=1)
    images: list[Image.Image] = [await result.original(), await result.image(), await result.mask()]
    images.append(await result.grid())
    caption: str = await result.caption()
    prompts: tuple[str, ...] = (await result.prompts()).target
    manifest: dict[str, object] = await result.manifest()
    paths: dict[str, Path] = await result.save(folder / "awaited")
    assert result.status == status and all(path.exists() for path in paths.values())
    return f"{seen[-1].value} {len(images)} {prompts[0]} {caption} {len(manifest)} {await result.url(expires=60)}"


async def edit_many_rows_and_await(client: AsyncClient) -> str:
    rows = [{"picture": picture_file(), "target_prompt": "a basket", "strength": 7}]
    refused = [isinstance(outcome, diffedit.InvalidRequest) async for _, outcome in client.map(rows, timeout=1)]
    job = await client.edit(picture_file(), target_prompt="a basket")
    testing.succeed(job)
    ended: list[AsyncJobHandle] = [each async for each in client.as_completed([job], timeout=1)]
    results = [result async for _, result in client.results(ended, timeout=1)]
    assert isinstance(results[0], AsyncEditResult)
    return f"{refused} {(await results[0].image()).size}"


async def operate_and_await(client: AsyncClient, job: AsyncJobHandle) -> str:
    cancelled: bool = await job.cancel()
    again: AsyncJobHandle = await job.retry(idempotency_key="again")
    health: diffedit.Health = await client.health()
    queued: list[JobStatus] = await client.jobs(State.QUEUED, limit=10)
    collected: diffedit.Collected = await client.collect_garbage(timedelta(days=1), dry_run=True)
    restored: diffedit.Restored = await client.restore(timedelta(hours=2))
    return f"{cancelled} {again.id != job.id} {health.ok} {len(queued)} {collected.objects} {restored.restored}"


async def async_main(folder: Path) -> None:
    async with testing.async_memory_client() as client:
        edited, failed, *others = await submit_and_await(client)
        testing.succeed(edited, Image.new("RGB", (64, 64), "blue"))
        print(await follow_and_show(edited, folder))
        testing.fail(failed, "empty_mask", "no difference", stage=diffedit.Stage.MASK)
        print(await operate_and_await(client, others[0]))
        print(await administer_and_await(client))
        print(await edit_many_rows_and_await(client))
    await client.close()


def main() -> None:
    with testing.memory_client() as client, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        edited, failed, *others = submit(client, folder)
        testing.succeed(edited, Image.new("RGB", (64, 64), "blue"), mask=Image.new("L", (64, 64), 255))
        print(follow(client, edited))
        print(show(edited.result(timeout=1), folder))
        print(fail_and_retry(failed))
        print(send_from_a_browser(client).id)
        print(send_events(client))
        print(operate(client))
        print(edit_many_rows(client))
        print(serve_an_owner(client))
        print(give_keys(client))
        print(administer(client))
        print(len(others), diffedit.__version__, diffedit.MAX_PICTURE_BYTES, diffedit.MAX_PIXELS)
        asyncio.run(async_main(folder))
    client.close()


def over_real_services(settings: diffedit.Settings | None = None) -> Client:
    return Client(settings) if settings else Client.from_env()


def over_real_services_with_asyncio(settings: diffedit.Settings | None = None) -> AsyncClient:
    return AsyncClient(settings) if settings else AsyncClient.from_env()


def over_the_connections_of(client: Client) -> AsyncClient:
    return AsyncClient.over(client)


def settings_by_name(password: str) -> diffedit.Settings:
    return diffedit.Settings(
        redis_url=SecretStr(f"redis://:{password}@host:6379/0"), s3_bucket="own", max_connections=8
    )


if __name__ == "__main__":
    main()
