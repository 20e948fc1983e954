"""What a browser does with the bucket: it opens links, sends uploads, and asks first whether it may (CORS)."""

import json
import re
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import pytest

from diffedit import MAX_PICTURE_BYTES, BadPicture, Client, NoWorkerWarning, Settings, UploadNotFound, UploadUrl
from diffedit.contract.object_keys import artifact_key, thumbnail_key
from diffedit.objects.links import attachment
from diffedit.objects.s3 import S3ObjectStore
from tests.support.fake_service import TEXTS, png
from tests.support.moto_server import BUCKET, MotoServer

GUIDE = Path(__file__).parents[2] / "docs/guides/browsers.md"
PAGE = "https://app.example"


def request(method: str, url: str, data: bytes | None = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        answer = urllib.request.urlopen(urllib.request.Request(url, data, named, method=method))
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        return answer.status, {name.lower(): value for name, value in answer.headers.items()}, answer.read()


def send(upload: UploadUrl, data: bytes, content_type: str | None = None) -> int:
    """Send a file as a browser does: the body of a PUT, or the last field of a form."""
    if upload.method == "PUT":
        headers = {**upload.headers, **({"Content-Type": content_type} if content_type else {})}
        return request("PUT", upload.url, data, Content_Type=headers["Content-Type"])[0]
    boundary = uuid.uuid4().hex
    parts = [("", name, value.encode()) for name, value in upload.fields.items()]
    parts.append(('; filename="a picture.png"\r\nContent-Type: image/png', "file", data))
    form = b"".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + value + b"\r\n"
        for more, name, value in parts
    )
    body = form + f"--{boundary}--\r\n".encode()
    return request("POST", upload.url, body, Content_Type=f"multipart/form-data; boundary={boundary}")[0]


@pytest.fixture
def client(settings: Settings) -> Iterator[Client]:
    with Client(settings) as client:
        yield client


@pytest.fixture
def object_store(settings: Settings) -> S3ObjectStore:
    return S3ObjectStore(settings)


@pytest.fixture(scope="module")
def moto() -> Iterator[MotoServer]:
    with MotoServer() as server:
        server.create_bucket()
        yield server


def edited(client: Client, key: str) -> bytes:
    with pytest.warns(NoWorkerWarning):
        job = client.edit(uploaded=key, **TEXTS)
    job.cancel()
    return client._object_store.get(job.status().request.image)


def test_what_a_browser_puts_is_edited(client: Client) -> None:
    upload = client.upload_url("image/png", size=len(png()), expires=60)
    with pytest.raises(UploadNotFound):
        client.edit(uploaded=upload.key, **TEXTS)
    assert send(upload, png()) == 200
    assert edited(client, upload.key) == edited(client, upload.key) == png()


def test_the_server_refuses_another_size_type_key_or_time(client: Client) -> None:
    upload = client.upload_url("image/png", size=len(png()), expires=60)
    assert send(upload, png() + b"x") == 403
    assert send(upload, png()[:-1]) == 403
    assert send(upload, png(), "text/html") == 403
    other = client.upload_url("image/png", size=len(png()), expires=60)
    moved = upload.model_copy(update={"url": upload.url.replace(upload.key, other.key)})
    assert send(moved, png()) == 403
    for key in (upload.key, other.key):
        with pytest.raises(UploadNotFound):
            client.edit(uploaded=key, **TEXTS)
    brief = client.upload_url("image/png", size=len(png()), expires=1)
    time.sleep(2.1)
    assert send(brief, png()) in (400, 403)


def test_an_upload_link_reads_and_deletes_nothing(client: Client) -> None:
    upload = client.upload_url("image/png", size=len(png()), expires=60)
    assert send(upload, png()) == 200
    assert request("GET", upload.url)[0] in (400, 403)
    assert request("DELETE", upload.url)[0] in (400, 403)
    assert edited(client, upload.key) == png()


