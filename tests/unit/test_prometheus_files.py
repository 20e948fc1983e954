"""What the rules, their tests and the dashboard have to agree on. `promtool` itself checks them in tests/system."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.generated import generated

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
TEXT = (DEPLOY / "prometheus/rules.yaml").read_text()
RULES: list[dict[str, Any]] = [rule for group in yaml.safe_load(TEXT)["groups"] for rule in group["rules"]]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
PANELS = json.loads((DEPLOY / "grafana/dashboard.json").read_text())["panels"]

each_alert = pytest.mark.parametrize("name", ALERTS)


def test_the_list_of_alerts_at_the_top_is_complete() -> None:
    listed = re.findall(r"^#   (DiffEdit\w+) +\S", TEXT, flags=re.MULTILINE)
    assert sorted(listed) == sorted(ALERTS)


@each_alert
def test_an_alert_says_how_urgent_it_is_and_what_to_do(name: str) -> None:
    alert = ALERTS[name]
    assert alert["labels"]["severity"] in ("critical", "warning", "info")
    assert alert["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert alert["annotations"]["runbook_url"] == f"docs/guides/runbook.md#{name.lower()}"


@each_alert
def test_an_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not(name: str) -> None:
    cases = yaml.safe_load((DEPLOY / "prometheus/rules_test.yaml").read_text())["tests"]
    expected = [
        (case["name"], bool(each["exp_samples"]), len(case["input_series"]))
        for case in cases
        for each in case["promql_expr_test"]
        if f'alertname="{name}"' in each["expr"]
    ]
    assert any(fires for _, fires, _ in expected)
    # Either at another time or input, or for another series of the same case.
    assert any(not fires or series > 1 for _, fires, series in expected)


@pytest.mark.parametrize("path", generated(), ids=lambda path: path.name)
def test_a_generated_file_is_up_to_date(path: Path) -> None:
    assert path.read_text() == generated()[path], "run `python -m deploy`"


def test_the_panels_of_the_dashboard_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in PANELS:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert max(x for x, _ in cells) < 24 and not cells & taken
        taken |= cells
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)


def test_the_dashboard_shows_every_metric_that_an_alert_is_about() -> None:
    shown = " ".join(target["expr"] for panel in PANELS for target in panel.get("targets", []))
    # After a colon it is part of a recorded name.
    watched = set(re.findall(r"(?<![:\w])diffedit_[a-z_]+", TEXT)) - {"diffedit_worker_info"}
    bases = {re.sub(r"_(bucket|count)$", "", name) for name in watched}
    assert {base for base in bases if base not in shown} == set()
