"""The cache of the bytes that a worker has just read or written."""

from diffedit_worker.runtime.byte_cache import ByteCache


def full_cache() -> ByteCache:
    byte_cache = ByteCache(max_bytes=100)
    for name in "abcd":
        byte_cache.add(name, name.encode() * 25)
    return byte_cache


def test_it_returns_what_was_added() -> None:
    assert full_cache().get("a") == b"a" * 25
    assert full_cache().get("e") is None


def test_a_new_object_replaces_the_least_recently_used_one() -> None:
    byte_cache = full_cache()
    assert byte_cache.get("a")
    byte_cache.add("e", bytes(25))
    assert [name for name in "abcde" if byte_cache.get(name) is None] == ["b"]


def test_an_object_larger_than_a_quarter_of_the_cache_is_not_kept() -> None:
    byte_cache = full_cache()
    byte_cache.add("large", bytes(26))
    assert byte_cache.get("large") is None
    assert byte_cache.get("a")


def test_a_removed_object_is_gone() -> None:
    byte_cache = full_cache()
    byte_cache.remove("a")
    byte_cache.remove("never there")
    assert byte_cache.get("a") is None


def test_a_cache_of_no_bytes_keeps_nothing() -> None:
    byte_cache = ByteCache(max_bytes=0)
    byte_cache.add("a", b"a")
    assert byte_cache.get("a") is None
