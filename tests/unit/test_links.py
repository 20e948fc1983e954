"""Links to the pictures of a job: what is signed, for which host, and under which name a browser saves them."""

import base64
import hashlib
import hmac
import io
import json
from datetime import UTC, datetime, timedelta
from email.message import Message
from email.policy import HTTP
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from PIL import Image, ImageChops

from diffedit import Client, InvalidRequest, Settings, testing
from diffedit.contract.object_keys import artifact_key, thumbnail_key, upload_key
from diffedit.contract.stages import Artifact
from diffedit.handle import JobHandle
from diffedit.objects.links import MAX_FILENAME, attachment
from diffedit.objects.s3 import S3ObjectStore
from diffedit.result import EditResult
from tests.support.fake_service import TEXTS
from tests.support.images import gradient, same

RESULT = artifact_key("result", "ab" * 32, "png")
PUBLIC = "https://pictures.example.org"


def settings(**fields: object) -> Settings:
    given = {"s3_endpoint_url": "http://s3:9000", "aws_access_key_id": "id", "aws_secret_access_key": "secret"}
    return Settings(**{**given, "aws_region": "eu-west-3", **fields})  # type: ignore[arg-type]


@pytest.fixture
def client() -> Client:
    return testing.memory_client()


def finished(client: Client, **options: object) -> JobHandle:
    job = client.edit(gradient((640, 400)), **TEXTS, **options)  # type: ignore[arg-type]
    testing.succeed(job)
    return job


def test_links_are_signed_for_the_host_that_browsers_reach() -> None:
    store = S3ObjectStore(settings(s3_public_url=PUBLIC))
    link = urlsplit(store.url(RESULT, 60))
    assert (link.scheme, link.netloc, link.path) == ("https", "pictures.example.org", f"/diffedit/{RESULT}")
    upload = store.upload_url(upload_key(None, "png"), "image/png", 10, 60)
    assert urlsplit(upload.url).netloc == "pictures.example.org"
    # Everything else goes to the endpoint.
    assert store._s3.meta.endpoint_url == "http://s3:9000"
    # The host is a part of the signature.
    hosts = (settings(), settings(s3_public_url="http://s3:9000"), settings(s3_public_url="http://s4:9000"))
    queries = [parse_qs(urlsplit(S3ObjectStore(each).url(RESULT, 60)).query) for each in hosts]
    while len({query["X-Amz-Date"][0] for query in queries}) > 1:  # the second has changed in between
        queries = [parse_qs(urlsplit(S3ObjectStore(each).url(RESULT, 60)).query) for each in hosts]
    signatures = [query["X-Amz-Signature"] for query in queries]
    assert signatures[0] == signatures[1] != signatures[2]


def test_without_a_public_host_links_are_those_of_the_endpoint() -> None:
    assert S3ObjectStore(settings()).url(RESULT, 60).startswith(f"http://s3:9000/diffedit/{RESULT}?")
    on_aws = S3ObjectStore(settings(s3_endpoint_url=None))
    assert urlsplit(on_aws.url(RESULT, 60)).netloc.startswith("diffedit.s3.")
    virtual = settings(s3_public_url=PUBLIC, s3_addressing_style="virtual")
    assert urlsplit(S3ObjectStore(virtual).url(RESULT, 60)).netloc == "diffedit.pictures.example.org"
    before_aws = settings(s3_endpoint_url=None, s3_public_url=PUBLIC)
    assert S3ObjectStore(before_aws).url(RESULT, 60).startswith(f"{PUBLIC}/diffedit/{RESULT}?")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("https://example.org/s3", "a host name or a port of its own"),
        ("https://example.org?x=1", "a host name or a port of its own"),
        ("ftp://example.org", "http://host:port"),
        ("pictures.example.org", "http://host:port"),
        ("https://user:password@example.org", "must not contain a password"),
    ],
)
def test_a_public_host_that_cannot_be_signed_for_is_refused(url: str, reason: str) -> None:
    with pytest.raises(InvalidRequest, match=f"DIFFEDIT_S3_PUBLIC_URL: .*{reason}") as refused:
        Settings.from_env({"DIFFEDIT_S3_PUBLIC_URL": url})
    assert "password@" not in str(refused.value)


