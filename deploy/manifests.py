"""The resources of an overlay, and whether Kubernetes, KEDA and the Prometheus operator would take their form."""

import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml
from cloudcoil.models.keda import v1alpha1 as keda
from cloudcoil.models.prometheus_operator import v1 as prometheus_operator
from jsonschema import Draft202012Validator

KUBERNETES = Path(__file__).parent / "kubernetes"
OVERLAYS = sorted(path.parent for path in KUBERNETES.glob("overlays/*/kustomization.yaml"))

Resource = dict[str, Any]

CUSTOM = {
    ("keda.sh/v1alpha1", "ScaledObject"): keda.ScaledObject,
    ("keda.sh/v1alpha1", "TriggerAuthentication"): keda.TriggerAuthentication,
    ("monitoring.coreos.com/v1", "PodMonitor"): prometheus_operator.PodMonitor,
    ("monitoring.coreos.com/v1", "PrometheusRule"): prometheus_operator.PrometheusRule,
    ("monitoring.coreos.com/v1", "ServiceMonitor"): prometheus_operator.ServiceMonitor,
}
"""The custom resources that the overlays use, as models that were made from their definitions."""


def program(name: str) -> str:
    """Return the path of a program of this environment, which need not be in PATH."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"{name} is not installed; `make check-deploy` installs it")
    return found


def resources(kustomization: Path) -> list[Resource]:
    """Return what `kubectl kustomize` makes of a directory. Raises RuntimeError with its message if it refuses."""
    command = [program("kubectl"), "kustomize", str(kustomization)]
    built = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if built.returncode:
        raise RuntimeError(f"kustomize {kustomization}: {built.stderr.strip()}")
    return list(yaml.safe_load_all(built.stdout))


def problems(resource: Resource) -> list[str]:
    """Return what is wrong with the form of a resource: unknown fields too, as with `kubernetes-validate --strict`."""
    name = f"{resource['kind']} {resource['metadata']['name']}"
    known = (resource["apiVersion"], resource["kind"])
    if known in CUSTOM:
        errors = Draft202012Validator(custom_schema(known)).iter_errors(resource)
        return [f"{name}: {error.json_path}: {error.message}" for error in errors]
    try:
        kubernetes_validate.validate(resource, kubernetes_validate.latest_version(), strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{name}: {'.'.join(map(str, error.path))}: {error.message}"]
    except kubernetes_validate.SchemaNotFoundError:
        return [f"{name}: there is no schema of {' '.join(known)}"]
    return []


@cache
def custom_schema(known: tuple[str, str]) -> dict[str, Any]:
    """Return the JSON schema of a custom resource, which allows only the fields that it names."""
    schema = CUSTOM[known].model_json_schema(by_alias=True)
    for definition in (schema, *schema["$defs"].values()):
        if "properties" in definition:
            definition["additionalProperties"] = False
    schema["properties"]["apiVersion"] = {"const": known[0]}
    schema["properties"]["kind"] = {"const": known[1]}
    return schema
