"""A worker with preload loads its models first, or does not start. Real workers use a copy of the bundled model."""

import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from diffedit import Client, State
from diffedit_worker.local.process_group import Process
from diffedit_worker.local.stack import LocalServices
from diffedit_worker.runtime.fitness import UNFIT_EXIT_CODE
from tests.support.factories import PEAR, PICTURE, QUICK, SAMPLES
from tests.support.services import client_of, log_of
from tests.support.waiting import until

TINY = SAMPLES.parent
PROFILE = """
[tiny]
size = 64
cpu_threads = 1
diffusion.id = "./tiny/diffusion"
captioner.id = "./tiny/captioner"
prompter.id = "./tiny/prompter"
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServices]:
    with LocalServices(tmp_path_factory.mktemp("preload")) as stack:
        yield stack


@pytest.fixture
def client(stack: LocalServices) -> Client:
    return client_of(stack)


@pytest.fixture
def models(stack: LocalServices, tmp_path: Path) -> Path:
    """Return the directory of a copy of the bundled model, which is the only one that workers of this stack know."""
    profiles = tmp_path / "profiles.toml"
    profiles.write_text(PROFILE)
    stack.environment |= {"DIFFEDIT_PRELOAD": "1", "DIFFEDIT_PROFILES": str(profiles)}
    return Path(shutil.copytree(TINY, tmp_path / "tiny"))


@pytest.fixture
def start(stack: LocalServices, request: pytest.FixtureRequest) -> Iterator[Callable[[], Process]]:
    started = []

    def start(*queues: str) -> Process:
        started.append(stack.start_worker(request.node.name, queues))
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            until(lambda p=process: p.poll() is not None, "the end of the worker, which unregisters")
        stack.stop(process)


def test_the_first_job_needs_no_model_to_be_loaded(client: Client, models: Path, start: Callable[..., Process]) -> None:
    start()
    until(lambda: client.health().workers, "a ready worker")
    shutil.rmtree(models)  # from now on no model can be loaded
    concepts = {"source_concept": "pear", "target_concept": "apple", "concept_prompts": "sentences", "num_prompts": 2}
    job = client.edit(PICTURE, **concepts, **QUICK)
    assert job.wait(timeout=60).state is State.SUCCEEDED


def test_a_worker_that_cannot_load_a_model_does_not_start_and_takes_no_job(
    stack: LocalServices, client: Client, models: Path, start: Callable[..., Process], request: pytest.FixtureRequest
) -> None:
    shutil.rmtree(models / "prompter")
    job = client.edit(PICTURE, **PEAR, **QUICK)
    failing = start()
    until(lambda: failing.poll() is not None, "the end of the worker")
    assert failing.poll() == UNFIT_EXIT_CODE
    missing = f"{models / 'prompter'} cannot be loaded (no such directory)"
    log = log_of(stack, request.node.name)
    assert f"this worker is not fit to run stages and ends: {missing}" in log
    assert "Traceback" not in log
    assert (job.status().state, job.status().attempts) == (State.QUEUED, {})
    job.cancel()


def test_a_worker_loads_only_the_models_of_its_queues(
    client: Client, models: Path, start: Callable[..., Process]
) -> None:
    for part in ("captioner", "prompter", "diffusion/text_encoder"):
        shutil.rmtree(models / part)
    start("diffedit.tiny.diffusion")
    until(lambda: client.health().workers, "a ready worker")


def test_a_worker_that_is_stopped_while_it_loads_ends_at_once_and_takes_no_job(
    stack: LocalServices, client: Client, models: Path, start: Callable[..., Process], request: pytest.FixtureRequest
) -> None:
    profiles = models.parent / "profiles.toml"
    profiles.write_text(PROFILE.replace("./tiny/prompter", "somebody/something"))
    job = client.edit(PICTURE, **PEAR, **QUICK)
    with socket.create_server(("127.0.0.1", 0)) as hub:  # accepts the connection and never answers
        endpoint = f"http://127.0.0.1:{hub.getsockname()[1]}"
        stack.environment |= {"HF_ENDPOINT": endpoint, "HF_HUB_ETAG_TIMEOUT": "100", "HF_HUB_OFFLINE": "0"}
        loading = start()
        with hub.accept()[0]:
            assert not client.health().workers
            loading.send_signal(signal.SIGTERM)
            until(lambda: loading.poll() is not None, "the end of the worker")
    assert loading.poll() == 0
    assert (job.status().state, job.status().attempts) == (State.QUEUED, {})
    job.cancel()
