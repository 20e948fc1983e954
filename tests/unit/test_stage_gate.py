"""Stages run side by side, or one alone."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from diffedit_worker.runtime.stage_gate import StageGate
from tests.support.waiting import until

FOREVER = 60.0


class Stages:
    """Stages in threads, which stay in the gate until they are told to leave."""

    def __init__(self, executor: ThreadPoolExecutor) -> None:
        self.gate = StageGate()
        self.inside: list[str] = []
        self._executor = executor
        self._leave: dict[str, threading.Event] = {}

    def enter(self, name: str, kind: str, check=lambda: None) -> Future:
        self._leave[name] = threading.Event()
        return self._executor.submit(self._stay, name, kind, check)

    def leave(self, name: str) -> None:
        self._leave[name].set()

    def _stay(self, name: str, kind: str, check) -> None:
        with getattr(self.gate, kind)(check):
            self.inside.append(name)
            assert self._leave[name].wait(FOREVER)
            self.inside.remove(name)


@pytest.fixture
def stages():
    with ThreadPoolExecutor(4) as executor:
        yield Stages(executor)


def waits(stages: Stages, name: str, kind: str) -> Future:
    """Let a stage enter that must wait. Returns when it has waited for a while."""
    turns = threading.Semaphore(0)
    future = stages.enter(name, kind, turns.release)
    assert turns.acquire(timeout=FOREVER)
    assert turns.acquire(timeout=FOREVER)
    assert name not in stages.inside
    return future


def test_several_run_side_by_side(stages: Stages) -> None:
    for name in ("a", "b"):
        stages.enter(name, "beside_others")
    until(lambda: sorted(stages.inside) == ["a", "b"])
    for name in ("a", "b"):
        stages.leave(name)


def test_one_that_is_alone_waits_for_the_others_and_goes_before_those_that_come_later(stages: Stages) -> None:
    stages.enter("a", "beside_others")
    until(lambda: stages.inside == ["a"])
    waits(stages, "alone", "alone")
    waits(stages, "late", "beside_others")
    stages.leave("a")
    until(lambda: stages.inside == ["alone"])
    stages.leave("alone")
    until(lambda: stages.inside == ["late"])
    stages.leave("late")


def test_two_are_alone_one_after_the_other(stages: Stages) -> None:
    stages.enter("first", "alone")
    until(lambda: stages.inside == ["first"])
    second = waits(stages, "second", "alone")
    stages.leave("first")
    until(lambda: stages.inside == ["second"])
    stages.leave("second")
    second.result(FOREVER)


def test_two_that_need_to_be_alone_from_now_do_not_wait_for_each_other(stages: Stages) -> None:
    both_inside, alone = threading.Barrier(2), []

    def run(name: str) -> None:
        with stages.gate.beside_others(lambda: None):
            both_inside.wait(FOREVER)
            with stages.gate.alone_from_now(lambda: None):
                alone.append(name)
                assert len(alone) == 1
                alone.remove(name)

    futures = [stages._executor.submit(run, name) for name in ("a", "b")]
    for future in futures:
        future.result(FOREVER)
    stages.enter("after", "alone")  # nothing is left behind
    until(lambda: stages.inside == ["after"])
    stages.leave("after")


class GivenUp(Exception):
    pass


def give_up() -> None:
    raise GivenUp


@pytest.mark.parametrize("kind", ["alone", "beside_others"])
def test_one_that_gives_up_waiting_leaves_no_trace(stages: Stages, kind: str) -> None:
    stages.enter("a", "alone")
    until(lambda: stages.inside == ["a"])
    with pytest.raises(GivenUp):
        stages.enter("b", kind, give_up).result(FOREVER)
    stages.leave("a")
    stages.enter("c", "beside_others")
    stages.enter("d", "beside_others")
    until(lambda: sorted(stages.inside) == ["c", "d"])
    for name in ("c", "d"):
        stages.leave(name)


def test_one_that_gives_up_to_be_alone_from_now_still_runs_beside_the_others(stages: Stages) -> None:
    stages.enter("a", "beside_others")
    until(lambda: stages.inside == ["a"])
    with stages.gate.beside_others(lambda: None):
        with pytest.raises(GivenUp), stages.gate.alone_from_now(give_up):
            pass
        stages.leave("a")
        waits(stages, "alone", "alone")
    until(lambda: stages.inside == ["alone"])
    stages.leave("alone")
