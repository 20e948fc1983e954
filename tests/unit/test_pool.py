"""The pool turns Celery's loop when a task has ended."""

import select
import threading

import pytest

from diffedit_worker.celery_ext.pool import TaskPool, computed


class Loop:
    """What the pool sees of kombu's hub."""

    def add_reader(self, ear, callback, *args) -> None:
        self.ear, self.hear = ear, lambda: callback(*args)

    def rings(self, timeout: float) -> bool:
        return bool(select.select([self.ear], [], [], timeout)[0])


@pytest.fixture
def pool():
    pool = TaskPool(limit=1)
    yield pool
    pool.on_stop()


def test_the_end_of_a_task_rings_and_its_start_does_not(pool: TaskPool) -> None:
    loop, go_on = Loop(), threading.Event()
    pool.register_with_event_loop(loop)
    pool.on_apply(go_on.wait, (10,), callback=print)
    assert not loop.rings(timeout=0.05)
    go_on.set()
    assert loop.rings(timeout=10)
    loop.hear()
    assert not loop.rings(timeout=0)


def test_a_message_that_no_task_can_be_made_of_has_failed_and_rings_too(pool: TaskPool) -> None:
    loop, told = Loop(), []
    pool.register_with_event_loop(loop)
    pool.on_apply(lambda: 1 / 0, (), callback=told.append)
    assert loop.rings(timeout=10)
    ((failed, info, _),) = told
    assert failed and "ZeroDivisionError" in info.traceback


def test_more_rings_than_anybody_hears_block_nothing(pool: TaskPool) -> None:
    loop = Loop()
    pool.register_with_event_loop(loop)
    for _ in range(100_000):
        pool._ring(None)
    assert loop.rings(timeout=0)


def test_it_rings_for_a_new_loop_after_a_lost_connection(pool: TaskPool) -> None:
    first, second = Loop(), Loop()
    pool.register_with_event_loop(first)
    pool.register_with_event_loop(second)
    pool.on_apply(lambda: None, (), callback=print)
    assert second.rings(timeout=10)


def test_a_task_that_has_but_to_store_leaves_its_place_to_one_other(pool: TaskPool) -> None:
    loop = Loop()
    pool.register_with_event_loop(loop)
    stored, places = threading.Event(), []
    assert pool.num_processes == 1

    def task() -> None:
        computed()
        stored.wait(10)

    for places_now in (2, 2):  # the second one waits behind the first, and a third would compute with nobody
        pool.on_apply(task, (), callback=print)
        assert loop.rings(timeout=10)
        loop.hear()
        places.append((pool.num_processes, places_now))
    assert places == [(2, 2), (2, 2)]
    stored.set()
    pool.executor.shutdown()
    assert pool.num_processes == 1


def test_a_place_is_given_up_before_celery_forgets_the_task(pool: TaskPool) -> None:
    seen: list[int] = []
    pool.on_apply(computed, (), callback=lambda _: seen.append(pool.num_processes)).wait(10)
    assert seen == [1]


def test_outside_of_a_pool_nothing_leaves_its_place() -> None:
    computed()
