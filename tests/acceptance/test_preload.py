"""A worker that loads its models first, or does not start. Real workers, on a copy of the bundled model."""

import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from diffedit import Client, Settings, State
from diffedit_worker.local.process_group import Process
from diffedit_worker.local.stack import LocalServices
from tests.acceptance.conftest import PEAR, QUICK, SAMPLES, until

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
    return Client(Settings.from_env(stack.environment))


@pytest.fixture
def models(stack: LocalServices, tmp_path: Path) -> Path:
    """A copy of the bundled model, and all that this stack's workers know of one."""
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
        stack.stop(process)


def says(stack: LocalServices, request: pytest.FixtureRequest, words: str) -> bool:
    return words in (stack.directory / f"logs/{request.node.name}.log").read_text()


def test_the_first_job_finds_all_models_loaded(client: Client, models: Path, start: Callable[..., Process]) -> None:
    start()
    until(lambda: client.health().workers, "a ready worker")
    shutil.rmtree(models)  # so that nothing can be loaded any more
    job = client.edit(SAMPLES / "06.png", source_concept="pear", target_concept="apple", num_prompts=2, **QUICK)
    assert job.wait(timeout=60).state is State.SUCCEEDED


def test_a_worker_that_cannot_load_a_model_does_not_start_and_leaves_the_jobs_to_others(
    stack: LocalServices, client: Client, models: Path, start: Callable[..., Process], request: pytest.FixtureRequest
) -> None:
    shutil.rmtree(models / "prompter")
    job = client.edit(SAMPLES / "06.png", **PEAR, **QUICK)
    unfit = start()
    until(lambda: unfit.poll() is not None, "it ends")
    assert unfit.poll() == 1
    missing = f"{models / 'prompter'} cannot be loaded (no such directory)"
    assert says(stack, request, f"this worker does not start: {missing}")
    assert not says(stack, request, "Traceback")
    assert (job.status().state, job.status().attempts) == (State.QUEUED, {})
    job.cancel()


def test_a_worker_needs_the_models_of_its_own_queues_only(
    client: Client, models: Path, start: Callable[..., Process]
) -> None:
    for part in ("captioner", "prompter", "diffusion/text_encoder"):
        shutil.rmtree(models / part)
    start("diffedit.tiny.diffusion")
    until(lambda: client.health().workers, "a ready worker")


def test_a_worker_that_is_told_to_stop_while_it_loads_ends_at_once_and_has_taken_nothing(
    stack: LocalServices, client: Client, models: Path, start: Callable[..., Process], request: pytest.FixtureRequest
) -> None:
    profiles = models.parent / "profiles.toml"
    profiles.write_text(PROFILE.replace("./tiny/prompter", "somebody/something"))
    job = client.edit(SAMPLES / "06.png", **PEAR, **QUICK)
    with socket.create_server(("127.0.0.1", 0)) as hub:  # takes the call and never answers
        endpoint = f"http://127.0.0.1:{hub.getsockname()[1]}"
        stack.environment |= {"HF_ENDPOINT": endpoint, "HF_HUB_ETAG_TIMEOUT": "100", "HF_HUB_OFFLINE": "0"}
        loading = start()
        with hub.accept()[0]:
            assert not client.health().workers
            loading.send_signal(signal.SIGTERM)
            until(lambda: loading.poll() is not None, "it ends")
    assert loading.poll() == 0
    assert (job.status().state, job.status().attempts) == (State.QUEUED, {})
    job.cancel()
