"""One healthy worker and a sick one: no job fails, and the sick one is named. Real workers of `benchmarks.chaos`."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.chaos.sickness import SICKNESS, WELL_STAGES, Sickness
from diffedit import Client, JobFailed
from diffedit_worker.local.process_group import Process
from diffedit_worker.local.stack import LocalServices
from diffedit_worker.runtime.fitness import UNFIT_EXIT_CODE
from tests.support.factories import PEAR, PICTURE, QUICK
from tests.support.services import client_of, names_of_workers
from tests.support.waiting import until

APP = "benchmarks.chaos.sick_worker"
JOBS = 8


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServices]:
    """Services and a healthy worker."""
    with LocalServices(tmp_path_factory.mktemp("sick-workers")) as stack:
        stack.environment |= {"DIFFEDIT_WORKER_TTL": "3", "DIFFEDIT_REFUSAL_PATIENCE": "5"}
        stack.start_worker("healthy")
        until(lambda: client_of(stack).health().workers, "the healthy worker")
        yield stack


@pytest.fixture
def client(stack: LocalServices) -> Client:
    return client_of(stack)


def start_sick(stack: LocalServices, sickness: Sickness, well_stages: int) -> Process:
    name = f"{sickness.name.lower()}-{well_stages}"
    variables = {SICKNESS: sickness.value, WELL_STAGES: str(well_stages)}
    return stack.start_worker(name, app=APP, environment=variables)


def codes(client: Client) -> list[str]:
    return [trouble.code for trouble in client.health().troubles]


@pytest.mark.parametrize(
    ("sickness", "code"),
    [(Sickness.WRONG_KEYS, "store_refused"), (Sickness.NO_BUCKET, "store_refused"), (Sickness.CLOCK, "worker_unfit")],
)
def test_a_worker_that_is_sick_from_the_start_ends_and_is_named(
    stack: LocalServices, client: Client, sickness: Sickness, code: str
) -> None:
    sick = start_sick(stack, sickness, well_stages=0)
    until(lambda: sick.poll() is not None, "the end of the sick worker")
    assert sick.poll() == UNFIT_EXIT_CODE
    troubles = {trouble.name.partition("@")[0]: trouble for trouble in client.health().troubles}
    trouble = troubles[f"{sickness.name.lower()}-0"]
    assert (trouble.kind, trouble.code) == ("unfit", code)
    stack.stop(sick)


@pytest.mark.parametrize(
    "sickness",
    [Sickness.WRONG_KEYS, Sickness.CUDA_ERROR, Sickness.OUT_OF_MEMORY, Sickness.NAN, Sickness.EXCEPTION],
)
def test_no_job_fails_of_a_worker_that_falls_sick(stack: LocalServices, client: Client, sickness: Sickness) -> None:
    sick = start_sick(stack, sickness, well_stages=1)
    name = f"{sickness.name.lower()}-1"
    until(lambda: name in names_of_workers(client) or sick.poll() is not None, "the sick worker")
    jobs = [client.edit(PICTURE, **PEAR, **QUICK, seed=seed) for seed in range(JOBS)]
    statuses = [job.wait(timeout=100) for job in jobs]
    refusing = {worker.partition("@")[0] for each in statuses for names in each.refused_by.values() for worker in names}
    assert refusing <= {name}
    if sickness is Sickness.CUDA_ERROR and refusing:  # else the healthy worker was faster
        until(lambda: sick.poll() is not None, "the end of the sick worker")
        assert sick.poll() == UNFIT_EXIT_CODE
    stack.stop(sick)


def test_a_job_that_no_worker_can_run_fails_with_the_reason(tmp_path: Path) -> None:
    with LocalServices(tmp_path / "alone") as stack:
        stack.environment |= {"DIFFEDIT_WORKER_TTL": "2", "DIFFEDIT_REFUSAL_PATIENCE": "3"}
        client = client_of(stack)
        start_sick(stack, Sickness.OUT_OF_MEMORY, well_stages=0)
        until(lambda: client.health().workers, "the worker")
        job = client.edit(PICTURE, **PEAR, **QUICK)
        until(lambda: job.status().refused_by, "a refusal")
        until(lambda: client.health().troubles, "the report of the trouble, which follows the refusal")
        health = client.health()
        assert not health.ok
        assert [trouble.kind for trouble in health.troubles] == ["refusing"]
        with pytest.raises(JobFailed) as caught:
            job.wait(timeout=60)
        assert caught.value.error_code == "out_of_memory"
