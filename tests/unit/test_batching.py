"""Threads that share the passes of a denoiser. The denoisers here are fakes which the test lets go on pass by pass."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from diffedit_worker.diffusion import batching
from diffedit_worker.diffusion.batching import MOST_PASSES_SKIPPED, PassCounts, SharedDenoiser, yielding
from tests.support.waiting import until

FOREVER = 60.0
"""Seconds. No test waits for so long unless it fails."""


class Denoiser:
    """A denoiser whose prediction is x + t. It notes the timesteps of each pass.

    While `is_closed`, a pass waits for `open`. `fail` may raise; it gets the timesteps of a pass.
    """

    def __init__(self) -> None:
        self.passes: list[list[int]] = []
        self.started = threading.Semaphore(0)
        self.open = threading.Semaphore(0)
        self.is_closed = False
        self.fail = lambda steps: None

    def __call__(self, x: Tensor, t: Tensor, cond: Tensor, features: Tensor | None = None) -> tuple[Tensor, Tensor]:
        assert not torch.is_grad_enabled()
        self.passes.append(t.tolist())
        self.started.release()
        if self.is_closed:
            assert self.open.acquire(timeout=FOREVER)
        self.fail(t.tolist())
        return x + t[:, None, None, None], x[:, :1] * 2 if features is None else features


@pytest.fixture
def denoiser():
    return Denoiser()


@pytest.fixture
def pool():
    with ThreadPoolExecutor(8) as executor:
        yield executor


def patient(denoiser, max_samples=64):
    """Return a shared denoiser that waits for every caller that it expects, however long that takes."""
    return SharedDenoiser(denoiser, max_samples, shortest_wait=FOREVER, longest_wait=FOREVER)


def impatient(denoiser, max_samples=64):
    """Return a shared denoiser that joins only what waits already."""
    return SharedDenoiser(denoiser, max_samples, shortest_wait=0, longest_wait=0)


def call(shared, *steps, size=4, features=None, yields=False):
    """Call the denoiser with one sample for each of these timesteps."""
    with yielding(yields):
        return shared(
            torch.zeros(len(steps), 4, size, size), torch.tensor(steps), torch.zeros(len(steps), 2, 3), features
        )


def first_values(answer) -> list[float]:
    return answer[0][:, 0, 0, 0].tolist()


def during_a_pass(denoiser, shared, pool, *calls) -> list[Future]:
    """Make these calls, in this order, while a pass for timestep 0 runs; then let all passes run."""
    denoiser.is_closed, denoiser.started = True, threading.Semaphore(0)
    first = pool.submit(call, shared, 0)
    assert denoiser.started.acquire(timeout=FOREVER)
    futures = []
    for number, each in enumerate(calls, start=1):
        futures.append(pool.submit(each))
        until(lambda number=number: shared.waiting == number)
    denoiser.is_closed = False
    denoiser.open.release()
    first.result(FOREVER)
    return futures


def test_a_call_without_neighbours_is_passed_on_as_it_is_and_never_waits(denoiser):
    shared, given = patient(denoiser), torch.ones(2, 1, 4, 4)
    for step in range(3):
        assert first_values(call(shared, step, step + 5)) == [step, step + 5]
    assert call(shared, 7, 8, features=given)[1] is given
    assert denoiser.passes == [[0, 5], [1, 6], [2, 7], [7, 8]]
    assert shared.counts == PassCounts(passes=4, requests=4, samples=8, shared=0)


def test_calls_that_wait_at_the_same_time_are_one_pass_with_a_timestep_for_each_sample(denoiser, pool):
    shared = impatient(denoiser)
    calls = [lambda steps=steps: call(shared, *steps) for steps in ((1, 2), (3,), (4, 5))]
    answers = [each.result(FOREVER) for each in during_a_pass(denoiser, shared, pool, *calls)]
    assert denoiser.passes == [[0], [1, 2, 3, 4, 5]]
    assert [first_values(answer) for answer in answers] == [[1, 2], [3], [4, 5]]
    assert [answer[1].shape for answer in answers] == [(2, 1, 4, 4), (1, 1, 4, 4), (2, 1, 4, 4)]
    assert shared.counts == PassCounts(passes=2, requests=4, samples=6, shared=3)


def test_no_answer_keeps_the_batch_in_memory(denoiser, pool):
    shared = impatient(denoiser)
    calls = [lambda: call(shared, 1), lambda: call(shared, 2)]
    for future in during_a_pass(denoiser, shared, pool, *calls):
        for tensor in future.result(FOREVER):
            assert tensor.untyped_storage().nbytes() == tensor.nbytes


def test_only_calls_of_one_shape_and_kind_are_joined(denoiser, pool):
    shared, features = impatient(denoiser), torch.ones(1, 1, 4, 4)
    calls = [
        lambda: call(shared, 1),
        lambda: call(shared, 2, size=6),
        lambda: call(shared, 3, features=features),
        lambda: call(shared, 4),
        lambda: call(shared, 5, features=2 * features),
        lambda: call(shared, 6, size=6),
    ]
    answers = [each.result(FOREVER) for each in during_a_pass(denoiser, shared, pool, *calls)]
    assert denoiser.passes == [[0], [1, 4], [2, 6], [3, 5]]
    assert answers[2][1] is features
    assert answers[4][1].mean() == 2


def test_callers_that_come_back_are_waited_for(denoiser, pool):
    shared = patient(denoiser)

    def steps_of(job, first):
        return [first_values(call(shared, 10 * step + job)) for step in range(first, 6)]

    denoiser.is_closed = True
    futures = [pool.submit(steps_of, 0, 0)]  # its first step runs alone
    assert denoiser.started.acquire(timeout=FOREVER)
    futures += [pool.submit(steps_of, job, 1) for job in (1, 2)]
    until(lambda: shared.waiting == 2)
    denoiser.is_closed = False
    denoiser.open.release()
    assert [len(future.result(FOREVER)) for future in futures] == [6, 5, 5]
    assert [sorted(steps) for steps in denoiser.passes] == [
        [0],
        *([10 * s, 10 * s + 1, 10 * s + 2] for s in range(1, 6)),
    ]


@pytest.fixture
def waits(monkeypatch):
    """What leaders wait: by a clock that stands still otherwise."""
    now, noted = [100.0], []
    monkeypatch.setattr(batching.time, "monotonic", lambda: now[0])

    def follow(shared):
        def wait(seconds):
            noted.append(round(seconds, 6))
            now[0] += seconds

        monkeypatch.setattr(shared._arrived, "wait", wait)
        return noted

    follow.pass_time = lambda seconds: now.__setitem__(0, now[0] + seconds)
    return follow


def in_new_thread(run):
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(run).result(FOREVER)


def test_a_caller_that_does_not_come_back_is_waited_for_once(denoiser, waits):
    shared = SharedDenoiser(denoiser, 64, wait_share=0.25, shortest_wait=0.003, longest_wait=0.03)
    noted = waits(shared)
    in_new_thread(lambda: call(shared, 1))
    for step in range(5):
        call(shared, step)
    assert noted == [0.003]


@pytest.mark.parametrize(("seconds", "waited"), [(0.001, 0.003), (0.04, 0.01), (5.0, 0.03)])
def test_the_wait_is_a_share_of_a_pass_within_bounds(denoiser, waits, seconds, waited):
    shared = SharedDenoiser(denoiser, 64, wait_share=0.25, shortest_wait=0.003, longest_wait=0.03)
    noted = waits(shared)
    denoiser.fail = lambda steps: waits.pass_time(seconds)
    in_new_thread(lambda: call(shared, 1))
    call(shared, 2)
    assert noted == [waited]


def test_a_caller_that_is_always_late_is_waited_for_less_and_less(denoiser, waits):
    shared = SharedDenoiser(denoiser, 64, shortest_wait=0.01, longest_wait=0.01)
    noted, passes = waits(shared), 64
    with ThreadPoolExecutor(1) as late:
        for step in range(passes):
            late.submit(call, shared, step).result(FOREVER)
            waits.pass_time(1e-4)
            call(shared, step)
            # The late one finds the other one's wait over, too.
            waits.pass_time(1)
    assert 1 <= len(noted) <= passes / 8


def test_after_a_pause_nobody_is_waited_for(denoiser, waits):
    shared = patient(denoiser)
    noted = waits(shared)
    in_new_thread(lambda: call(shared, 1))
    waits.pass_time(FOREVER)
    call(shared, 2)
    assert noted == []


def test_a_full_pass_does_not_wait(denoiser, waits):
    shared = patient(denoiser, max_samples=2)
    noted = waits(shared)
    in_new_thread(lambda: call(shared, 1))
    call(shared, 2, 3)
    assert noted == []


def test_a_pass_has_the_longest_waiting_that_fit(denoiser, pool):
    shared = impatient(denoiser, max_samples=4)
    calls = [lambda steps=steps: call(shared, *steps) for steps in ((1, 2), (3, 4, 5), (6,), (7,), (8,))]
    for future in during_a_pass(denoiser, shared, pool, *calls):
        future.result(FOREVER)
    assert denoiser.passes == [[0], [1, 2, 6, 7], [3, 4, 5, 8]]


def test_a_call_that_is_larger_than_a_pass_runs_alone(denoiser, pool):
    shared = impatient(denoiser, max_samples=2)
    calls = [lambda: call(shared, 1, 2, 3), lambda: call(shared, 4)]
    for future in during_a_pass(denoiser, shared, pool, *calls):
        future.result(FOREVER)
    assert denoiser.passes == [[0], [1, 2, 3], [4]]


def test_calls_that_yield_come_after_the_others(denoiser, pool):
    shared = impatient(denoiser, max_samples=2)
    calls = [lambda step=step: call(shared, step, yields=step <= 2) for step in (1, 2, 3, 4)]
    for future in during_a_pass(denoiser, shared, pool, *calls):
        future.result(FOREVER)
    assert denoiser.passes == [[0], [3, 4], [1, 2]]


def test_a_call_that_yields_is_not_put_off_for_ever(denoiser, pool):
    shared, put_off = impatient(denoiser, max_samples=1), 9
    calls = [
        lambda: call(shared, put_off, yields=True),
        *[lambda step=step: call(shared, step) for step in range(1, 7)],
    ]
    for future in during_a_pass(denoiser, shared, pool, *calls):
        future.result(FOREVER)
    assert denoiser.passes == [[0], [1], [2], [3], [4], [put_off], [5], [6]]
    assert MOST_PASSES_SKIPPED == 4


class BadSampleError(Exception):
    pass


def refuse(error, *guilty):
    def fail(steps):
        if set(steps) & set(guilty):
            raise error

    return fail


def test_an_error_goes_to_the_caller_that_it_is_of(denoiser, pool):
    shared = impatient(denoiser)
    denoiser.fail = refuse(BadSampleError(), 2)
    calls = [lambda step=step: call(shared, step) for step in (1, 2, 3)]
    good, bad, other = during_a_pass(denoiser, shared, pool, *calls)
    assert first_values(good.result(FOREVER)) == [1]
    assert first_values(other.result(FOREVER)) == [3]
    with pytest.raises(BadSampleError):
        bad.result(FOREVER)
    assert denoiser.passes == [[0], [1, 2, 3], [1], [2], [3]]
    assert first_values(call(shared, 4)) == [4]


def test_an_error_of_the_device_goes_to_all(denoiser, pool):
    shared = impatient(denoiser)
    denoiser.fail = refuse(RuntimeError("CUDA error: an illegal memory access was encountered"), 2)
    calls = [lambda step=step: call(shared, step) for step in (1, 2)]
    for future in during_a_pass(denoiser, shared, pool, *calls):
        with pytest.raises(RuntimeError, match="illegal memory access"):
            future.result(FOREVER)
    assert denoiser.passes == [[0], [1, 2]]


def need_memory_for(most):
    def fail(steps):
        if len(steps) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")

    return fail


def test_a_pass_for_which_memory_is_too_small_is_repeated_in_halves_and_later_ones_are_smaller(denoiser, pool):
    shared = impatient(denoiser)
    denoiser.fail = need_memory_for(2)
    calls = [lambda step=step: call(shared, step) for step in (1, 2, 3, 4)]
    answers = [each.result(FOREVER) for each in during_a_pass(denoiser, shared, pool, *calls)]
    assert [first_values(answer) for answer in answers] == [[1], [2], [3], [4]]
    assert denoiser.passes == [[0], [1, 2, 3, 4], [1, 2], [3, 4]]
    assert shared.max_samples == 2
    for future in during_a_pass(denoiser, shared, pool, *calls):
        future.result(FOREVER)
    assert denoiser.passes[4:] == [[0], [1, 2], [3, 4]]


def test_a_call_that_alone_is_too_large_for_the_memory_fails_alone(denoiser, pool):
    shared = impatient(denoiser)
    denoiser.fail = need_memory_for(2)
    calls = [lambda: call(shared, 1), lambda: call(shared, 2, 3, 4), lambda: call(shared, 5)]
    small, large, other = during_a_pass(denoiser, shared, pool, *calls)
    assert first_values(small.result(FOREVER)) == [1]
    assert first_values(other.result(FOREVER)) == [5]
    with pytest.raises(torch.OutOfMemoryError):
        large.result(FOREVER)


class Interrupted(BaseException):  # like KeyboardInterrupt
    pass


def test_a_leader_that_is_interrupted_leaves_the_others_to_the_next(denoiser, pool):
    shared, left = impatient(denoiser), [Interrupted]

    def fail(steps):
        if len(steps) > 1 and left:
            raise left.pop()

    denoiser.fail = fail
    calls = [lambda step=step: call(shared, step) for step in (1, 2, 3)]
    futures = during_a_pass(denoiser, shared, pool, *calls)
    errors = [future.exception(FOREVER) for future in futures]
    assert sorted(type(error).__name__ for error in errors) == ["Interrupted", "NoneType", "NoneType"]
    served = [future.result() for future, error in zip(futures, errors, strict=True) if error is None]
    assert sorted(first_values(answer)[0] for answer in served) == sorted(denoiser.passes[-1])
    assert shared.waiting == 0
