"""Modules are imported without collections of garbage."""

import gc
from collections.abc import Iterator

import pytest

from diffedit_worker.runtime.imports import without_collections


@pytest.fixture(autouse=True)
def _thaw() -> Iterator[None]:
    yield
    gc.unfreeze()


@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_rests_meanwhile_and_is_left_as_it_was(enabled: bool) -> None:
    was_enabled = gc.isenabled()
    (gc.enable if enabled else gc.disable)()
    try:
        with without_collections():
            before = [generation["collections"] for generation in gc.get_stats()]
            assert len([[] for _ in range(100_000)]) == 100_000
            assert [generation["collections"] for generation in gc.get_stats()] == before
        assert gc.isenabled() is enabled
    finally:
        (gc.enable if was_enabled else gc.disable)()


def test_a_failed_import_leaves_the_collector_enabled() -> None:
    with pytest.raises(ImportError), without_collections():
        raise ImportError
    assert gc.isenabled()


def test_later_collections_leave_out_what_was_imported() -> None:
    with without_collections():
        imported = [[]]
    assert gc.get_freeze_count() > 0
    assert not any(each is imported for each in gc.get_objects())
