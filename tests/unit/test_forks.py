"""A value of a process: made once in it, and once in each child."""

import gc
import os
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from diffedit.forks import PerProcess
from diffedit.testing import MemoryObjectStore, memory_client, succeed
from tests.support.fake_service import TEXTS, png
from tests.support.forking import fork_in_c, in_child


class Counted:
    """Knows the process that made it, and in which order."""

    made = 0

    def __init__(self) -> None:
        time.sleep(0.001)  # so that other threads come in between
        Counted.made += 1
        self.pid, self.number = os.getpid(), Counted.made


def test_many_threads_make_one_value() -> None:
    value = PerProcess(Counted)
    assert value.made is None
    with ThreadPoolExecutor(20) as threads:
        values = set(threads.map(lambda _: value(), range(100)))
    assert values == {value()} == {value.made}


@pytest.mark.parametrize("fork", [os.fork, fork_in_c])
def test_a_child_makes_a_value_of_its_own_and_so_does_its_child(fork: Callable[[], int]) -> None:
    value = PerProcess(Counted)
    first = value().number

    def numbers() -> tuple[bool, bool, list[int]]:
        inherited = value.made is not None
        own = value()
        grandchild = in_child(lambda: value().number, fork)
        return inherited, own.pid == os.getpid(), [own.number, grandchild]

    assert in_child(numbers, fork) == (False, True, [first + 1, first + 2])
    assert value().number == first


def test_a_fork_waits_until_another_thread_has_made_a_value() -> None:
    begun, ended = threading.Event(), []

    def make() -> int:
        begun.set()
        time.sleep(0.05)
        ended.append(os.getpid())
        return os.getpid()

    value = PerProcess(make)
    thread = threading.Thread(target=value)
    thread.start()
    begun.wait()
    assert in_child(lambda: (ended[:], value() == os.getpid())) == ([os.getpid()], True)
    thread.join()


def test_after_a_fork_in_c_a_child_does_not_wait_for_a_thread_that_it_does_not_have() -> None:
    begun, end = threading.Event(), threading.Event()
    parent = os.getpid()

    def make() -> int:
        begun.set()
        if os.getpid() == parent:
            end.wait()
        return os.getpid()

    value, other = PerProcess(make), PerProcess(os.getpid)
    thread = threading.Thread(target=value)
    thread.start()
    begun.wait()
    assert in_child(lambda: value() == other() == os.getpid(), fork_in_c) is True
    end.set()
    thread.join()


def test_a_child_does_not_wait_for_a_download_in_another_thread_of_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    client = memory_client()
    job = client.edit(png(), **TEXTS)
    succeed(job)
    begun, end = threading.Event(), threading.Event()
    get = MemoryObjectStore.get

    def get_later(*args: Any) -> bytes:
        begun.set()
        end.wait()
        return get(*args)

    monkeypatch.setattr(MemoryObjectStore, "get", get_later)
    thread = threading.Thread(target=lambda: job.result().image)
    thread.start()
    begun.wait()
    assert in_child(lambda: (end.set(), job.result().image.size)[1]) == (32, 24)
    end.set()
    thread.join()


def test_a_child_does_not_finalize_what_it_has_inherited() -> None:
    finalized = []

    class Connection:
        def __del__(self) -> None:
            finalized.append(os.getpid())

    value = PerProcess(Connection)
    value()

    def renew() -> list[int]:
        value()
        gc.collect()
        return finalized

    assert in_child(renew) == []


def test_a_value_that_nobody_uses_any_more_is_collected() -> None:
    value = PerProcess(Counted)
    references = [weakref.ref(value), weakref.ref(value())]
    del value
    assert [reference() for reference in references] == [None, None]
