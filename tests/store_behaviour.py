"""What every store promises; run over the double in tests/unit and over S3 in tests/integration."""

import os
from datetime import timedelta

import pytest

from api_client import store as module
from api_client.errors import ArtifactError
from api_client.store import Store, Stored, artifact_key, input_key


class StoreBehaviour:
    """Subclasses give a `store` fixture."""

    def test_what_is_put_can_be_had(self, store: Store) -> None:
        data = os.urandom(200_000)
        key = input_key(data, "png")
        assert not store.exists(key)
        store.put(key, data)
        assert store.exists(key)
        assert store.get(key) == data

    def test_nothing_is_a_typed_error(self, store: Store) -> None:
        with pytest.raises(ArtifactError, match="nothing is stored"):
            store.get(artifact_key("mask", os.urandom(32).hex(), "png"))

    @pytest.mark.parametrize(
        ("place", "limit"),
        [
            (lambda data: input_key(data, "png"), "MAX_BYTES"),
            (lambda data: artifact_key("prompts", "ab" * 32, "json"), "MAX_JSON_BYTES"),
            (lambda data: artifact_key("trajectory", "ab" * 32, "safetensors"), "MAX_RESULT_BYTES"),
        ],
    )
    def test_what_is_too_large_is_not_read(self, store: Store, monkeypatch, place, limit: str) -> None:
        monkeypatch.setattr(module, limit, 1000)
        small, large = bytes(1000), bytes(1001)
        store.put(place(small), small)
        assert store.get(place(small)) == small
        store.put(place(large), large)
        with pytest.raises(ArtifactError, match=r"takes 0\.0 MiB, over the limit of 0"):
            store.get(place(large))

    def test_a_picture_that_was_exchanged_is_not_read(self, store: Store) -> None:
        data = os.urandom(1000)
        key = input_key(data, "png")
        store.put(key, data[:-1])
        with pytest.raises(ArtifactError, match="not what its key promises"):
            store.get(key)
        store.put(key, data)
        assert store.get(key) == data

    def test_putting_again_changes_nothing(self, store: Store) -> None:
        data = os.urandom(100)
        key = input_key(data, "json")
        store.put(key, data)
        store.put(key, data)
        assert store.get(key) == data

    def test_what_was_stored_before_is_listed(self, store: Store) -> None:
        key = input_key(data := os.urandom(100), "png")
        store.put(key, data)
        assert key not in {each.key for each in store.older_than(timedelta(hours=1))}
        assert Stored(key, 100) in store.older_than(timedelta(seconds=-5))
        store.delete(key)
        assert key not in {each.key for each in store.older_than(timedelta(seconds=-5))}

    def test_it_answers(self, store: Store) -> None:
        store.ping()
