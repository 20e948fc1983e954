"""API keys in a real Valkey, whatever somebody has put there."""

import pytest
import redis

from diffedit import Client, Settings
from diffedit.errors import InvalidKey, RateLimited
from diffedit.jobs import keys


@pytest.fixture
def server(settings: Settings) -> redis.Redis:
    server = redis.Redis.from_url(settings.redis_url.get_secret_value(), decode_responses=True)
    server.flushdb()
    return server


@pytest.fixture
def client(settings: Settings) -> Client:
    return Client(settings)


@pytest.mark.parametrize(
    "entry", ["", "nonsense", "[]", "{}", "7", "null", '{"digest": 7}', '{"rate": "x"}', "[" * 5000]
)
def test_an_entry_that_cannot_be_read_is_no_key(client: Client, server: redis.Redis, entry: str) -> None:
    text, key = client.add_api_key("u17")
    other, _ = client.add_api_key("u18")
    server.hset(keys.API_KEYS, key.id, entry)
    with pytest.raises(InvalidKey):
        client.admit(text)
    assert [each.owner for each in client.api_keys()] == ["u18"]
    assert client.admit(other).key.owner == "u18"


@pytest.mark.parametrize("field", ['"owner": "u17"', '"created_at"'])
def test_an_entry_without_what_it_must_have_is_no_key(client: Client, server: redis.Redis, field: str) -> None:
    text, key = client.add_api_key("u17")
    entry = server.hget(keys.API_KEYS, key.id)
    server.hset(keys.API_KEYS, key.id, entry.replace(field, '"x": "y"' if ":" in field else '"x"'))
    with pytest.raises(InvalidKey):
        client.admit(text)


@pytest.mark.parametrize("value", ["nonsense", "-1e300", "9e14", "nan", ""])
def test_a_count_that_cannot_be_meant_is_forgotten(client: Client, server: redis.Redis, value: str) -> None:
    text, key = client.add_api_key("u17", rate=1)
    server.set(keys.RATE + key.id, value)
    client.admit(text)
    with pytest.raises(RateLimited):
        client.admit(text)
    assert 0 < server.ttl(keys.RATE + key.id) <= 61


def test_a_key_of_another_type_costs_the_keys_and_nothing_else(client: Client, server: redis.Redis) -> None:
    text, key = client.add_api_key("u17")
    server.delete(keys.RATE + key.id)
    server.lpush(keys.RATE + key.id, "x")
    assert client.admit(text).key == key
    server.delete(keys.API_KEYS)
    server.lpush(keys.API_KEYS, "x")
    assert client.api_keys() == []
    with pytest.raises(InvalidKey):
        client.admit(text)
    assert keys.API_KEYS in client.health().damaged
    text, key = client.add_api_key("u17")
    assert client.admit(text).key == key


def test_only_a_hash_is_stored(client: Client, server: redis.Redis) -> None:
    text, _ = client.add_api_key("u17", name="shop")
    client.admit(text)
    stored = repr([server.hgetall(keys.API_KEYS), server.keys("*")])
    assert "shop" in stored
    assert text.rpartition("_")[2] not in stored
