"""The whole system: real Valkey, real S3, a real worker process with the bundled model."""

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from diffedit import Client, JobHandle, JobStatus, Settings, State
from diffedit_worker.local.stack import LocalServices
from diffedit_worker.models.profiles import SAMPLES

QUICK = {"num_inference_steps": 4, "num_maps_per_mask": 2}
PEAR = {
    "source_prompt": "a photograph of a pear on a green table",
    "target_prompt": "a photograph of some cherries on a green table",
}


def slow() -> dict[str, object]:
    """What makes an edit take long; its inversion is found done by no other job."""
    return {"num_inference_steps": 500, "num_maps_per_mask": 2, "caption": f"a pear {uuid.uuid4().hex}"}


def until(condition: Callable[[], object], what: str, timeout: float = 60) -> None:
    """Wait for a condition; a test fails with `what` if it never comes true."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"never came: {what}"
        time.sleep(0.02)


def until_status(job: JobHandle, holds: Callable[[JobStatus], bool], what: str) -> JobStatus:
    for status in job.watch(timeout=60):
        if holds(status):
            return status
    pytest.fail(f"the job ended as {status.state} before {what}")


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServices]:
    """Services and one worker for the tests that leave them as they are."""
    with LocalServices(tmp_path_factory.mktemp("stack")) as stack:
        stack.start_worker()
        client = Client(Settings.from_env(stack.environment))
        until(lambda: client.health().ok, "a ready worker")
        yield stack


@pytest.fixture(scope="session")
def client(stack: LocalServices) -> Client:
    return Client(Settings.from_env(stack.environment))


@pytest.fixture
def cleared_desk(client: Client) -> Iterator[None]:
    """Whatever a test leaves unfinished is cancelled, so that the next one finds the worker free."""
    yield
    for status in client.jobs(limit=1000):
        if not status.is_terminal:
            client.job(status.id).cancel()


@contextmanager
def busy_worker(client: Client) -> Iterator[None]:
    """The one worker has something long to do inside."""
    blocker = client.edit(SAMPLES / "06.png", **PEAR, **slow())
    until_status(blocker, lambda status: status.state is State.RUNNING and status.step > 0, "the worker is busy")
    yield
    blocker.cancel()
