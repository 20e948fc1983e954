"""The files that are made from others."""

from pathlib import Path

import yaml

from deploy.grafana import dashboard

DEPLOY = Path(__file__).parent
LABELS = {"app.kubernetes.io/part-of": "diffedit", "release": "kube-prometheus-stack"}


def generated() -> dict[Path, str]:
    """Return what each generated file has to hold."""
    return {
        DEPLOY / "grafana/dashboard.json": dashboard.text(),
        DEPLOY / "prometheus/operator-rules.yaml": operator_rules(),
    }


def operator_rules() -> str:
    """Return the rules as a resource of the Prometheus operator."""
    rules = yaml.safe_load((DEPLOY / "prometheus/rules.yaml").read_text())
    resource = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "diffedit", "labels": LABELS},
        "spec": rules,
    }
    note = "# Made from rules.yaml by `python -m deploy`.\n"
    text: str = yaml.safe_dump(resource, sort_keys=False, width=120, allow_unicode=True)
    return note + text
