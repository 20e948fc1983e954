"""Whether any job is lost: many jobs against real processes while everything that can fail does fail.

    make chaos          (or: python -m benchmarks.chaos --jobs 200 --seeds 1 2 3)

Valkey, an S3 server and three workers run. Clients submit edits over time, some of them in forked processes. If a
service does not answer, they submit again with the same idempotency key, as a user would. Meanwhile faults (faults.py)
are injected. Edits and faults are drawn from the seed: the same seed gives the same schedule, but which worker holds
which job at that moment depends on the machine.

There are two phases. At first all workers are of the last release, and a rolling restart replaces them. Then all
workers are of the present code, and there are more kinds of faults. When the faults are over, every job has to end.
Rows:

    lost               jobs that have not ended, or have no record
    double outcomes    jobs that were seen to end in two ways, and idempotency keys that gave two jobs. A record is read
                       about ten times a second until the job ends, and every few seconds afterwards. A `cancel()` that
                       returned true counts as seen
    failed             by error code; no fault of the schedule is a reason for a job to fail. "For a worker's reason":
                       all but those that are the fault of the picture or the request
    unreadable         jobs that succeeded, but whose picture, mask, caption, prompts or manifest cannot be read. If a
                       fault damaged one of them after the job had ended, `retry()` is tried first, as a user would
    wrong pictures     parts of results (picture, mask, caption, prompts) that differ from the same edit, computed
                       without services and other jobs (truth.py)
    workers crashed    workers that ended by themselves and did not say that they were not fit
    processes left     child processes that still run at the end
    exited as unfit    workers that ended because they were not fit. Their supervisor starts them again
    passed on          how often a worker could not run a stage, and the job went to another one
    stored again       uploads of artifacts that were stored already and that no fault had damaged
    detected           seconds from a fault at a worker with a job until the record no longer gave the job to it
    recovered          ... until another worker started the job, or the frozen worker continued. It includes the time in
                       the queue and the time that other faults cost
    webhooks           three jobs in four of the second phase have one. Its receiver takes three requests of five,
                       refuses one, and does not answer one. The processes that send are killed, too. "Undelivered":
                       jobs that have ended, and whose end was never taken. "False": events that were taken without a
                       valid signature, of a job that nobody submitted, or of an end that the job did not have

When the faults are over, there is a flood (flood.py): the messages of 10,000 waiting jobs vanish, while all workers run
long edits. Its rows, in this order: its jobs; how many of them have how many messages afterwards; how often a living
worker had no heartbeat; edits that were started again; the age of the oldest heartbeat, as a part of the time after
which it expires; how long the rescue took.

The exit code is 1 unless the rows from "failed" to "processes left" are 0, no event is undelivered or false, each job
of the flood has one message, each living worker always had a heartbeat, and no edit was touched.
"""

import argparse
import logging
import statistics
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.chaos.faults import KINDS, WORKER_TTL
from benchmarks.chaos.outcome import Outcome
from benchmarks.chaos.run import WORKERS, run
from diffedit import State
from diffedit.errors import NoWorkerWarning


def _number_of(kind: str, run: Outcome) -> int:
    return run.injected[kind]


def _by_code(failed: Counter[str]) -> str:
    return f"{failed.total()}: " + ", ".join(f"{code} {number}" for code, number in failed.items()) if failed else "0"


def _by_number(jobs: dict[int, int]) -> str:
    return ", ".join(f"{number} with {messages}" for messages, number in sorted(jobs.items()))


def _times(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.1f} / {max(seconds):.1f} s (n = {len(seconds)})" if seconds else "-"


ROWS: dict[str, Callable[[Outcome], object]] = {
    "submitted": lambda run: run.states.total() + len(run.lost),
    "succeeded": lambda run: run.states[State.SUCCEEDED],
    "cancelled": lambda run: run.states[State.CANCELLED],
    "expired": lambda run: run.states[State.EXPIRED],
    "failed": lambda run: _by_code(run.failed),
    "  for a worker's reason": lambda run: _by_code(run.failed_for_a_workers_reason),
    "lost": lambda run: len(run.lost),
    "double outcomes": lambda run: len(run.double_outcomes),
    "unreadable": lambda run: len(run.unreadable),
    "wrong pictures": lambda run: len(run.wrong),
    "workers crashed": lambda run: len(run.crashes),
    "processes left": lambda run: len(run.processes_left),
    "workers exited as unfit": lambda run: len(run.unfit),
    "stages passed on": lambda run: run.passed_on,
    "workers renewed": lambda run: run.renewed,
    "results read by forked clients": lambda run: run.forked_reads,
    "faults": lambda run: run.injected.total(),
    **{f"  {kind}": partial(_number_of, kind) for kind in KINDS},
    "damaged results restored by retry()": lambda run: run.restored_by_retry,
    "artifacts stored": lambda run: run.stored,
    "artifacts stored again": lambda run: run.stored_without_need,
    "detected, median / max": lambda run: _times(run.detection_times),
    "recovered, median / max": lambda run: _times(run.recovery_times),
    "webhooks: events taken": lambda run: run.webhooks.taken,
    "webhooks: taken again": lambda run: run.webhooks.repeated,
    "webhooks: refused, not answered": lambda run: run.webhooks.refused,
    "webhooks: undelivered": lambda run: len(run.webhooks.undelivered),
    "webhooks: false": lambda run: len(run.webhooks.false),
    "flood: jobs": lambda run: run.flood and run.flood.jobs,
    "flood: jobs by messages": lambda run: run.flood and _by_number(run.flood.messages),
    "flood: workers counted as dead": lambda run: run.flood and run.flood.counted_dead,
    "flood: edits touched": lambda run: run.flood and len(run.flood.touched),
    "flood: oldest heartbeat / TTL": lambda run: run.flood and f"{run.flood.oldest_heartbeat:.2f}",
    "flood: rescued after, s": lambda run: run.flood and f"{run.flood.seconds:.0f}",
    "duration, s": lambda run: f"{run.seconds:.0f}",
}


def report(outcomes: dict[int, Outcome]) -> Table:
    """Return a table with one column for each seed."""
    table = Table("seed", *(str(seed) for seed in outcomes))
    for name, value in ROWS.items():
        table.add_row(name, *(str(value(outcome)) for outcome in outcomes.values()))
    return table


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, prog="python -m benchmarks.chaos"
    )
    parser.add_argument("--jobs", type=int, default=60)
    parser.add_argument("--seed", "--seeds", type=int, nargs="+", default=[1], dest="seeds", help="one run for each")
    parser.add_argument("--flood", type=int, default=10_000, help="jobs whose messages vanish at the end; 0: none")
    parser.add_argument("--out", type=Path, default=Path("out/chaos"), help="directory of logs and data")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
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
                args.out / str(seed),
                seed=seed,
                jobs=args.jobs,
                faults=args.jobs // 4,
                sick=args.jobs // 20,
                seconds=args.jobs * 1.75,
                flood=args.flood,
            )
    console.print(f"{args.jobs} jobs each, {WORKERS} workers whose heartbeats expire after {WORKER_TTL:g} s")
    console.print(report(outcomes))
    for seed, outcome in outcomes.items():
        if not outcome.ok:
            console.print(f"seed {seed}: {outcome}")
    sys.exit(not all(outcome.ok for outcome in outcomes.values()))


if __name__ == "__main__":
    main()
