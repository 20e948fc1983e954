"""Nothing is lost: many jobs against real processes, while everything that can fail does fail.

    make chaos          (or: python -m benchmarks.chaos --jobs 200 --seed 1)

Valkey, an S3 server and three workers run; clients submit edits over time and, as a user would, submit again with the
same idempotency key what was refused because a service did not answer. Meanwhile faults strike (`faults.py`), drawn
from the seed: the same seed gives the same schedule, but who holds what when it strikes is up to the machine. Then the
faults stop, and every job has to come to its end. Rows:

    lost               jobs without an end, or without a record
    double outcomes    jobs that were seen to end in two ways, and idempotency keys that gave two jobs. A record is read
                       about ten times a second while the job is open and every few seconds afterwards; a `cancel()`
                       that said yes counts as seen
    failed             by code; no fault of the schedule is a reason for a job to fail
    unreadable         succeeded, but picture, mask, caption, prompts or manifest cannot be read; where a fault hit one
                       of them after the job had read it, `retry()` comes first, the user's way out
    workers crashed    ended without having been told to
    processes left     children of this process when all is over
    made without need  artifacts stored more often than faults explain, by the workers' logs
    noticed            seconds from a blow at a worker that held a job until the record gave the job free
    recovered          ... until another worker began it, or the frozen one went on: with the wait for its turn, and
                       for whatever else is down meanwhile

The exit code is 1 unless the first six are 0.
"""

import argparse
import logging
import random
import re
import shutil
import statistics
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence, Set
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.faults import KINDS, WORKER_TTL, WORKERS, Crew, Fault, Havoc, faults
from benchmarks.witness import Witness
from diffedit import Client, JobHandle, JobStatus, Settings, State
from diffedit.errors import DiffEditError, NoWorkerWarning, ServiceError
from diffedit.jobs.backend import redis_backend
from diffedit_worker.local.stack import Stack
from diffedit_worker.models.profiles import SAMPLES

SCENES = (("00.png", "a dog", "pink"), ("01.png", "a cat", "green"), ("03.png", "a strawberry", "blue"))
TARGETS = ("some grapes", "a pineapple", "some cherries")
ENVIRONMENT = {
    "DIFFEDIT_WORKER_TTL": f"{WORKER_TTL:g}",
    "DIFFEDIT_MAX_ATTEMPTS": "10",
    "DIFFEDIT_S3_RETRY_TIMEOUT": "20",
}


@dataclass(frozen=True)
class Ask:
    """One call of `Client.edit`, `at` seconds from the start; two with one key are one job."""

    at: float
    key: str
    picture: Path
    asked: dict[str, Any]


def asks(seed: int, jobs: int, seconds: float) -> list[Ask]:
    """Edits in all three ways, quick and long. Many share a picture, some everything; some are submitted twice."""
    rng = random.Random(f"asks {seed}")
    found: list[Ask] = []
    for number in range(jobs):
        at, key = rng.uniform(0, seconds), f"{seed}-{number}"
        same = found and rng.random() < 0.15
        picture, asked = (found[-1].picture, found[-1].asked) if same else _edit(rng)
        found.append(Ask(at, key, picture, asked))
        if rng.random() < 0.15:
            found.append(Ask(at + rng.uniform(0, 0.5), key, picture, asked))
    return found


def _edit(rng: random.Random) -> tuple[Path, dict[str, Any]]:
    name, thing, colour = rng.choice(SCENES)
    source, target = (f"a photograph of {what} on a {colour} table" for what in (thing, rng.choice(TARGETS)))
    prompts = {"source_prompt": source, "target_prompt": target}
    concepts = {"source_concept": thing, "target_concept": target, "num_prompts": 2}
    texts = rng.choice((prompts, prompts, concepts, {"target_prompt": target}))
    params = {"num_inference_steps": rng.choice((4, 8, 60)), "num_maps_per_mask": 2, "seed": rng.randrange(10)}
    return SAMPLES / name, {**texts, **params}


