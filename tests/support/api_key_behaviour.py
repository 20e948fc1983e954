"""How every store of API keys finds keys and counts requests: over the double, and over Redis."""

import time

import pytest

from diffedit.api_keys import ApiKey, add_key, admit
from diffedit.errors import InvalidKey, InvalidRequest, RateLimited
from diffedit.jobs.backend import JobBackend
from tests.support.backend_behaviour import BackendBehaviour


class ApiKeyBehaviour(BackendBehaviour):
    def test_a_key_admits_its_owner_until_it_is_revoked(self, backend: JobBackend) -> None:
        store = backend.api_keys
        text, key = add_key(store, "u17", name="shop", rate=60)
        other_text, other = add_key(store, "u18")
        assert admit(store, text).key == key
        assert (key.owner, key.name, key.rate) == ("u17", "shop", 60)
        assert store.list() == [key, other]
        assert store.revoke(key.id) is True
        assert store.revoke(key.id) is False
        with pytest.raises(InvalidKey, match="revoked"):
            admit(store, text)
        assert admit(store, other_text).key == other

    def test_a_key_with_the_secret_of_another_is_refused(self, backend: JobBackend) -> None:
        (first, key), (second, _) = (add_key(backend.api_keys, "u17") for _ in range(2))
        mixed = f"diffedit_{key.id}_{second.rpartition('_')[2]}"
        with pytest.raises(InvalidKey):
            admit(backend.api_keys, mixed)
        assert admit(backend.api_keys, first).key == key

    @pytest.mark.parametrize("text", ["", "diffedit_", "diffedit_" + "0" * 12, "nonsense", "diffedit_\n", "ä" * 100])
    def test_what_cannot_be_a_key_is_refused(self, backend: JobBackend, text: str) -> None:
        with pytest.raises(InvalidKey, match="no API key"):
            admit(backend.api_keys, text)

    def test_a_key_admits_as_many_requests_a_minute_as_its_rate(self, backend: JobBackend) -> None:
        text, _ = add_key(backend.api_keys, "u17", rate=20)
        left = [admit(backend.api_keys, text).remaining for _ in range(20)]
        assert left == sorted(left, reverse=True)
        assert left[0] == 19
        # As long as the test takes, one request every three seconds is given back.
        refused = None
        for _ in range(20):
            try:
                admit(backend.api_keys, text)
            except RateLimited as error:
                refused = error
                break
        assert refused is not None
        assert 0 < refused.retry_after <= 3
        time.sleep(refused.retry_after + 0.01)
        assert admit(backend.api_keys, text).remaining == 0

    def test_keys_are_counted_apart(self, backend: JobBackend) -> None:
        one, other = (add_key(backend.api_keys, "u17", rate=1)[0] for _ in range(2))
        admit(backend.api_keys, one)
        with pytest.raises(RateLimited, match="more than 1 requests"):
            admit(backend.api_keys, one)
        admit(backend.api_keys, other)

    @pytest.mark.parametrize(
        "wrong", [{"owner": ""}, {"owner": "a\x1fb"}, {"owner": "a" * 201}, {"rate": 0}, {"name": "n" * 101}]
    )
    def test_a_key_that_is_not_valid_is_not_made(self, backend: JobBackend, wrong: dict[str, object]) -> None:
        with pytest.raises(InvalidRequest, match=next(iter(wrong))):
            add_key(backend.api_keys, **{"owner": "u17", **wrong})
        assert backend.api_keys.list() == []

    def test_no_text_of_a_key_is_kept(self, backend: JobBackend) -> None:
        text, key = add_key(backend.api_keys, "u17")
        assert text.rpartition("_")[2] not in repr(vars(backend.api_keys))
        assert set(key.model_dump()) == set(ApiKey.model_fields)