def test_a_link_fixes_content_type_and_name() -> None:
    query = parse_qs(urlsplit(S3ObjectStore(settings()).url(RESULT, 60, attachment("a.png"))).query)
    assert query["response-content-type"] == ["image/png"]
    assert query["response-content-disposition"] == ["attachment; filename=\"a.png\"; filename*=UTF-8''a.png"]
    assert query["X-Amz-Expires"] == ["60"]
    assert "response-content-disposition" not in parse_qs(urlsplit(S3ObjectStore(settings()).url(RESULT, 60)).query)
    webp = urlsplit(S3ObjectStore(settings()).url(thumbnail_key(RESULT), 60))
    assert parse_qs(webp.query)["response-content-type"] == ["image/webp"]


def test_a_put_signs_length_and_type() -> None:
    upload = S3ObjectStore(settings()).upload_url(upload_key(None, "png"), "image/png", 10, 60)
    query = parse_qs(urlsplit(upload.url).query)
    assert query["X-Amz-SignedHeaders"] == ["content-length;content-type;host"]
    assert (upload.method, upload.headers, upload.fields) == ("PUT", {"Content-Type": "image/png"}, {})
    assert timedelta(seconds=50) < upload.expires_at - datetime.now(UTC) <= timedelta(seconds=60)


def test_a_post_signs_a_policy_of_key_length_and_type() -> None:
    """The signature is computed here once more, as a server does (AWS, "Browser-based uploads using POST")."""
    key = upload_key(None, "webp")
    store = S3ObjectStore(settings(s3_upload_method="post", s3_public_url=PUBLIC))
    upload = store.upload_url(key, "image/webp", 1234, 60)
    assert (upload.method, upload.url, upload.headers) == ("POST", f"{PUBLIC}/diffedit", {})
    policy = json.loads(base64.b64decode(upload.fields["policy"]))
    for condition in (
        {"key": key},
        {"bucket": "diffedit"},
        {"Content-Type": "image/webp"},
        ["content-length-range", 1234, 1234],
    ):
        assert condition in policy["conditions"]
    # Every field but the signature and the policy has to be in the policy, or a server refuses the form.
    named = {name for each in policy["conditions"] if isinstance(each, dict) for name in each}
    assert set(upload.fields) - {"policy", "x-amz-signature"} <= named
    expires = datetime.fromisoformat(policy["expiration"])
    assert abs(expires - upload.expires_at) < timedelta(seconds=5)
    day, signing_key = upload.fields["x-amz-date"][:8], b"AWS4secret"
    for part in (day, "eu-west-3", "s3", "aws4_request"):
        signing_key = hmac.digest(signing_key, part.encode(), hashlib.sha256)
    expected = hmac.digest(signing_key, upload.fields["policy"].encode(), hashlib.sha256).hex()
    assert upload.fields["x-amz-signature"] == expected


NAMES = {
    "plain": "pears.png",
    "spaces": "a bowl of pears.png",
    "German": "Schale mit Äpfeln.png",
    "Chinese": "梨.png",
    "an emoji": "\N{PEAR}.png",
    "a family, joined": "\U0001f468\u200d\U0001f469.png",
    "quotes": 'a "bowl".png',
    "a percent": "100%20.png",
    "a semicolon": "a; filename=evil.exe",
    "stars and brackets": "a*[b]<c>.png",
    "the longest": "ä" * MAX_FILENAME,
}


@pytest.mark.parametrize("what", NAMES)
def test_browsers_save_a_download_under_its_name(what: str) -> None:
    name = NAMES[what]
    value = attachment(name)
    assert value.isascii() and value.isprintable()
    first, _, extended = value.partition("; filename*=UTF-8''")
    assert unquote(extended, errors="strict") == name
    # No character ends the quoted text early, or means something within it.
    assert first.startswith('attachment; filename="') and first.count('"') == 2 and "\\" not in first
    assert "%" not in first
    header = Message(policy=HTTP)
    header["Content-Disposition"] = f"attachment; filename*=UTF-8''{extended}"
    assert header["Content-Disposition"].params["filename"] == name


