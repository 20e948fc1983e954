"""What the parts of `docker/compose.yaml` have to agree on. No Compose was at hand that could check it."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.test_deployment_files import ROOT, with_defaults

DOCKER = ROOT / "docker"
COMPOSE: dict[str, Any] = yaml.safe_load(with_defaults((DOCKER / "compose.yaml").read_text()))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = [name for name, service in SERVICES.items() if "build" in service]

each_of_ours = pytest.mark.parametrize("name", OURS)


def test_every_part_is_there() -> None:
    assert set(OURS) == {"language", "diffusion", "web", "webhooks", "exporter"}
    assert SERVICES.keys() - OURS == {"valkey", "s3", "prometheus", "grafana", "jaeger"}


@pytest.mark.parametrize("name", SERVICES)
def test_what_a_service_names_exists(name: str) -> None:
    service = SERVICES[name]
    assert set(service.get("depends_on", [])) <= SERVICES.keys()
    for volume in service.get("volumes", []):
        source = volume.partition(":")[0]
        assert (DOCKER / source).exists() if source.startswith(".") else source in COMPOSE["volumes"]
    if "build" in service:
        context = (DOCKER / service["build"]["context"]).resolve()
        assert (context / service["build"]["dockerfile"]).is_file()


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_open_on_this_machine_only(name: str) -> None:
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", []))


@each_of_ours
def test_our_containers_may_change_nothing_but_their_volumes(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] and service["cap_drop"] == ["ALL"] and service["tmpfs"] == ["/tmp"]  # noqa: S108
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_prometheus_scrapes_the_workers_and_the_exporter_at_their_port() -> None:
    jobs = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yaml").read_text())["scrape_configs"]
    exporter, workers = jobs
    assert exporter["static_configs"] == [{"targets": ["exporter:9808"]}]
    (found,) = workers["dns_sd_configs"]
    assert set(found["names"]) == {name for name in OURS if "worker" in SERVICES[name]["command"]}
    assert {SERVICES[name]["environment"]["DIFFEDIT_METRICS_PORT"] for name in found["names"]} == {str(found["port"])}
    assert SERVICES["exporter"]["command"][-1] == "9808"


def test_grafana_finds_its_source_and_its_dashboard() -> None:
    provisioning = ROOT / "deploy/grafana/provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yaml").read_text())["datasources"]
    (provider,) = yaml.safe_load((provisioning / "dashboards/diffedit.yaml").read_text())["providers"]
    assert source["url"] == "http://prometheus:9090"
    mounted = {volume.split(":")[1] for volume in SERVICES["grafana"]["volumes"]}
    assert f"{provider['options']['path']}/dashboard.json" in mounted


def test_the_file_for_gpus_changes_only_services_that_exist() -> None:
    gpu = yaml.safe_load(with_defaults((DOCKER / "compose.gpu.yaml").read_text()))["services"]
    assert gpu.keys() <= SERVICES.keys()
    assert {service["environment"]["DIFFEDIT_PROFILE"] for service in gpu.values()} == {"sd21"}
    argument = f"ARG {next(iter(gpu['diffusion']['build']['args']))}="
    assert argument in (DOCKER / "worker.Dockerfile").read_text()


@pytest.mark.parametrize("path", sorted(DOCKER.glob("*Dockerfile")), ids=lambda path: Path(path).name)
def test_what_an_image_is_built_from_is_let_in(path: Path) -> None:
    let_in = {line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"}
    copied = {
        word
        for line in path.read_text().splitlines()
        if line.startswith("COPY ") and "--from" not in line
        for word in line.split()[1:-1]
    }
    assert copied <= let_in
    assert all((ROOT / each).exists() for each in let_in)
