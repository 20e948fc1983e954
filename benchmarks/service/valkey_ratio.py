"""What a job costs Valkey, against another checkout of this project: the two take turns, ten jobs at a time.

    git worktree add /tmp/before v0.2.0         (or another commit)
    python -m benchmarks.service.valkey_ratio /tmp/before

For each checkout a process makes the calls of `valkey_load`, one job after the other, in a database of its own
of one Valkey. For the last row the calls of both are recorded, and sent again over many connections, so that Valkey is
always busy. Turns are short, so that what else the machine does affects both sides alike.
"""

import argparse
import os
import pickle
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import redis
from rich.console import Console
from rich.table import Table

from benchmarks.harness.environment import Environment, service_environment
from benchmarks.service.valkey_load import calls_of_job, cpu_seconds, new_job, replay, run_job
from diffedit import Settings
from diffedit.jobs.backend import redis_backend

PROJECT = Path(__file__).parents[2]
OWNERS, QUEUED, TURN = (0, 20), (0, 2000), 10
CONNECTIONS, RECORDED, BUSY_TURN = 50, 300, 60


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


def record(url: str, file: str) -> None:
    """Write what is sent for each of some jobs into a file. The server keeps the scripts."""
    backend = redis_backend(Settings.model_validate({"redis_url": url, "max_queued": 10**6}))
    kombu = redis.Redis.from_url(url)
    run_job(backend, kombu, 0)
    Path(file).write_bytes(pickle.dumps([calls_of_job(backend, kombu, 0) for _ in range(RECORDED)]))


def program_of(checkout: Path, *words: str) -> dict[str, Any]:
    """Return how to run this program with the packages of a checkout, as arguments of `subprocess`."""
    packages = [str(checkout / name) for name in ("api_client", "worker")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*packages, str(PROJECT)])}
    program = [sys.executable, "-m", "benchmarks.service.valkey_ratio", *words]
    return {"args": program, "env": environment, "cwd": PROJECT}


@contextmanager
def side(checkout: Path, url: str, owners: int, queued: int) -> Iterator[subprocess.Popen[str]]:
    """Run `serve` with the packages of this checkout."""
    program, pipe = program_of(checkout, "--serve", url, str(owners), str(queued)), subprocess.PIPE
    with subprocess.Popen(**program, stdin=pipe, stdout=pipe, text=True) as process:
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


def compare_busy(checkouts: tuple[Path, Path], turns: int) -> tuple[float, float]:
    """Return the median costs of a job with each checkout, in milliseconds, while many connections keep Valkey busy."""
    with service_environment() as env, tempfile.TemporaryDirectory() as folder:
        recorded = []
        for number, checkout in enumerate(checkouts):
            file = Path(folder, str(number))
            words = ("--record", env.stack.environment["DIFFEDIT_REDIS_URL"], str(file))
            subprocess.run(**program_of(checkout, *words), check=True)
            recorded.append(pickle.loads(file.read_bytes()))  # noqa: S301
        costs: list[list[float]] = [[], []]
        for turn in range(turns):
            first = turn * BUSY_TURN % RECORDED
            for number in (0, 1) if turn % 2 else (1, 0):
                env.redis.flushall()
                before = cpu_seconds(env)
                replay(env, recorded[number][first : first + BUSY_TURN], CONNECTIONS)
                costs[number].append(1000 * (cpu_seconds(env) - before) / BUSY_TURN)
    return statistics.median(costs[0]), statistics.median(costs[1])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.service.valkey_ratio")
    parser.add_argument("before", type=Path, nargs="?", help="the other checkout")
    parser.add_argument("--turns", type=int, default=60)
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--record", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.record:
        record(*args.record)
        return
    if args.serve:
        url, owners, queued = args.serve
        serve(url, int(owners), int(queued))
        return
    if not args.before:
        parser.error("name the other checkout")
    table = Table("CPU time of Valkey per job of four stages", "before", "now", "ratio", box=None)
    checkouts = (args.before.resolve(), PROJECT)

    def add(case: str, before: float, now: float) -> None:
        table.add_row(case, f"{before:.2f} ms", f"{now:.2f} ms", f"{now / before:.2f}")

    for owners, queued in product(OWNERS, QUEUED):
        case = f"{owners or 'no'} owners, {queued or 'no'} other jobs queued"
        add(case, *compare(checkouts, owners, queued, args.turns))
    add(f"{CONNECTIONS} connections that are always busy", *compare_busy(checkouts, 2 * args.turns))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
