"""Real Valkey, real S3; no workers."""

from collections.abc import Iterator

import pytest

from diffedit import Settings
from diffedit_worker.local.stack import LocalServices


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServices]:
    with LocalServices(tmp_path_factory.mktemp("services")) as stack:
        yield stack


@pytest.fixture(scope="session")
def settings(stack: LocalServices) -> Settings:
    return Settings.from_env(stack.environment)
