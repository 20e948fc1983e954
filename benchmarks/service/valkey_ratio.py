"""What a job costs Valkey, against another checkout of this project: the two take turns, ten jobs at a time.

    git worktree add /tmp/before v0.2.0         (or another commit)
    python -m benchmarks.service.valkey_ratio /tmp/before

For each checkout a process makes the calls of `valkey_load`, one job after the other, in a database of its own
of one Valkey. Turns are short, so that what else the machine does affects both sides alike.
"""

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import product
from pathlib import Path

import redis
from rich.console import Console
from rich.table import Table

from benchmarks.harness.environment import Environment, service_environment
from benchmarks.service.valkey_load import cpu_seconds, new_job, run_job
from diffedit import Settings
from diffedit.jobs.backend import redis_backend

PROJECT = Path(__file__).parents[2]
OWNERS, QUEUED, TURN = (0, 20), (0, 2000), 10


def serve(url: str, owners: int, queued: int) -> None:
    """Let jobs wait. Then read how many jobs to run, run them, and say so, until the input ends."""
    backend = redis_backend(Settings.model_validate({"redis_url": url, "max_queued": 10**6}))
    kombu = redis.Redis.from_url(url)
    names: list[str | None] = [f"owner{number}" for number in range(owners)]
    names = names or [None]
    for number in range(queued):
        backend.job_store.create_job(new_job(names[number % len(names)]), pixels=4096, send=True)
    print("ready", flush=True)
    for line in sys.stdin:
        for number in range(int(line)):
            run_job(backend, kombu, 0, names[number % len(names)])
        print("done", flush=True)


@contextmanager
def side(checkout: Path, url: str, owners: int, queued: int) -> Iterator[subprocess.Popen[str]]:
    """Run `serve` with the packages of this checkout."""
    packages = [str(checkout / name) for name in ("api_client", "worker")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*packages, str(PROJECT)])}
    program = [sys.executable, "-m", "benchmarks.service.valkey_ratio", "--serve", url, str(owners), str(queued)]
    pipe = subprocess.PIPE
    with subprocess.Popen(program, env=environment, cwd=PROJECT, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin and process.stdout
        process.stdout.readline()
        yield process
        process.stdin.close()


def cost_of_turn(env: Environment, process: "subprocess.Popen[str]") -> float:
    """Return the milliseconds of Valkey's CPU time for each job of a turn."""
    assert process.stdin and process.stdout
    before = cpu_seconds(env)
    process.stdin.write(f"{TURN}\n")
    process.stdin.flush()
    process.stdout.readline()
    return 1000 * (cpu_seconds(env) - before) / TURN


def compare(checkouts: tuple[Path, Path], owners: int, queued: int, turns: int) -> tuple[float, float]:
    """Return the median costs of a job with each checkout, in milliseconds."""
    with service_environment() as env, ExitStack() as stack:
        server = env.stack.environment["DIFFEDIT_REDIS_URL"].rpartition("/")[0]
        sides = [
            stack.enter_context(side(checkout, f"{server}/{database}", owners, queued))
            for database, checkout in enumerate(checkouts)
        ]
        for process in sides:
            cost_of_turn(env, process)  # connects, and loads the scripts
        costs = [[cost_of_turn(env, process) for process in sides] for _ in range(turns)]
    before, now = (statistics.median(each) for each in zip(*costs, strict=True))
    return before, now


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.service.valkey_ratio")
    parser.add_argument("before", type=Path, nargs="?", help="the other checkout")
    parser.add_argument("--turns", type=int, default=60)
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        url, owners, queued = args.serve
        serve(url, int(owners), int(queued))
        return
    if not args.before:
        parser.error("name the other checkout")
    table = Table("CPU time of Valkey per job of four stages", "before", "now", "ratio", box=None)
    for owners, queued in product(OWNERS, QUEUED):
        before, now = compare((args.before.resolve(), PROJECT), owners, queued, args.turns)
        case = f"{owners or 'no'} owners, {queued or 'no'} other jobs queued"
        table.add_row(case, f"{before:.2f} ms", f"{now:.2f} ms", f"{now / before:.2f}")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
