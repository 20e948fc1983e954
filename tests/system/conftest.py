"""Debian's Redis servers, Node.js and Chromium, and workers. `make test-system` runs these tests."""

import shutil
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser, Page

from benchmarks.harness.redis_processes import missing_packages
from diffedit import Client
from diffedit_worker.local.stack import LocalServices
from tests.support.browser import CHROMIUM, Window, launched_browser, opened_window
from tests.support.services import WorkerGroup, cancel_unfinished_jobs, client_of
from tests.support.waiting import until
from tests.support.web_server import Served, served_process


def pytest_configure() -> None:
    """End the run if a program is missing: no test can pass without."""
    packages = {"node": "nodejs", "npm": "npm", CHROMIUM: "chromium", "promtool": "prometheus"}
    if missing := missing_packages() + [package for name, package in packages.items() if not shutil.which(name)]:
        raise pytest.UsageError(f"programs are missing; apt-get install --no-install-recommends {' '.join(missing)}")


@pytest.fixture
def workers(stack: LocalServices) -> Iterator[WorkerGroup]:
    """Workers that the test may kill, on the `stack` of the module."""
    workers = WorkerGroup(stack)
    yield workers
    workers.stop()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServices]:
    """Services and a worker that is ready."""
    with LocalServices(tmp_path_factory.mktemp("page")) as stack:
        stack.start_worker()
        client = client_of(stack)
        until(lambda: client.health().ok, "a ready worker", timeout=240)
        yield stack


@pytest.fixture(scope="module")
def client(stack: LocalServices) -> Client:
    """A client of the stack, which may see all edits."""
    return client_of(stack)


@pytest.fixture(scope="module")
def server(stack: LocalServices, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """`diffedit serve --open`."""
    with served_process(stack.environment, tmp_path_factory.mktemp("web"), "--open") as server:
        yield server


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium."""
    with launched_browser() as browser:
        yield browser


@pytest.fixture
def window(browser: Browser, server: Served, client: Client) -> Iterator[Window]:
    """A window of its own."""
    with opened_window(browser, server.url, permissions=["clipboard-read", "clipboard-write"]) as window:
        yield window
    cancel_unfinished_jobs(client)


@pytest.fixture
def page(window: Window) -> Page:
    """The page of the server."""
    return window.open()


@pytest.fixture
def http(server: Served) -> Iterator[httpx.Client]:
    """A client of the HTTP API."""
    with httpx.Client(base_url=server.url, timeout=60) as http:
        yield http
