"""What the client costs a program that only submits jobs and polls them."""

import statistics
import subprocess
import sys
from collections.abc import Iterator

from benchmarks.harness.environment import PROMPTS, service_environment
from benchmarks.harness.results import ResultRow, measurement, seconds_of


def client_cost(runs: int = 5) -> Iterator[ResultRow]:
    """Measure the import time of the client and the Redis commands of one status poll."""

    def run_python(code: str) -> float:
        return seconds_of(lambda: subprocess.run([sys.executable, "-c", code], check=True))

    added = [run_python("import diffedit") - run_python("pass") for _ in range(runs)]
    yield ResultRow(
        "time to import the client, without Python's own start",
        measurement(statistics.median(added), "{} s"),
        target="0.35 s or less",
    )
    with service_environment() as env:
        job = env.client.edit(env.new_picture(), **PROMPTS)
        env.redis.config_resetstat()
        job.status()
        calls = {name: stats["calls"] for name, stats in env.redis.info("commandstats").items()}
        calls.pop("cmdstat_config|resetstat", None)
    commands = ", ".join(f"{count} {name.removeprefix('cmdstat_')}" for name, count in calls.items())
    yield ResultRow("Redis commands of one status poll", commands, target="one round trip")
