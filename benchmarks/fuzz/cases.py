"""Runs cases in forked children, and measures what each costs.

A child inherits what the parent has imported, so a fork takes milliseconds, and one child runs many cases. It may take
a limited amount of memory, and if it ends or hangs, the case it was at has failed and another child goes on.
"""

import os
import random
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import Pipe
from pathlib import Path

from benchmarks.fuzz.mutations import any_bytes
from benchmarks.harness.process_memory import PeakMemory, memory
from diffedit.errors import DiffEditError

MIB = 2**20
BATCH = 500
"""Cases of a child."""
MEMORY_LIMIT = 4 * 2**30
"""Bytes of memory that a child may take in addition to its parent's."""
HANG = 120.0
"""Seconds after which a case counts as hanging."""


@dataclass(frozen=True)
class Cost:
    """What a case may cost: seconds of processor time, and MiB of memory."""

    seconds: float
    mib: float


@dataclass(frozen=True)
class Target:
    """Something that reads what strangers send.

    Attributes:
        seeds: valid inputs.
        mutate: changes an input.
        run: reads an input. It may raise `expected`.
        limit: what an input may cost.
    """

    name: str
    seeds: Callable[[], list[bytes]]
    mutate: Callable[[random.Random, bytes], bytes]
    run: Callable[[bytes], object]
    limit: Callable[[bytes], Cost]
    expected: tuple[type[BaseException], ...] = (DiffEditError,)


@dataclass
class Findings:
    """What the cases of a target have shown. `failures` are pairs of a reason and the number of a case."""

    cases: int = 0
    accepted: int = 0
    seconds: float = 0.0
    longest: tuple[float, int] = (0.0, 0)
    largest: tuple[float, int] = (0.0, 0)
    nearest: tuple[float, int] = (0.0, 0)
    """The largest share of a limit that a case has taken."""
    failures: list[tuple[str, int]] = field(default_factory=list)

    @property
    def examples(self) -> list[tuple[str, int]]:
        """The first failure for each reason."""
        return list({reason: (reason, number) for reason, number in reversed(self.failures)}.values())[::-1]


def data_of(target: Target, seeds: list[bytes], seed: int, number: int) -> bytes:
    """Return the input of a case. The same numbers give the same input."""
    draw = random.Random(f"{target.name}/{seed}/{number}")
    data = draw.choice(seeds)
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        try:
            data = target.mutate(draw, data)
        except Exception:  # an earlier change has destroyed the structure
            data = any_bytes(draw, data)
    return data


def measure(target: Target, data: bytes) -> tuple[Cost, str, bool]:
    """Run one input in this process. Return its cost, why it failed or "", and whether it was accepted."""
    peak, started, accepted, reason = PeakMemory(), time.process_time(), False, ""
    try:
        target.run(data)
        accepted = True
    except target.expected:
        pass
    except Exception as error:
        reason = f"raises {type(error).__name__}: {str(error)[:200]}"
    cost, limit = Cost(time.process_time() - started, peak.growth()), target.limit(data)
    if not reason and cost.seconds > limit.seconds:
        reason = f"takes {cost.seconds:.1f} s, over {limit.seconds:.1f} s"
    if not reason and cost.mib > limit.mib:
        reason = f"takes {cost.mib:.0f} MiB, over {limit.mib:.0f} MiB"
    return cost, reason, accepted


def run(target: Target, seed: int, *, seconds: float, cases: int = sys.maxsize, at_least: int = 0) -> Findings:
    """Run cases for so many seconds, or so many cases. With `at_least`, a busy machine takes longer than that."""
    seeds, findings, end = target.seeds(), Findings(), time.monotonic() + seconds
    for data in seeds:
        _, reason, accepted = measure(target, data)
        assert accepted, f"a seed of {target.name} is not valid: {reason or 'refused'}"

    def is_over() -> bool:
        return findings.cases >= at_least and time.monotonic() > end

    while findings.cases < cases and not is_over():
        first = findings.cases
        for answer in _child(target, seeds, seed, range(first, min(first + BATCH, cases))):
            _note(findings, answer)
            if is_over():
                break
    return findings


def save(failure: str, data: bytes, directory: Path, name: str) -> Path:
    """Write the input of a failed case, and why it failed. Return the path of the input."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{name}.txt").write_text(f"{failure}\n")
    path = directory / name
    path.write_bytes(data)
    return path


def _note(findings: Findings, answer: dict[str, object]) -> None:
    number = findings.cases
    findings.cases += 1
    if reason := str(answer["reason"]):
        findings.failures.append((reason, number))
    if "seconds" not in answer:
        return
    seconds, mib, share = (float(str(answer[name])) for name in ("seconds", "mib", "share"))
    findings.seconds += seconds
    findings.accepted += bool(answer["accepted"])
    findings.longest = max(findings.longest, (seconds, number))
    findings.largest = max(findings.largest, (mib, number))
    findings.nearest = max(findings.nearest, (share, number))


def _child(target: Target, seeds: list[bytes], seed: int, numbers: range) -> Iterator[dict[str, object]]:
    """Run these cases in a child. Yield one answer for each, the last of which may be that the child has ended."""
    reader, writer = Pipe(duplex=False)
    pid = os.fork()
    if pid == 0:
        with suppress(BaseException):
            _work(target, seeds, seed, numbers, writer.send)
        os._exit(0)
    writer.close()
    try:
        with reader:
            for _ in numbers:
                if not reader.poll(HANG):
                    yield {"reason": f"hangs for {HANG:g} s"}
                    break
                yield reader.recv()
    except EOFError:
        yield {"reason": "the process ends"}
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _work(
    target: Target,
    seeds: list[bytes],
    seed: int,
    numbers: range,
    answer: Callable[[dict[str, object]], object],
) -> None:
    _silence()
    limit = int(memory("VmSize") * MIB) + MEMORY_LIMIT
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number in numbers:
        data = data_of(target, seeds, seed, number)
        cost, reason, accepted = measure(target, data)
        if reason and "raises" not in reason:
            again, reason, accepted = measure(target, data)  # the first time, a library may have been loaded
            cost = Cost(min(cost.seconds, again.seconds), min(cost.mib, again.mib))
        limits = target.limit(data)
        share = max(cost.seconds / limits.seconds, cost.mib / limits.mib)
        answer({"seconds": cost.seconds, "mib": cost.mib, "share": share, "reason": reason, "accepted": accepted})


def _silence() -> None:
    """Let what a child writes vanish: decoders warn, and the logs of refused messages are many."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