@pytest.mark.parametrize(
    "name",
    ["", " ", "..", "a/b.png", "a\\b.png", "a\nb", "a\r\nSet-Cookie: x=1", "a\0b", "a\x7fb", "a\x9bb", "a\u2028b",
     "\ud800", "gnp.\u202eexe", "\u2066a", "a" * (MAX_FILENAME + 1), 7],
)  # fmt: skip
def test_a_name_that_is_none_is_refused(client: Client, name: object) -> None:
    with pytest.raises(InvalidRequest, match="filename"):
        finished(client).result().url(filename=name)  # type: ignore[arg-type]


def test_each_picture_has_a_link_and_a_file(client: Client) -> None:
    job = finished(client)
    result, keys = job.result(), job.status().artifact_keys
    places = {
        "result": keys[Artifact.RESULT],
        "mask": keys[Artifact.MASK],
        "original": job.status().request.image,
        "thumbnail": thumbnail_key(keys[Artifact.RESULT]),
    }
    for slot, key in places.items():
        assert result.url(slot=slot).startswith(f"memory://{key}?")  # type: ignore[arg-type]
        stored = result.file(slot)  # type: ignore[arg-type]
        assert stored.data == client._object_store.get(key)
        assert stored.content_type == ("image/webp" if slot == "thumbnail" else "image/png")
    assert result.url() == result.url(slot="result") == result.url(3600)
    assert "disposition=attachment" in result.url(slot="mask", filename="m.png")
    with pytest.raises(InvalidRequest, match="slot: 'caption' is none of result, mask, original, thumbnail"):
        result.url(slot="caption")  # type: ignore[arg-type]


def test_a_drawn_mask_has_a_link(client: Client) -> None:
    mask = Image.new("L", (640, 400), 255)
    job = finished(client, mask=mask)
    result = job.result()
    assert result.url(slot="mask").startswith("memory://inputs/")
    assert result.file("mask").data == client._object_store.get(job.status().request.mask)


def test_a_mask_preview_links_to_its_mask(client: Client) -> None:
    job = client.preview_mask(gradient((32, 16)), **TEXTS)
    testing.succeed(job)
    result = job.result()
    assert result.url() == result.url(slot="mask")
    assert result.file() == result.file("mask")
    for slot in ("result", "thumbnail"):
        with pytest.raises(Exception, match="made no result"):
            result.url(slot=slot)  # type: ignore[arg-type]


@pytest.mark.parametrize("expires", [0, -1, 604_801, 1.5, "60", None, True, float("nan"), -(10**5000)], ids=range(9))
def test_the_time_of_a_link_has_limits(client: Client, expires: object) -> None:
    with pytest.raises(InvalidRequest, match=r"expires must be 1 to 604800 seconds \(7 days\)"):
        finished(client).result().url(expires)  # type: ignore[arg-type]


def test_a_thumbnail_is_small_and_looks_like_the_result(client: Client) -> None:
    result = finished(client).result()
    assert result.thumbnail.size == (320, 200)
    assert len(result.file("thumbnail").data) < 20_000
    difference = ImageChops.difference(result.image.resize(result.thumbnail.size), result.thumbnail)
    assert max(high for _, high in difference.getextrema()) < 32


def without_thumbnail(client: Client, job: JobHandle) -> None:
    client._object_store.delete(thumbnail_key(job.status().artifact_keys[Artifact.RESULT]))


def test_a_missing_or_damaged_thumbnail_is_made_of_the_result(client: Client) -> None:
    job = finished(client)
    stored = job.result().file("thumbnail")
    without_thumbnail(client, job)
    assert same(job.result().thumbnail, Image.open(io.BytesIO(stored.data)).convert("RGB"))
    client._object_store.put(thumbnail_key(job.status().artifact_keys[Artifact.RESULT]), b"RIFF")
    assert job.result().file("thumbnail") == stored


def test_a_result_of_an_older_worker_is_its_own_thumbnail(client: Client) -> None:
    job = finished(client)
    without_thumbnail(client, job)
    status = job.status()
    older = EditResult(status.model_copy(update={"contents": {}}), client._object_store, lambda keys: {})
    assert older.url(slot="thumbnail") == older.url(slot="result")
    assert older.thumbnail.size == (320, 200)
