"""Debian's Prometheus scrapes a worker and the exporter: our queries ask only for metrics that exist."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import httpx
import pytest

from benchmarks.dashboard.prometheus import Prometheus
from deploy.grafana.panels import ROWS
from deploy.grafana.render import Source, render
from deploy.manifests import KUBERNETES
from diffedit import State
from diffedit_worker.local.stack import LocalServices
from tests.support.factories import PEAR, PICTURE, QUICK
from tests.support.services import client_of
from tests.support.waiting import until

RULES = KUBERNETES.parent / "prometheus/rules.yaml"
SCALERS = KUBERNETES / "components/keda-prometheus/scaled-objects.yaml"
NOT_ON_A_CPU = {"diffedit_gpu_memory_bytes"}


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Prometheus, which has seen an edit. It knows metrics that were not counted yet by their descriptions."""
    directory = tmp_path_factory.mktemp("watched")
    with Prometheus(directory / "prometheus") as prometheus, LocalServices(directory / "stack") as stack:
        prometheus.watch(stack)
        stack.start_worker()
        client = client_of(stack)
        until(lambda: client.health().ok, "a ready worker", timeout=240)
        until(lambda: _value(prometheus, "diffedit_worker_info"), "the metrics of the worker", timeout=60)
        job = client.for_owner("u1").edit(PICTURE, **PEAR, **QUICK)
        assert job.wait(timeout=60).state is State.SUCCEEDED
        until(lambda: _value(prometheus, 'diffedit_stages_total{stage="edit"}'), "the metrics of the edit", timeout=60)
        yield prometheus


def _value(prometheus: Prometheus, query: str) -> float | None:
    found = httpx.get(f"{prometheus.url}/api/v1/query", params={"query": query}, timeout=60).json()["data"]["result"]
    return float(found[0]["value"][1]) if found else None


def asked_for(text: str) -> set[str]:
    """Return the metrics that queries name. What follows a colon is the name of a recorded one."""
    return families(re.findall(r"(?<![:\w])diffedit_\w+", text))


def families(names: Iterable[str]) -> set[str]:
    """Return the names of these series' metrics: without what Prometheus' formats append."""
    return {re.sub(r"_(bucket|count|sum|total|info)$", "", name) for name in names}


def test_rules_dashboard_and_scalers_ask_only_for_metrics_that_exist(prometheus: Prometheus) -> None:
    known = httpx.get(f"{prometheus.url}/api/v1/metadata", timeout=60).json()["data"].keys()
    panels = [query for row in ROWS.values() for panel in row for query in panel.all_queries]
    for text in (RULES.read_text(), SCALERS.read_text(), "\n".join(panels)):
        asked = asked_for(text)
        assert asked
        assert asked - NOT_ON_A_CPU - families(known) == set()


def test_the_dashboard_is_drawn(prometheus: Prometheus, tmp_path: Path) -> None:
    at = _value(prometheus, "vector(time())")
    assert at
    figure = render(Source(prometheus.url, 60, at, "30s"), "a test")
    figure.savefig(tmp_path / "dashboard.png")
    drawn = {text.get_text() for axes in figure.axes for text in axes.texts}
    assert {panel.title for row in ROWS.values() for panel in row} <= drawn