@dataclass
class Outcome:
    """What came of it; the lists name jobs, keys, workers and processes."""

    states: Counter[State]
    failed: Counter[str]
    lost: list[str]
    doubled: list[str]
    unreadable: list[str]
    crashes: list[str]
    struck: Counter[str]
    mended: int
    made: int
    made_without_need: int
    noticed: list[float]
    recovered: list[float]
    seconds: float
    left: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not (self.lost or self.doubled or self.failed or self.unreadable or self.crashes or self.left)


def run(directory: Path, *, seed: int, jobs: int, count: int, seconds: float, patience: float = 300) -> Outcome:
    """`jobs` jobs and `count` faults within `seconds`, and at most `patience` seconds more until all have ended."""
    before = psutil.Process().children(recursive=True)
    shutil.rmtree(directory, ignore_errors=True)
    with Stack(directory) as stack:
        stack.environment |= ENVIRONMENT
        outcome = _run(stack, [*asks(seed, jobs, seconds), *faults(seed, count, seconds)], patience)
    outcome.left = [str(child) for child in psutil.Process().children(recursive=True) if child not in before]
    return outcome


def _run(stack: Stack, events: Sequence[Ask | Fault], patience: float) -> Outcome:
    settings = Settings.from_env(stack.environment)
    client, backend, over = Client(settings), redis_backend(settings), threading.Event()
    crew, witness = Crew(stack), Witness(backend.job_store)
    havoc = Havoc(stack, crew, witness)

    def submit(ask: Ask) -> None:
        while not over.is_set():
            try:
                job = client.edit(ask.picture, **ask.asked, idempotency_key=ask.key)
                return witness.submitted(ask.key, job.id)
            except ServiceError:
                time.sleep(0.2)

    with ThreadPoolExecutor(64) as pool:
        duties = [pool.submit(crew.supervise, over), pool.submit(witness.watch, over)]
        try:
            _until(lambda: len(backend.worker_registry.workers()) == WORKERS, 60)
            began = time.monotonic()
            _play(pool, events, {Ask: submit, Fault: havoc.strike})
            _until(lambda: not witness.open, patience)
            seconds = time.monotonic() - began
        finally:
            over.set()
    for duty in duties:
        duty.result()
    witness.look(list(witness.last))
    return _outcome(client, crew, witness, havoc, _stored(stack.directory / "logs"), seconds)


def _play(pool: Executor, events: Sequence[Ask | Fault], acts: dict[type, Callable[[Any], None]]) -> None:
    """Each event at its time, and all to their end."""
    began = time.monotonic()
    going = []
    for event in sorted(events, key=lambda event: event.at):
        time.sleep(max(0.0, began + event.at - time.monotonic()))
        going.append(pool.submit(acts[type(event)], event))
    for each in going:
        each.result()


def _outcome(
    client: Client, crew: Crew, witness: Witness, havoc: Havoc, stored: Counter[str], seconds: float
) -> Outcome:
    ended = [status for status in witness.last.values() if status and status.is_terminal]
    # A manifest lies beside its result, has its name but for the extension, and is made with it.
    spoilt = Counter(_stem(key) for key in havoc.spoilt)
    unreadable, mended = _read_results(client, ended, spoilt.keys())
    return Outcome(
        states=Counter(status.state for status in ended),
        failed=Counter(status.error.code for status in ended if status.error),
        lost=sorted(witness.last.keys() - {status.id for status in ended}),
        doubled=[name for found in (witness.ends, witness.jobs) for name, each in found.items() if len(each) > 1],
        unreadable=unreadable,
        crashes=crew.crashes,
        struck=Counter(havoc.struck),
        mended=mended,
        made=len(stored),
        made_without_need=sum(max(0, times - 1 - spoilt[_stem(key)]) for key, times in stored.items()),
        noticed=witness.noticed,
        recovered=witness.recoveries,
        seconds=seconds,
    )


def _until(condition: Callable[[], object], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.1)


