"""`python -m benchmarks.batch`: a batch whose command, worker and Valkey are killed, and the throughput of the command.

Real Valkey, real S3 server, real workers with the bundled model. Exit code 1 if a row was lost or made twice.
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from benchmarks.batch.faults import Faults, run_with_faults
from benchmarks.batch.throughput import all_at_once, by_the_command
from benchmarks.harness.environment import Environment, service_environment

console = Console(soft_wrap=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=500, help="rows of the batch with faults")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of the throughput")
    parser.add_argument("--round-rows", type=int, default=200, help="rows of each round, at most 1000")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--batch-jobs", type=int, default=4, help="jobs that a worker runs at once")
    asked = parser.parse_args()
    with service_environment() as env, tempfile.TemporaryDirectory() as name:
        env.start_workers(asked.workers, DIFFEDIT_BATCH_JOBS=str(asked.batch_jobs))
        folder = Path(name)
        ratio = measure_throughput(env, folder, asked.rounds, asked.round_rows) if asked.rounds else None
        faults = run_with_faults(env, folder, asked.rows)
    report(faults)
    if ratio is not None:
        console.print(f"throughput against submitting all at once: {ratio:.2f}")
    return 0 if faults.exactly_once else 1


def measure_throughput(env: Environment, folder: Path, rounds: int, rows: int) -> float:
    """Measure both ways in turn. Return the median of the ratios."""
    all_at_once(env, folder, 10**7, 20)  # models are loaded, code is compiled
    ratios = []
    for number in range(rounds):
        first = 2 * number * rows
        ways = (by_the_command, all_at_once) if number % 2 else (all_at_once, by_the_command)
        rates = {way: way(env, folder, first + index * rows, rows) for index, way in enumerate(ways)}
        ratios.append(rates[by_the_command] / rates[all_at_once])
        console.print(
            f"round {number + 1}: all at once {rates[all_at_once]:.2f} rows/s, command {rates[by_the_command]:.2f}"
        )
    return statistics.median(ratios)


def report(faults: Faults) -> None:
    console.print(f"{faults.rows} rows in {faults.seconds:.0f} s; killed: {', '.join(faults.killed)}")
    console.print(
        f"files {faults.files}, done {faults.done}, jobs recorded {faults.jobs}, succeeded {faults.succeeded}, "
        f"different jobs in the state {faults.named}, exit code {faults.exit_code}"
    )
    for number, memory in enumerate(faults.watched.memory, start=1):
        if len(memory) >= 4:
            quarter = len(memory) // 4
            early, late = max(memory[quarter : 2 * quarter]), max(memory[-quarter:])
            console.print(
                f"memory of run {number}: {early:.0f} MiB in the second quarter, {late:.0f} MiB in the last one, "
                f"{max(memory):.0f} MiB at most"
            )
    console.print(f"jobs that waited at once: {max(faults.watched.waiting, default=0)} at most")
    console.print("every row exactly once" if faults.exactly_once else "NOT every row exactly once")


if __name__ == "__main__":
    sys.exit(main())
