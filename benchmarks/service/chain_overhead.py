"""The time of a job whose stages do nothing, against a plain Celery chain of as many empty tasks."""

import statistics
from collections.abc import Iterator

from celery import chain

from benchmarks.harness.environment import CONCEPTS, SIMULATED_WORKER, Environment, service_environment
from benchmarks.harness.results import ResultRow, measurement, seconds_of
from diffedit.contract.stages import ModelGroup, queue_name
from diffedit.jobs.dispatch import celery_app

# As in benchmarks/harness/simulated_worker.py, which only a worker can import.
PLAIN_TASKS = ["plain"] * 5 + ["plain.last"]
PLAIN_CHAIN_DONE = "plain:done"


def chain_overhead(runs: int = 15) -> Iterator[ResultRow]:
    """Compare six empty stages with a chain of six empty tasks. Both run on the same worker and take turns."""
    with service_environment(SIMULATED_SECONDS="0") as env:
        env.start_workers(1, SIMULATED_WORKER)
        app = celery_app(env.settings)
        queue = queue_name("tiny", ModelGroup.LANGUAGE)
        # As large a message as that of a real job.
        message = env.client.edit(env.new_picture(), **CONCEPTS).status().job.model_dump(mode="json")

        def run_plain_chain() -> None:
            tasks = [app.signature(name, queue=queue) for name in PLAIN_TASKS]
            tasks[0].args = (message,)
            chain(*tasks, app=app).apply_async()
            env.redis.brpop(PLAIN_CHAIN_DONE)

        for _ in range(3):
            run_plain_chain()
            job_seconds(env)
        pairs = [(seconds_of(run_plain_chain), job_seconds(env)) for _ in range(runs)]
    yield ResultRow(
        "six empty stages, job created to job finished, against a plain Celery chain",
        measurement(statistics.median(ours / plain for plain, ours in pairs)),
        measurement(1000 * statistics.median(plain for plain, _ in pairs), "1.00 = {} ms", digits=1),
        target="3.0 or less",
    )


def job_seconds(env: Environment) -> float:
    """Run a job of six stages; return the seconds from its creation to its end, as its record says.

    The upload of the picture and the pauses of the polling client are not part of it.
    """
    status = env.client.edit(env.new_picture(), **CONCEPTS).wait()
    assert status.finished_at
    return (status.finished_at - status.created_at).total_seconds()