def _read_results(client: Client, ended: Sequence[JobStatus], spoilt: Set[str]) -> tuple[list[str], int]:
    """The jobs whose results cannot be read, and how many `retry()` has mended after a fault of ours."""
    unreadable, mended = [], 0
    for status in ended:
        job = client.job(status.id)
        if status.state is not State.SUCCEEDED or _readable(job):
            continue
        if any(_stem(key) in spoilt for key in status.artifact_keys.values()) and _readable(job.retry()):
            mended += 1
        else:
            unreadable.append(job.id)
    return unreadable, mended


def _stem(key: str) -> str:
    return key.rpartition(".")[0]


def _readable(job: JobHandle) -> bool:
    try:
        result = job.result(timeout=60)
        return all((result.image, result.mask, result.caption, result.prompts, result.manifest))
    except DiffEditError:
        return False


def _stored(logs: Path) -> Counter[str]:
    """How often each artifact was stored."""
    texts = [log.read_text(errors="replace") for log in logs.glob("w*.log")]
    return Counter(key for text in texts for key in re.findall(r"stored (artifacts/\S+)", text))


def report(outcomes: dict[int, Outcome]) -> Table:
    """One column for each seed."""
    rows: dict[str, Callable[[Outcome], object]] = {
        "submitted": lambda run: run.states.total() + len(run.lost),
        "succeeded": lambda run: run.states[State.SUCCEEDED],
        "cancelled": lambda run: run.states[State.CANCELLED],
        "expired": lambda run: run.states[State.EXPIRED],
        "failed": lambda run: ", ".join(f"{code} {number}" for code, number in run.failed.items()) or 0,
        "lost": lambda run: len(run.lost),
        "double outcomes": lambda run: len(run.doubled),
        "unreadable": lambda run: len(run.unreadable),
        "workers crashed": lambda run: len(run.crashes),
        "processes left": lambda run: len(run.left),
        "faults": lambda run: run.struck.total(),
        **{f"  {kind}": _number_of(kind) for kind in KINDS},
        "spoilt results mended by retry()": lambda run: run.mended,
        "artifacts made": lambda run: run.made,
        "made without need": lambda run: run.made_without_need,
        "noticed, p50 / max": lambda run: _times(run.noticed),
        "recovered, p50 / max": lambda run: _times(run.recovered),
        "wall time, s": lambda run: f"{run.seconds:.0f}",
    }
    table = Table("seed", *(str(seed) for seed in outcomes))
    for name, value in rows.items():
        table.add_row(name, *(str(value(outcome)) for outcome in outcomes.values()))
    return table


def _number_of(kind: str) -> Callable[[Outcome], object]:
    return lambda run: run.struck[kind]


def _times(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.1f} / {max(seconds):.1f} s (n = {len(seconds)})" if seconds else "-"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, prog="benchmarks.chaos"
    )
    parser.add_argument("--jobs", type=int, default=60)
    parser.add_argument("--seed", "--seeds", type=int, nargs="+", default=[1], dest="seeds", help="one after another")
    parser.add_argument("--out", type=Path, default=Path("out/chaos"), help="where logs and data stay, to look into")
    args = parser.parse_args()

    warnings.simplefilter("ignore", NoWorkerWarning)
    args.out.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(
        filename=args.out / "faults.log", filemode="w", level=logging.INFO, format="%(asctime)s %(message)s"
    )
    console = Console(width=120)
    outcomes: dict[int, Outcome] = {}
    for seed in args.seeds:
        with console.status(f"seed {seed}"):
            outcomes[seed] = run(
                args.out / str(seed), seed=seed, jobs=args.jobs, count=args.jobs // 5, seconds=args.jobs * 0.75
            )
    console.print(f"{args.jobs} jobs each, {WORKERS} workers that count as dead after {WORKER_TTL:g} s")
    console.print(report(outcomes))
    for seed, outcome in outcomes.items():
        if not outcome.ok:
            console.print(f"seed {seed}: {outcome}")
    sys.exit(not all(outcome.ok for outcome in outcomes.values()))


if __name__ == "__main__":
    main()
