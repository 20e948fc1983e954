"""What `deploy/kubernetes` makes: its form, what its parts have to agree on, and what its pods may do."""

import copy
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from deploy.manifests import KUBERNETES, OVERLAYS, Resource, problems, resources
from diffedit.contract.stages import Lane, ModelGroup, queue_name, queue_names
from diffedit.jobs import keys
from diffedit_worker.settings import WorkerSettings
from tests.unit.test_deployment_files import parsed, queues_of

GUIDE = KUBERNETES.parents[1] / "docs/guides/kubernetes.md"
BUILT = {overlay.name: overlay for overlay in OVERLAYS}
SCALED = [name for name in BUILT if "keda" in (BUILT[name] / "kustomization.yaml").read_text()]

each_overlay = pytest.mark.parametrize("overlay", BUILT)
each_scaled_overlay = pytest.mark.parametrize("overlay", SCALED)


@cache
def built(overlay: str) -> tuple[Resource, ...]:
    return tuple(resources(BUILT[overlay]))


def of_kind(overlay: str, kind: str) -> dict[str, Resource]:
    return {each["metadata"]["name"]: each for each in built(overlay) if each["kind"] == kind}


def pods(overlay: str) -> dict[str, dict[str, Any]]:
    """Return the pods of the Deployments by their names."""
    return {name: each["spec"]["template"] for name, each in of_kind(overlay, "Deployment").items()}


def container(pod: dict[str, Any]) -> dict[str, Any]:
    (only,) = pod["spec"]["containers"]
    return only


def configuration(overlay: str) -> dict[str, str]:
    (only,) = (each for name, each in of_kind(overlay, "ConfigMap").items() if name != "diffedit-dashboard")
    return only["data"]


def selected(overlay: str, selector: dict[str, Any]) -> set[str]:
    """Return the Deployments whose pods a selector means."""

    def fits(labels: dict[str, str]) -> bool:
        wanted = selector.get("matchLabels", {}).items()
        expressions = selector.get("matchExpressions", [])
        assert all(each["operator"] == "In" for each in expressions)
        return wanted <= labels.items() and all(labels.get(each["key"]) in each["values"] for each in expressions)

    return {name for name, pod in pods(overlay).items() if fits(pod["metadata"]["labels"])}


@each_overlay
def test_every_resource_has_the_form_of_its_kind(overlay: str) -> None:
    assert [problem for resource in built(overlay) for problem in problems(resource)] == []


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("Deployment", ("spec", "template", "spec")),
        ("Deployment", ("spec", "template", "spec", "securityContext")),
        ("NetworkPolicy", ("spec",)),
        ("ScaledObject", ("spec",)),
        ("ScaledObject", ("spec", "advanced", "horizontalPodAutoscalerConfig", "behavior", "scaleDown")),
        ("ScaledObject", ()),
        ("PrometheusRule", ("spec",)),
        ("PodMonitor", ("spec",)),
        ("ServiceMonitor", ("spec",)),
    ],
)
def test_an_unknown_field_is_found(kind: str, path: tuple[str, ...]) -> None:
    resource = copy.deepcopy(next(iter(of_kind("keda-prometheus", kind).values())))
    place = resource
    for name in path:
        place = place[name]
    place["unknownField"] = 1
    (problem,) = problems(resource)
    assert "unknownField" in problem


@pytest.mark.parametrize("value", [None, "many", {}])
def test_a_wrong_value_of_a_custom_resource_is_found(value: Any) -> None:
    resource = copy.deepcopy(of_kind("keda-redis", "ScaledObject")["worker-diffusion"])
    resource["spec"]["triggers"] = value
    assert problems(resource)


@each_overlay
def test_each_command_parses_and_the_workers_read_every_queue_once(overlay: str) -> None:
    commands = {name: container(pod)["args"] for name, pod in pods(overlay).items()}
    assert set(commands) == {"worker-language", "worker-diffusion", "web", "webhooks", "exporter"}
    for command in commands.values():
        parsed(command)
    read = [queue for name in commands if name.startswith("worker") for queue in queues_of(commands[name])]
    assert sorted(read) == sorted(queue_names("tiny"))


