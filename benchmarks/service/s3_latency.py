"""How busy the device of a worker is when S3 answers late."""

from collections.abc import Iterator

from benchmarks.harness.environment import SIMULATED_WORKER, service_environment
from benchmarks.harness.results import ResultRow, measurement
from benchmarks.harness.tcp_proxy import TcpProxy, address_of

ENDPOINT = "DIFFEDIT_S3_ENDPOINT_URL"
LATENCY = 0.02
"""Seconds that are added to each request to S3."""


def s3_latency(seconds: float = 0.25, jobs: int = 12) -> Iterator[ResultRow]:
    """Measure the share of the time in which the device of one worker computes while jobs are waiting."""
    with (
        service_environment(SIMULATED_SECONDS=str(seconds)) as env,
        TcpProxy(address_of(env.stack.environment[ENDPOINT])) as proxy,
        proxy.delaying(LATENCY),
    ):
        env.start_workers(1, SIMULATED_WORKER, **{ENDPOINT: f"http://127.0.0.1:{proxy.port}"})
        env.wait_succeeded(env.client.edit(**env.new_edit()))
        submitted = [env.client.edit(**env.new_edit()) for _ in range(jobs)]
        for job in submitted:
            env.wait_succeeded(job)
        records = [job.status() for job in submitted]
    # A stage whose artifacts are found in the cache would not have slept.
    assert not any(record.cache_hits for record in records)
    busy = seconds * sum(len(record.stages) for record in records)
    began = min(record.started_at for record in records if record.started_at)
    ended = max(record.finished_at for record in records if record.finished_at)
    yield ResultRow(
        f"device busy, one worker, {1000 * LATENCY:.0f} ms to S3 (simulated, {seconds:g} s per stage, four stages)",
        measurement(100 * busy / (ended - began).total_seconds(), "{} %", digits=1),
    )
