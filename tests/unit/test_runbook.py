"""The runbook has a section for each alert, and each alert leads to its section."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
RUNBOOK = "docs/guides/runbook.md"
ALERTS = {
    rule["alert"]: rule["annotations"]["runbook_url"]
    for group in yaml.safe_load((ROOT / "deploy/prometheus/rules.yaml").read_text())["groups"]
    for rule in group["rules"]
    if "alert" in rule
}
SECTIONS = dict(
    re.findall(r"^### (DiffEdit\w+)\n(.*?)(?=^##)", (ROOT / RUNBOOK).read_text(), flags=re.MULTILINE | re.DOTALL)
)


def test_each_alert_has_a_section_and_each_section_an_alert() -> None:
    assert ALERTS.keys() == SECTIONS.keys()


def test_each_alert_leads_to_its_section() -> None:
    # The anchor that mkdocs makes of the heading.
    assert {name: f"{RUNBOOK}#{name.lower()}" for name in SECTIONS} == ALERTS


def test_each_section_says_what_it_means_what_to_do_and_how_to_verify() -> None:
    parts = ("Meaning", "Users see", "Look at", "Do", "Verify")
    lacking = {
        name: missing
        for name, text in SECTIONS.items()
        if (missing := [part for part in parts if f"**{part}**" not in text and f"**{part.lower()}**" not in text])
    }
    assert lacking == {}
