"""Stages that share a device share its time."""

from contextlib import ExitStack

import pytest

from diffedit_worker.runtime.device_clock import DeviceClock
from tests.support.inline_worker import InlineWorker


class Times:
    def __init__(self) -> None:
        self.now, self.used = 100.0, dict[str, float]()
        self.clock = DeviceClock(lambda: self.now)

    def start(self, name: str) -> ExitStack:
        stage = ExitStack()
        stage.enter_context(self.clock.computing(lambda seconds: self.used.update({name: seconds})))
        return stage


def test_a_stage_alone_has_all_the_time_of_the_device() -> None:
    times = Times()
    for name in "ab":
        stage = times.start(name)
        times.now += 3
        stage.close()
        times.now += 50  # nobody computes
    assert times.used == pytest.approx({"a": 3, "b": 3})


def test_stages_side_by_side_share_the_time() -> None:
    times = Times()
    first = times.start("first")
    times.now += 2
    second, third = times.start("second"), times.start("third")
    times.now += 6
    first.close()
    times.now += 4
    second.close()
    third.close()
    assert times.used == pytest.approx({"first": 4, "second": 4, "third": 4})


def test_a_stage_that_fails_ends_its_share() -> None:
    times = Times()
    stage = times.start("a")
    times.now += 1
    with pytest.raises(ValueError, match="broken"), stage:
        raise ValueError("broken")
    times.now += 9
    with times.start("b"):
        times.now += 1
    assert times.used == pytest.approx({"a": 1, "b": 1})


def test_a_worker_records_what_its_stages_have_used() -> None:
    worker = InlineWorker()
    first = worker.edit(owner="u1")
    (before,) = worker.client.usage("1d")
    assert (before.owner, before.jobs, before.succeeded, before.pixels) == ("u1", 1, 1, 64 * 64)
    assert 0 < before.gpu_seconds <= sum(first.status().timings.values())
    worker.edit(owner="u1")  # every artifact but the result of another seed is found
    worker.client.job(first.id).retry()
    (after,) = worker.client.usage("1d", by=("owner", "profile"))
    assert (after.owner, after.profile, after.jobs) == ("u1", "tiny", 3)
    assert after.gpu_seconds == pytest.approx(before.gpu_seconds)
