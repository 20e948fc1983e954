"""Pictures that a browser has sent to the bucket: what a client takes of them, and what it refuses."""

import hashlib

import pytest

from diffedit import MAX_PICTURE_BYTES, BadPicture, InvalidRequest, UploadNotFound, UploadUrl, testing
from diffedit.contract.object_keys import INPUTS, UPLOADS, is_upload_key, upload_key
from diffedit.direct_uploads import EXTENSIONS, given_picture, new_upload
from diffedit.objects.memory import MemoryObjectStore
from tests.support.fake_service import TEXTS, FakeService, png

OWN = upload_key(None, "png")


@pytest.fixture
def service() -> FakeService:
    return FakeService()


def uploaded(service: FakeService, data: bytes) -> str:
    url = service.client.upload_url("image/png", size=len(data))
    service.object_store.put(url.key, data)
    return url.key


def test_an_upload_is_edited_like_a_picture_that_a_program_gives(service: FakeService) -> None:
    key = uploaded(service, png())
    job, same = service.client.edit(uploaded=key, **TEXTS, seed=1), service.client.edit(png(), **TEXTS, seed=1)
    assert job.status().request == same.status().request
    assert service.object_store.get(job.status().request.image) == png()
    mask = service.client.preview_mask(uploaded=key, **TEXTS)
    (first, second) = service.client.edit_many(None, ["a bowl of pears", "a basket"], uploaded=key)
    assert {each.status().request.image for each in (mask, first, second)} == {job.status().request.image}


def test_a_call_with_an_upload_can_be_repeated(service: FakeService) -> None:
    key = uploaded(service, png())
    jobs = [service.client.edit(uploaded=key, **TEXTS, idempotency_key="k").id for _ in range(2)]
    # The key of the upload is no part of the request: only its content counts.
    other = uploaded(service, png())
    assert {*jobs, service.client.edit(uploaded=other, **TEXTS, idempotency_key="k").id} == {jobs[0]}


def test_an_upload_that_is_replaced_after_the_edit_changes_nothing(service: FakeService) -> None:
    key = uploaded(service, png())
    job = service.client.edit(uploaded=key, **TEXTS)
    service.object_store.put(key, png(colour="red"))
    assert service.object_store.get(job.status().request.image) == png()


NO_PICTURES = {
    "empty": (b"", "empty"),
    "GIF": (b"GIF89a", "PNG, JPEG or WebP"),
    "a page": (b"<html><script>alert(1)</script>", "PNG, JPEG or WebP"),
    "cut off": (png()[:50], "damaged"),
    "tiny": (png((4, 4)), "at least"),
    "huge": (png() + bytes(MAX_PICTURE_BYTES), "more than 32 MiB"),
}


@pytest.mark.parametrize("what", NO_PICTURES)
def test_what_is_no_picture_is_refused_and_leaves_nothing(service: FakeService, what: str) -> None:
    data, reason = NO_PICTURES[what]
    key = OWN
    service.object_store.put(key, data)
    with pytest.raises(BadPicture, match=reason):
        service.client.edit(uploaded=key, **TEXTS)
    assert service.sent == [] and list(service.object_store._objects) == [key]


STRANGE = {
    "nothing there": OWN,
    "no text": 7,
    "empty": "",
    "the picture of another": f"{INPUTS}ab/{'ab' * 32}.png",
    "an artifact": f"artifacts/result/ab/{'ab' * 32}.png",
    "a path upwards": f"{UPLOADS}common/../../{INPUTS}ab/{'ab' * 32}.png",
    "a line more": f"{OWN}\n",
    "another kind of file": OWN.replace("png", "json"),
    "an owner's": upload_key("u17", "png"),
    "another project's": "secrets.png",
}


@pytest.mark.parametrize("what", STRANGE)
def test_a_key_that_is_not_of_ones_uploads_is_not_found(service: FakeService, what: str) -> None:
    key = STRANGE[what]
    if what != "nothing there":
        service.object_store.put(key, png())
    with pytest.raises(UploadNotFound, match="no upload has this key, or it was deleted"):
        service.client.edit(uploaded=key, **TEXTS)
    assert service.sent == []


def test_a_picture_is_given_in_one_way(service: FakeService) -> None:
    with pytest.raises(InvalidRequest, match="one of both"):
        service.client.edit(png(), uploaded=uploaded(service, png()), **TEXTS)
    with pytest.raises(BadPicture, match="uploaded="):
        service.client.edit(**TEXTS)


def test_uploads_of_two_owners_are_apart() -> None:
    store = MemoryObjectStore()
    keys = {owner: new_upload(store, "image/png", 10, 60, owner).key for owner in (None, "u17", "u18", "common")}
    assert len({key.rpartition("/")[0] for key in keys.values()}) == len(keys)
    for owner, key in keys.items():
        store.put(key, png())
        assert given_picture(None, key, store, owner) == png()
        assert [other for other in keys if is_upload_key(other, key)] == [owner]
    assert "u17" not in keys["u17"], "the name of an owner may be a person's"


def test_an_upload_url_says_what_to_send(service: FakeService) -> None:
    for content_type, extension in EXTENSIONS.items():
        url = service.client.upload_url(content_type, size=1000, expires=60)
        assert isinstance(url, UploadUrl)
        assert url.key.startswith(UPLOADS) and url.key.endswith(f".{extension}")
        assert (url.method, url.headers, url.fields, url.size) == ("PUT", {"Content-Type": content_type}, {}, 1000)
    keys = {service.client.upload_url("image/png", size=1).key for _ in range(100)}
    assert len(keys) == 100


@pytest.mark.parametrize(
    ("content_type", "size", "expires", "reason"),
    [
        ("image/gif", 10, 60, "content_type"),
        ("text/html", 10, 60, "content_type"),
        ("image/png\r\nx-amz-acl: public-read", 10, 60, "content_type"),
        (None, 10, 60, "content_type"),
        (["image/png"], 10, 60, "content_type"),
        ("image/png", 0, 60, "empty"),
        ("image/png", -1, 60, "size"),
        ("image/png", 1.5, 60, "size"),
        ("image/png", True, 60, "size"),
        ("image/png", None, 60, "size"),
        ("image/png", MAX_PICTURE_BYTES + 1, 60, "more than 32 MiB"),
        ("image/png", 10, 0, "1 to 604800"),
        ("image/png", 10, 604801, "1 to 604800"),
        ("image/png", 10, 60.5, "1 to 604800"),
        ("image/png", 10, "60", "1 to 604800"),
    ],
)
def test_an_upload_url_that_makes_no_sense_is_refused(service, content_type, size, expires, reason) -> None:
    with pytest.raises(InvalidRequest, match=reason):
        service.client.upload_url(content_type, size=size, expires=expires)


def test_a_program_can_test_its_uploads() -> None:
    client = testing.memory_client()
    url = client.upload_url("image/png", size=len(png()))
    with pytest.raises(UploadNotFound):
        client.edit(uploaded=url.key, **TEXTS)
    with pytest.raises(InvalidRequest, match="bytes"):
        testing.upload(client, url, png() + b"x")
    testing.upload(client, url, png())
    key = client.edit(uploaded=url.key, **TEXTS).status().request.image
    assert hashlib.sha256(png()).hexdigest() in key
