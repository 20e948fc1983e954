"""What a job costs Valkey, in CPU time of its process and in round trips, in parts.

    python -m benchmarks valkey_cost                (the rows of the table)
    python -m benchmarks.service.valkey_cost        (the same, and which commands and scripts took how long)

CPU time hardly depends on what else the machine does, but it does depend on how busy Valkey is: a call that wakes the
server costs several times as much as one that finds it awake. So the jobs come from a queue that is never empty.
"""

import argparse
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha1

from benchmarks.harness.environment import SIMULATED_WORKER, Environment, service_environment
from benchmarks.harness.results import ResultRow, measurement
from benchmarks.harness.waiting import wait_until
from diffedit import NoWorkerWarning
from diffedit.contract.stages import queue_names
from diffedit.jobs.keys import RUNNING, WAITING
from diffedit.jobs.redis_server import _scripts

WARM_UP = 20
"""Jobs that a worker finishes before the measurement begins."""
POLLS = 2000
IDLE_SECONDS = 10.0


@dataclass(frozen=True)
class Use:
    """What Valkey has done: seconds of CPU time, and reads from its connections, one for each round trip."""

    seconds: float
    reads: int

    def __sub__(self, other: "Use") -> "Use":
        return Use(self.seconds - other.seconds, self.reads - other.reads)


def used(env: Environment) -> Use:
    cpu, stats = env.redis.info("cpu"), env.redis.info("stats")
    return Use(cpu["used_cpu_user"] + cpu["used_cpu_sys"], stats["total_reads_processed"])


def valkey_cost(jobs: int = 400, threads: int = 8) -> Iterator[ResultRow]:
    """Measure submission, four stages that nothing is cached for, a poll, and an idle worker. One worker runs all."""
    with service_environment(SIMULATED_SECONDS="0") as env:
        yield from _rows(env, jobs, threads)


def _rows(env: Environment, jobs: int, threads: int) -> Iterator[ResultRow]:
    before = used(env)
    submit(env, jobs, threads)
    submission = used(env) - before
    env.start_workers(1, SIMULATED_WORKER)
    wait_until(lambda: unfinished(env) <= jobs - WARM_UP, 120, interval=0.2)
    before, first = used(env), unfinished(env)
    wait_until(lambda: unfinished(env) == 0, 600, interval=0.5)
    stages, done = used(env) - before, first
    time.sleep(1)
    before = used(env)
    time.sleep(IDLE_SECONDS)
    idle = used(env) - before
    job = env.client.jobs(limit=1)[0].id
    handle, before = env.client.job(job), used(env)
    for _ in range(POLLS):
        handle.status()
    polls = used(env) - before
    total = 1000 * (submission.seconds / jobs + stages.seconds / done)
    reads = submission.reads / jobs + stages.reads / done
    yield ResultRow(
        "CPU time of Valkey per job of four stages, submission to end, one worker, full queue",
        measurement(total, "{} ms"),
        target="1.0 ms or less",
    )
    yield ResultRow("  of which the submission", measurement(1000 * submission.seconds / jobs, "{} ms"))
    yield ResultRow("  round trips to Valkey per job", measurement(reads, digits=1))
    yield ResultRow("  CPU time of Valkey per status poll", measurement(1000 * polls.seconds / POLLS, "{} ms", 3))
    yield ResultRow(
        "  CPU time of Valkey per second for an idle worker",
        measurement(1000 * idle.seconds / IDLE_SECONDS, "{} ms"),
    )


def submit(env: Environment, jobs: int, threads: int) -> float:
    """Submit so many new edits from so many threads. Return the jobs per second."""
    edits = [env.new_edit() for _ in range(jobs)]
    with ThreadPoolExecutor(threads) as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore", NoWorkerWarning)
        env.client.edit(**env.new_edit()).cancel()  # opens connections
        began = time.perf_counter()
        list(pool.map(lambda edit: env.client.edit(**edit), edits))
        return jobs / (time.perf_counter() - began)


def submission_rate(jobs: int = 2000, threads: int = 50) -> Iterator[ResultRow]:
    """Measure how many new edits one process submits. No worker runs."""
    with service_environment() as env:
        submit(env, threads, threads)  # connects each thread
        cpu = time.process_time()
        rate = submit(env, jobs, threads)
        cpu = time.process_time() - cpu
    yield ResultRow(
        f"edits submitted by one process with {threads} threads, 64 x 64 pixels",
        measurement(rate, "{} a second", digits=0),
        target="300 a second",
    )
    yield ResultRow("  CPU time of the client per submission", measurement(1000 * cpu / jobs, "{} ms"))


def unfinished(env: Environment) -> int:
    """Return how many jobs wait or run."""
    waiting = sum(env.redis.zcard(WAITING + queue) for queue in queue_names("tiny"))
    return int(env.redis.hlen(RUNNING) + waiting)


def commands(env: Environment) -> dict[str, tuple[int, int]]:
    """Return calls and microseconds of each command and of each script, as the slow log has them."""
    names = {sha1(text.encode(), usedforsecurity=False).hexdigest(): name for name, text in _scripts().items()}
    found: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for entry in env.redis.slowlog_get(10**6):
        command, *words = entry["command"].split(" ", 2)
        name = names.get(words[0], command) if command.upper() == "EVALSHA" else command.upper()
        found[name][0] += 1
        found[name][1] += entry["duration"]
    return {name: (calls, duration) for name, (calls, duration) in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.service.valkey_cost")
    parser.add_argument("--jobs", type=int, default=400)
    args = parser.parse_args()
    with service_environment(SIMULATED_SECONDS="0") as env:
        env.redis.config_set("slowlog-max-len", 10**6)
        env.redis.config_set("slowlog-log-slower-than", 0)
        for row in _rows(env, args.jobs, 8):
            print(f"{row.name}: {row.ours}")
        for name, (calls, duration) in sorted(commands(env).items(), key=lambda each: -each[1][1]):
            print(f"{name:20} {calls / args.jobs:8.2f} calls a job {duration / args.jobs:8.1f} us a job")


if __name__ == "__main__":
    main()
