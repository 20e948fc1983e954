"""Prometheus' own program reads our files: the rules and their tests, its configuration, and every query elsewhere."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from deploy.generated import operator_rules
from deploy.manifests import OVERLAYS, resources

DEPLOY = Path(__file__).parents[2] / "deploy"
PROMETHEUS = DEPLOY / "prometheus"


def promtool(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = ["promtool", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def check(*arguments: object) -> str:
    ran = promtool(*arguments)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_the_configuration_and_its_rules_are_valid() -> None:
    assert "SUCCESS" in check("check", "config", PROMETHEUS / "prometheus.yaml")


def test_each_alert_fires_when_it_has_to_and_only_then() -> None:
    assert "SUCCESS" in check("test", "rules", PROMETHEUS / "rules_test.yaml")


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("diffedit_redis_up) == 0", "diffedit_redis_up) == 2"),
        ('lane="interactive"} > 300', 'lane="interactive"} > 100'),
        ("diffedit_damaged_keys) > 0", "diffedit_damaged_keys) >= 0"),
    ],
)
def test_the_tests_find_a_wrong_rule(tmp_path: Path, right: str, wrong: str) -> None:
    rules = (PROMETHEUS / "rules.yaml").read_text()
    assert rules.count(right) == 1
    (tmp_path / "rules.yaml").write_text(rules.replace(right, wrong))
    (tmp_path / "rules_test.yaml").write_text((PROMETHEUS / "rules_test.yaml").read_text())
    assert promtool("test", "rules", tmp_path / "rules_test.yaml").returncode == 1


def test_the_rules_of_the_operator_are_valid_too(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text(yaml.safe_dump(yaml.safe_load(operator_rules())["spec"]))
    check("check", "rules", rules)


def queries_of_the_dashboard() -> list[str]:
    panels = json.loads((DEPLOY / "grafana/dashboard.json").read_text())["panels"]
    found = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    return [query.replace("$__rate_interval", "1m").replace("$profile", ".*") for query in found]


def queries_of_the_scalers() -> list[str]:
    scaled = [each for overlay in OVERLAYS for each in resources(overlay) if each["kind"] == "ScaledObject"]
    return [
        trigger["metadata"]["query"]
        for each in scaled
        for trigger in each["spec"]["triggers"]
        if trigger["type"] == "prometheus"
    ]


@pytest.mark.parametrize("queries", [queries_of_the_dashboard, queries_of_the_scalers])
def test_every_query_of_the_dashboard_and_of_the_scalers_parses(queries: object, tmp_path: Path) -> None:
    found = queries()  # type: ignore[operator]
    assert len(found) >= 6
    rules = [{"record": f"query:number{index}", "expr": query} for index, query in enumerate(found)]
    (tmp_path / "queries.yaml").write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    assert f"{len(found)} rules found" in check("check", "rules", tmp_path / "queries.yaml")
