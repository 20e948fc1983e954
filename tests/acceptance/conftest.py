"""Fixtures of the whole system: real Valkey, real S3, a real worker process with the bundled model."""

from collections.abc import Iterator

import pytest

from diffedit import Client
from diffedit_worker.local.stack import LocalServices
from tests.support.services import WorkerGroup, cancel_unfinished_jobs, client_of
from tests.support.waiting import until
from tests.support.worker_template import WorkerTemplate, WorkerTemplates, workers_from_templates


@pytest.fixture(scope="session", autouse=True)
def templates() -> Iterator[WorkerTemplates]:
    """The processes from which workers are forked."""
    with workers_from_templates() as templates:
        yield templates


@pytest.fixture(scope="session")
def template(templates: WorkerTemplates) -> WorkerTemplate:
    """The process from which most workers are forked."""
    return templates.first


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServices]:
    """Services and one worker, for tests that leave them as they found them."""
    with LocalServices(tmp_path_factory.mktemp("stack")) as stack:
        # Long enough for another worker, and short enough to wait for the failure of a job that none can run.
        stack.environment["DIFFEDIT_REFUSAL_PATIENCE"] = "3"
        stack.start_worker()
        client = client_of(stack)
        until(lambda: client.health().ok, "a ready worker")
        yield stack


@pytest.fixture(scope="session")
def client(stack: LocalServices) -> Client:
    return client_of(stack)


@pytest.fixture
def no_unfinished_jobs(client: Client) -> Iterator[None]:
    """Cancel what the test leaves unfinished, so that the next one finds the worker idle."""
    yield
    cancel_unfinished_jobs(client)


@pytest.fixture
def workers(stack: LocalServices) -> Iterator[WorkerGroup]:
    """Workers that the test may kill. For a module with a stack of its own that has no worker."""
    workers = WorkerGroup(stack)
    yield workers
    workers.stop()
