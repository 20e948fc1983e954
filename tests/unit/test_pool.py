"""The pool wakes Celery's event loop when a task has ended, and counts its slots."""

import select
import threading

import pytest

from diffedit_worker.celery_ext.pool import TaskPool, release_slot


class Loop:
    """The part of kombu's event loop that the pool uses."""

    def add_reader(self, reader, callback, *args) -> None:
        self.reader, self.read = reader, lambda: callback(*args)

    def is_woken(self, timeout: float) -> bool:
        """Return whether the loop wakes within `timeout` seconds."""
        return bool(select.select([self.reader], [], [], timeout)[0])


@pytest.fixture
def pool():
    pool = TaskPool(limit=1)
    yield pool
    pool.on_stop()


def test_the_end_of_a_task_wakes_the_loop_and_its_start_does_not(pool: TaskPool) -> None:
    loop, go_on = Loop(), threading.Event()
    pool.register_with_event_loop(loop)
    pool.on_apply(go_on.wait, (10,), callback=print)
    assert not loop.is_woken(timeout=0.05)
    go_on.set()
    assert loop.is_woken(timeout=10)
    loop.read()
    assert not loop.is_woken(timeout=0)


def test_a_malformed_message_counts_as_a_failed_task_and_wakes_the_loop(pool: TaskPool) -> None:
    loop, results = Loop(), []
    pool.register_with_event_loop(loop)
    pool.on_apply(lambda: 1 / 0, (), callback=results.append)
    assert loop.is_woken(timeout=10)
    ((failed, info, _),) = results
    assert failed and "ZeroDivisionError" in info.traceback


def test_wake_ups_that_the_loop_does_not_read_block_nothing(pool: TaskPool) -> None:
    loop = Loop()
    pool.register_with_event_loop(loop)
    for _ in range(100_000):
        pool._wake()
    assert loop.is_woken(timeout=0)


def test_a_new_loop_after_a_lost_connection_is_woken(pool: TaskPool) -> None:
    first, second = Loop(), Loop()
    pool.register_with_event_loop(first)
    pool.register_with_event_loop(second)
    pool.on_apply(lambda: None, (), callback=print)
    assert second.is_woken(timeout=10)


def test_a_task_that_uploads_releases_its_slot_for_one_other_task(pool: TaskPool) -> None:
    loop = Loop()
    pool.register_with_event_loop(loop)
    uploaded, slots = threading.Event(), []
    assert pool.num_processes == 1

    def task() -> None:
        release_slot()
        uploaded.wait(10)

    for _ in range(2):  # the second task uploads beside the first, and a third would find no thread
        pool.on_apply(task, (), callback=print)
        assert loop.is_woken(timeout=10)
        loop.read()
        slots.append(pool.num_processes)
    assert slots == [2, 2]
    uploaded.set()
    pool.executor.shutdown()
    assert pool.num_processes == 1


def test_as_many_tasks_can_upload_as_can_compute() -> None:
    pool, uploaded, started = TaskPool(limit=3), threading.Event(), threading.Semaphore(0)
    assert pool.num_processes == 3

    def task() -> None:
        release_slot()
        started.release()
        uploaded.wait(10)

    for _ in range(6):
        pool.on_apply(task, (), callback=print)
        assert started.acquire(timeout=10)
    assert pool.num_processes == 6
    uploaded.set()
    pool.executor.shutdown()
    assert pool.num_processes == 3
    pool.on_stop()


def test_the_extra_slot_is_removed_before_celery_releases_the_task(pool: TaskPool) -> None:
    slots: list[int] = []
    pool.on_apply(release_slot, (), callback=lambda _: slots.append(pool.num_processes)).wait(10)
    assert slots == [1]


def test_a_slot_cannot_be_released_outside_of_a_pool() -> None:
    release_slot()
