"""The fuzzer itself: it finds what it looks for, and a case can be run again."""

import os
import random
import time
from collections.abc import Callable

import pytest

from benchmarks.fuzz import cases, mutations
from benchmarks.fuzz.cases import Cost, Target, data_of, measure, run
from diffedit.errors import BadPicture
from tests.support.images import gradient, saved

SEED = b"a seed"
CASES = 20


def target(run: Callable[[bytes], object], seconds: float = 0.5, mib: float = 64) -> Target:
    """Return a target that reads its seed without a fault, and mutated inputs with `run`."""
    return Target(
        "test",
        lambda: [SEED],
        lambda draw, data: data + bytes([draw.randrange(256)]),
        lambda data: None if data == SEED else run(data),
        lambda data: Cost(seconds, mib),
    )


def refuse(data: bytes) -> None:
    raise BadPicture("refused")


def raise_foreign_error(data: bytes) -> None:
    raise KeyError("not ours")


def compute(data: bytes) -> None:
    end = time.process_time() + 0.11
    while time.process_time() < end:
        pass


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        pytest.param(raise_foreign_error, "raises KeyError: 'not ours'", id="an error"),
        pytest.param(lambda data: os._exit(3), "the process ends", id="a death"),
        pytest.param(compute, "over 0.1 s", id="time"),
        pytest.param(lambda data: bytearray(100 * 2**20), "over 50 MiB", id="memory"),
        pytest.param(lambda data: bytearray(2**40), "raises MemoryError", id="too much memory"),
    ],
)
def test_a_fault_is_found_and_the_next_case_runs(fault: Callable[[bytes], object], reason: str) -> None:
    def sometimes(data: bytes) -> None:
        if data[-1] % 2:
            fault(data)

    tried = target(sometimes, 0.1, 50)
    findings = run(tried, 1, seconds=60, cases=CASES)
    expected = [number for number in range(CASES) if data_of(tried, [SEED], 1, number)[-1] % 2]
    assert findings.cases == CASES
    assert 0 < len(expected) < CASES
    assert [number for _, number in findings.failures] == expected
    assert all(reason in found for found, _ in findings.failures)
    assert findings.examples[0] == findings.failures[0]


def test_memory_that_was_freed_before_hides_nothing() -> None:
    pieces = [bytearray(100_000) for _ in range(2_000)]
    last = bytearray(100_000)  # what lies before it stays in the process when it is free
    pieces.clear()
    findings = run(target(lambda data: bytearray(100 * 2**20), 0.5, 50), 1, seconds=60, cases=3)
    assert [reason for reason, _ in findings.failures] == ["takes 100 MiB, over 50 MiB"] * 3 and last


def test_a_process_that_hangs_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cases, "HANG", 0.3)
    findings = run(target(lambda data: time.sleep(60)), 1, seconds=60, cases=1)
    assert findings.failures == [("hangs for 0.3 s", 0)]


def test_what_is_refused_with_an_error_of_ours_is_no_failure() -> None:
    findings = run(target(refuse), 1, seconds=60, cases=CASES)
    assert (findings.cases, findings.accepted, findings.failures) == (CASES, 0, [])


def test_a_case_can_be_run_again(tmp_path) -> None:
    tried = target(raise_foreign_error)
    path = cases.save("raises", data_of(tried, [SEED], 7, 3), tmp_path, "test-7-3")
    _, reason, _ = measure(tried, path.read_bytes())
    assert "KeyError" in reason and (tmp_path / "test-7-3.txt").read_text() == "raises\n"


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_mutations_keep_the_structure_often_enough_to_be_read(format: str) -> None:
    data, draw = saved(gradient((32, 32)), format), random.Random(1)
    changed = [mutations.picture(draw, data) for _ in range(60)]
    assert len(set(changed)) > 50
    assert sum(each[:3] == data[:3] for each in changed) > 40
