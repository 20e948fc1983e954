"""What every store promises; run over the double in tests/unit and over S3 in tests/integration."""

import os
from datetime import UTC, datetime, timedelta

import pytest

from diffedit.contract.object_keys import ARTIFACTS, INPUTS, UPLOADS, artifact_key, input_key, upload_key
from diffedit.errors import ArtifactError
from diffedit.objects import store as module
from diffedit.objects.store import ObjectStore, Stored


class ObjectStoreBehaviour:
    """Subclasses give a `store` fixture."""

    def test_what_is_put_can_be_had(self, object_store: ObjectStore) -> None:
        data = os.urandom(200_000)
        key = input_key(data, "png")
        assert not object_store.exists(key)
        object_store.put(key, data)
        assert object_store.exists(key)
        assert object_store.get(key) == data

    def test_nothing_is_a_typed_error(self, object_store: ObjectStore) -> None:
        with pytest.raises(ArtifactError, match="nothing is stored"):
            object_store.get(artifact_key("mask", os.urandom(32).hex(), "png"))

    @pytest.mark.parametrize(
        ("place", "limit"),
        [
            (lambda data: input_key(data, "png"), "MAX_PICTURE_BYTES"),
            (lambda data: f"{UPLOADS}common/{len(data):032x}.png", "MAX_PICTURE_BYTES"),
            (lambda data: artifact_key("prompts", "ab" * 32, "json"), "MAX_JSON_BYTES"),
            (lambda data: artifact_key("trajectory", "ab" * 32, "safetensors"), "MAX_RESULT_BYTES"),
        ],
    )
    def test_what_is_too_large_is_not_read(self, object_store: ObjectStore, monkeypatch, place, limit: str) -> None:
        monkeypatch.setattr(module, limit, 1000)
        small, large = bytes(1000), bytes(1001)
        object_store.put(place(small), small)
        assert object_store.get(place(small)) == small
        object_store.put(place(large), large)
        with pytest.raises(ArtifactError, match=r"has 0\.0 MiB, over the limit of 0"):
            object_store.get(place(large))

    def test_a_picture_that_was_exchanged_is_not_read(self, object_store: ObjectStore) -> None:
        data = os.urandom(1000)
        key = input_key(data, "png")
        object_store.put(key, data[:-1])
        with pytest.raises(ArtifactError, match="not the one that was uploaded"):
            object_store.get(key)
        object_store.put(key, data)
        assert object_store.get(key) == data

    def test_putting_again_changes_nothing(self, object_store: ObjectStore) -> None:
        data = os.urandom(100)
        key = input_key(data, "json")
        object_store.put(key, data)
        object_store.put(key, data)
        assert object_store.get(key) == data

    def test_what_was_stored_before_is_listed(self, object_store: ObjectStore) -> None:
        key = input_key(data := os.urandom(100), "png")
        object_store.put(key, data)
        assert key not in {each.key for each in object_store.older_than(timedelta(hours=1))}
        assert Stored(key, 100) in object_store.older_than(timedelta(seconds=-5))
        object_store.delete(key)
        assert key not in {each.key for each in object_store.older_than(timedelta(seconds=-5))}

    def test_what_is_listed_can_be_limited_to_folders(self, object_store: ObjectStore) -> None:
        data = os.urandom(100)
        keys = {INPUTS: input_key(data, "png"), UPLOADS: upload_key("u17", "png"), ARTIFACTS: _artifact()}
        for key in keys.values():
            object_store.put(key, data)
        later = timedelta(seconds=-5)
        for folder, key in keys.items():
            found = {each.key for each in object_store.older_than(later, (folder,))}
            assert key in found and all(each.startswith(folder) for each in found)
        assert set(keys.values()) <= {each.key for each in object_store.older_than(later)}

    def test_an_upload_can_be_replaced(self, object_store: ObjectStore) -> None:
        key = upload_key(None, "jpg")
        for data in (b"first", b"second"):
            object_store.put(key, data)
            assert object_store.get(key) == data

    def test_links_and_upload_urls_name_the_key(self, object_store: ObjectStore) -> None:
        key = upload_key(None, "webp")
        assert key in object_store.url(key, 60)
        assert "attachment" in object_store.url(key, 60, "attachment")
        upload = object_store.upload_url(key, "image/webp", 10, 60)
        assert key in (upload.url.partition("?")[0][-len(key) :], upload.fields.get("key"))
        assert (upload.key, upload.size) == (key, 10)
        assert abs((upload.expires_at - datetime.now(UTC)).total_seconds() - 60) < 10

    def test_it_answers(self, object_store: ObjectStore) -> None:
        object_store.ping()


def _artifact() -> str:
    return artifact_key("result", os.urandom(32).hex(), "png")
