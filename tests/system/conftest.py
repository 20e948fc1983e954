"""Debian's Redis servers, Node.js and Chromium, and workers. `make test-system` runs these tests."""

import shutil
from collections.abc import Iterator

import pytest

from benchmarks.harness.redis_processes import missing_packages
from diffedit_worker.local.stack import LocalServices
from tests.support.browser import CHROMIUM
from tests.support.services import WorkerGroup


def pytest_configure() -> None:
    """End the run if a program is missing: no test can pass without."""
    packages = {"node": "nodejs", "npm": "npm", CHROMIUM: "chromium"}
    if missing := missing_packages() + [package for name, package in packages.items() if not shutil.which(name)]:
        raise pytest.UsageError(f"programs are missing; apt-get install --no-install-recommends {' '.join(missing)}")


@pytest.fixture
def workers(stack: LocalServices) -> Iterator[WorkerGroup]:
    """Workers that the test may kill, on the `stack` of the module."""
    workers = WorkerGroup(stack)
    yield workers
    workers.stop()
