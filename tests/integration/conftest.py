"""Real Valkey, real S3; no workers."""

import subprocess
from collections.abc import Iterator

import pytest

from diffedit import Settings
from diffedit_worker.local import process_group
from diffedit_worker.local.stack import LocalServices


@pytest.fixture(scope="module", autouse=True)
def new_interpreters() -> Iterator[None]:
    """Start workers as users do, also if the acceptance tests of the same run fork theirs from a template."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(process_group, "Popen", subprocess.Popen)
        yield


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServices]:
    with LocalServices(tmp_path_factory.mktemp("services")) as stack:
        yield stack


@pytest.fixture(scope="session")
def settings(stack: LocalServices) -> Settings:
    return Settings.from_env(stack.environment)