def test_what_a_browser_posts_is_edited(moto: MotoServer, settings: Settings) -> None:
    """moto accepts any form, so this shows only that the form arrives, and that the client trusts no server."""
    where = moto.settings(redis_url=settings.redis_url, s3_upload_method="post")
    with Client(where) as client:
        upload = client.upload_url("image/png", size=len(png()), expires=60)
        assert send(upload, png()) == 204
        assert edited(client, upload.key) == png()
        large = client.upload_url("image/png", size=MAX_PICTURE_BYTES, expires=60)
        assert send(large, bytes(MAX_PICTURE_BYTES + 1)) == 204
        with pytest.raises(BadPicture, match="more than 32 MiB"):
            client.edit(uploaded=large.key, **TEXTS)


def test_a_link_opens_with_its_type_and_name(object_store: S3ObjectStore) -> None:
    key = thumbnail_key(artifact_key("result", "ab" * 32, "png"))
    object_store.put(key, b"a picture")
    status, headers, body = request("GET", object_store.url(key, 60))
    assert (status, body, headers["content-type"]) == (200, b"a picture", "image/webp")
    assert "content-disposition" not in headers
    named = object_store.url(key, 60, attachment('Äpfel "rot".webp'))
    assert request("GET", named)[1]["content-disposition"] == attachment('Äpfel "rot".webp')
    assert request("GET", named.replace("rot", "gelb"))[0] == 403


def test_a_link_opens_only_at_the_host_that_it_is_signed_for(settings: Settings) -> None:
    internal = settings.s3_endpoint_url
    assert internal
    public = internal.replace("127.0.0.1", "localhost")
    store, key = (
        S3ObjectStore(settings.model_copy(update={"s3_public_url": public})),
        artifact_key("mask", "ab" * 32, "png"),
    )
    store.put(key, b"a mask")
    link = store.url(key, 60)
    assert link.startswith(f"{public}/diffedit/artifacts/mask/")
    assert request("GET", link)[2] == b"a mask"
    assert request("GET", link.replace(public, internal))[0] == 403
    assert request("GET", store.url(key, 60).replace(public, internal), Host=urlsplit(public).netloc)[2] == b"a mask"


def test_a_page_of_any_origin_may_send_uploads_to_the_embedded_server(client: Client) -> None:
    upload = client.upload_url("image/png", size=len(png()), expires=60)
    asks = {"Access_Control_Request_Method": "PUT", "Access_Control_Request_Headers": "content-type"}
    status, headers, _ = request("OPTIONS", upload.url, Origin=PAGE, **asks)
    assert status == 200
    assert headers["access-control-allow-origin"] in ("*", PAGE)
    assert "PUT" in headers["access-control-allow-methods"]
    assert "content-type" in headers["access-control-allow-headers"].lower()
    assert send(upload, png()) == 200
    _, headers, _ = request("GET", client._object_store.url(upload.key, 60), Origin=PAGE)
    assert headers["access-control-allow-origin"] in ("*", PAGE)


def test_the_rule_in_the_guide_is_one_that_s3_takes(moto: MotoServer) -> None:
    rule = json.loads(re.search(r"```json\n(.*?)```", GUIDE.read_text(), re.DOTALL)[1])  # type: ignore[index]
    s3 = boto3.client("s3", endpoint_url=moto.url, **moto_keys(moto))
    s3.put_bucket_cors(Bucket=BUCKET, CORSConfiguration=rule)
    (stored,) = s3.get_bucket_cors(Bucket=BUCKET)["CORSRules"]
    assert {"PUT", "POST", "GET"} <= set(stored["AllowedMethods"])
    assert [name.lower() for name in stored["AllowedHeaders"]] == ["content-type"]


def moto_keys(moto: MotoServer) -> dict[str, str]:
    settings = moto.settings()
    assert settings.aws_access_key_id and settings.aws_secret_access_key
    return {
        "region_name": str(settings.aws_region),
        "aws_access_key_id": settings.aws_access_key_id,
        "aws_secret_access_key": settings.aws_secret_access_key.get_secret_value(),
    }