@each_overlay
def test_every_setting_exists_and_is_valid(overlay: str) -> None:
    settings = configuration(overlay)
    known = {alias for field in WorkerSettings.model_fields.values() for alias in _aliases(field.validation_alias)}
    assert settings.keys() - known <= {"DIFFEDIT_DRAIN"}
    WorkerSettings.from_env(settings)


def _aliases(alias: Any) -> list[str]:
    return [alias] if isinstance(alias, str) else alias.choices


@each_overlay
def test_a_pod_meets_the_restricted_standard(overlay: str) -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/, and more."""
    for name, pod in pods(overlay).items():
        spec, only = pod["spec"], container(pod)
        assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["runAsUser"] == 10001, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        assert only["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
        kinds = {kind for volume in spec["volumes"] for kind in volume.keys() - {"name"}}
        assert kinds <= {"emptyDir", "persistentVolumeClaim", "image"}
        assert "/tmp" in {mount["mountPath"] for mount in only["volumeMounts"]}  # noqa: S108
        assert {mount["name"] for mount in only["volumeMounts"]} == {volume["name"] for volume in spec["volumes"]}


@each_overlay
def test_every_pod_has_probes_and_limits_of_memory(overlay: str) -> None:
    for name, pod in pods(overlay).items():
        only = container(pod)
        probes = {probe for probe in only if probe.endswith("Probe")}
        assert {"cpu", "memory"} <= only["resources"]["requests"].keys() and only["resources"]["limits"]["memory"]
        if name == "webhooks":
            assert not probes
        else:
            assert probes >= {"livenessProbe", "readinessProbe"}
            ports = {port["name"] for port in only["ports"]}
            for probe in probes:
                (action,) = (value for key, value in only[probe].items() if key in ("httpGet", "tcpSocket"))
                assert action["port"] in ports


@each_overlay
def test_a_worker_is_alive_whatever_redis_and_s3_do(overlay: str) -> None:
    for group in ModelGroup:
        only = container(pods(overlay)[f"worker-{group}"])
        assert only["livenessProbe"]["httpGet"]["path"] == only["startupProbe"]["httpGet"]["path"] == "/livez"
        assert only["readinessProbe"]["httpGet"]["path"] == "/readyz"
        loading = only["startupProbe"]["periodSeconds"] * only["startupProbe"]["failureThreshold"]
        assert loading < of_kind(overlay, "Deployment")[f"worker-{group}"]["spec"]["progressDeadlineSeconds"]
        (port,) = (each["containerPort"] for each in only["ports"] if each["name"] == "metrics")
        assert {"name": "DIFFEDIT_METRICS_PORT", "value": str(port)} in only["env"]


@each_overlay
def test_the_grace_period_fits_how_a_worker_drains(overlay: str) -> None:
    drain = configuration(overlay)["DIFFEDIT_DRAIN"]
    stage_timeout = WorkerSettings().stage_timeouts.default
    for group in ModelGroup:
        grace = pods(overlay)[f"worker-{group}"]["spec"]["terminationGracePeriodSeconds"]
        assert grace > stage_timeout if drain == "stage" else grace <= 60
    if overlay == "gpu-spot":
        assert pods(overlay)["worker-diffusion"]["spec"]["terminationGracePeriodSeconds"] < 30


@each_overlay
def test_no_secret_is_in_the_files_and_the_guide_names_each(overlay: str) -> None:
    assert of_kind(overlay, "Secret") == {}
    references = {
        (source["secretKeyRef"]["name"], source["secretKeyRef"]["key"])
        for pod in pods(overlay).values()
        for source in (each.get("valueFrom", {}) for each in container(pod)["env"])
        if "secretKeyRef" in source
    }
    for authentication in of_kind(overlay, "TriggerAuthentication").values():
        references |= {(each["name"], each["key"]) for each in authentication["spec"]["secretTargetRef"]}
    commands = {line.split()[4]: line for line in _joined(GUIDE) if line.startswith("kubectl create secret")}
    for name, key in references:
        assert f"--from-literal={key}=" in commands[name]


def _joined(page: Path) -> list[str]:
    """Return the lines of a page, those that end with a backslash together with the next one."""
    return [line.strip().removeprefix("$ ") for line in page.read_text().replace("\\\n", " ").splitlines()]


@each_overlay
def test_every_selector_means_pods(overlay: str) -> None:
    everything = set(pods(overlay))
    for kind in ("PodDisruptionBudget", "PodMonitor"):
        for each in of_kind(overlay, kind).values():
            assert selected(overlay, each["spec"]["selector"])
    for each in of_kind(overlay, "NetworkPolicy").values():
        assert selected(overlay, each["spec"]["podSelector"])
    services = of_kind(overlay, "Service")
    for each in services.values():
        (name,) = selected(overlay, {"matchLabels": each["spec"]["selector"]})
        ports = {port["name"] for port in container(pods(overlay)[name])["ports"]}
        assert {port["targetPort"] for port in each["spec"]["ports"]} <= ports
    for monitor in of_kind(overlay, "ServiceMonitor").values():
        wanted = monitor["spec"]["selector"]["matchLabels"].items()
        (service,) = (each for each in services.values() if wanted <= each["metadata"]["labels"].items())
        assert {each["port"] for each in monitor["spec"]["endpoints"]} <= {p["name"] for p in service["spec"]["ports"]}
    denied = of_kind(overlay, "NetworkPolicy")["diffedit-deny-all"]["spec"]
    assert selected(overlay, denied["podSelector"]) == everything and denied["policyTypes"] == ["Ingress", "Egress"]


@each_overlay
def test_a_disruption_budget_lets_a_single_pod_be_moved(overlay: str) -> None:
    for name, budget in of_kind(overlay, "PodDisruptionBudget").items():
        (deployment,) = selected(overlay, budget["spec"]["selector"])
        replicas = of_kind(overlay, "Deployment")[deployment]["spec"].get("replicas", 0)
        assert name == deployment
        assert "maxUnavailable" in budget["spec"] or replicas > budget["spec"]["minAvailable"]


@each_overlay
def test_gpus_are_asked_for_by_the_diffusion_group_of_the_gpu_overlays_only(overlay: str) -> None:
    limits = {name: container(pod)["resources"]["limits"] for name, pod in pods(overlay).items()}
    with_gpu = {name for name, limit in limits.items() if "nvidia.com/gpu" in limit}
    assert with_gpu == (set() if overlay == "cpu" else {"worker-diffusion"})
    images = {name for name, pod in pods(overlay).items() if "worker-cuda" in container(pod)["image"]}
    assert images == with_gpu


@each_scaled_overlay
def test_each_group_is_scaled_to_zero_and_back(overlay: str) -> None:
    deployments = of_kind(overlay, "Deployment")
    scaled = {
        each["spec"]["scaleTargetRef"]["name"]: each["spec"] for each in of_kind(overlay, "ScaledObject").values()
    }
    assert scaled.keys() == {f"worker-{group}" for group in ModelGroup}
    for name, spec in scaled.items():
        # Two who set the number of replicas would fight.
        assert "replicas" not in deployments[name]["spec"]
        assert spec["minReplicaCount"] == 0 < spec["maxReplicaCount"]
        assert spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]["stabilizationWindowSeconds"]


@each_scaled_overlay
def test_the_scaler_asks_for_the_queues_of_the_profile(overlay: str) -> None:
    profile, batch_jobs = configuration(overlay)["DIFFEDIT_PROFILE"], configuration(overlay)["DIFFEDIT_BATCH_JOBS"]
    for group in ModelGroup:
        spec = of_kind(overlay, "ScaledObject")[f"worker-{group}"]["spec"]
        asked = {each["name"]: each["metadata"] for each in spec["triggers"]}
        if "waiting" in asked:
            queues = [queue_name(profile, group, lane) for lane in Lane]
            names = {f"{keys.WAITING}{queue}" for queue in queues} | {f"diffedit:running:{queue}" for queue in queues}
            assert {each["listName"] for each in asked.values()} == names
            assert set(spec["advanced"]["scalingModifiers"]["formula"].split(" + ")) == asked.keys()
        else:
            assert all(f'profile="{profile}", group="{group}"' in each["query"] for each in asked.values())
            assert asked["running"]["threshold"] == batch_jobs
