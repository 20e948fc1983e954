"""The throughput of several workers against that of one, on simulated devices."""

import time
from collections.abc import Iterator

from benchmarks.harness.environment import SIMULATED_WORKER, service_environment
from benchmarks.harness.results import ResultRow, measurement


def worker_scaling(seconds: float = 0.5, jobs: int = 4) -> Iterator[ResultRow]:
    """Measure the throughput of 1, 2 and 4 workers whose stages sleep, with `jobs` jobs for each worker."""
    rates = {count: _rate(count, seconds, jobs) for count in (1, 2, 4)}
    for count in (2, 4):
        yield ResultRow(
            f"throughput of {count} workers divided by {count} times that of one (simulated, {seconds:g} s per stage)",
            measurement(rates[count] / rates[1] / count, digits=3),
            "1.000",
            target="0.95 or more at 4" if count == 4 else "",
        )


def _rate(workers: int, seconds: float, jobs: int) -> float:
    """Return the jobs per second of `workers` workers."""
    with service_environment(SIMULATED_SECONDS=str(seconds)) as env:
        env.start_workers(workers, SIMULATED_WORKER)
        # The first job of a worker warms it up.
        for job in [env.client.edit(**env.new_edit()) for _ in range(workers)]:
            env.wait_succeeded(job)
        started = time.perf_counter()
        for job in [env.client.edit(**env.new_edit()) for _ in range(workers * jobs)]:
            env.wait_succeeded(job)
        return workers * jobs / (time.perf_counter() - started)
