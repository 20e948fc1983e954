"""What `benchmarks.scaling` simulates as shipped is what the ScaledObjects in deploy/ say."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.scaling.autoscaler import Direction, Metric, Policy
from benchmarks.scaling.scenarios import REDIS, SCENARIOS, SHIPPED, SLOWER, Scenario, list_length
from benchmarks.scaling.signals import Signals
from diffedit.contract.stages import Lane, ModelGroup

COMPONENTS = Path(__file__).parents[2] / "deploy/kubernetes/components"
STAGES_AT_ONCE = 4
"""DIFFEDIT_BATCH_JOBS of the workers for which the files are written. Simulated ones run one stage at a time."""


def scaled_object(component: str, group: ModelGroup) -> dict[str, Any]:
    documents = yaml.safe_load_all((COMPONENTS / component / "scaled-objects.yaml").read_text())
    return next(each["spec"] for each in documents if each["metadata"]["name"] == f"worker-{group.value}")


def signals(**given: dict[Lane, float]) -> Signals:
    nothing = dict.fromkeys(Lane, 0)
    return Signals(**{**dict.fromkeys(("messages", "waiting", "running", "work", "oldest"), nothing), **given})  # type: ignore[arg-type]


def wanted(scenario: Scenario, group: ModelGroup, seen: Signals) -> int:
    return max(metric.desired_replicas(1, 1) for metric in scenario.trigger[group].metrics(seen))


@pytest.mark.parametrize("component", ["keda-prometheus", "keda-redis"])
@pytest.mark.parametrize("group", ModelGroup)
def test_the_rules_are_those_of_the_files(component: str, group: ModelGroup) -> None:
    spec = scaled_object(component, group)
    behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert (spec["pollingInterval"], spec["cooldownPeriod"], spec["minReplicaCount"]) == (15, 600, 0)
    assert (SHIPPED.polling, SHIPPED.cooldown) == (15, 600)
    assert direction(behavior["scaleUp"]) == SHIPPED.up
    assert direction(behavior["scaleDown"]) == SHIPPED.down


def direction(rules: dict[str, Any]) -> Direction:
    policies = tuple(Policy(each["type"], each["value"], each["periodSeconds"]) for each in rules["policies"])
    return Direction(policies, rules["stabilizationWindowSeconds"], rules["selectPolicy"])


@pytest.mark.parametrize("group", ModelGroup)
def test_the_thresholds_over_prometheus_are_those_of_the_file(group: ModelGroup) -> None:
    triggers = {each["name"]: each["metadata"] for each in scaled_object("keda-prometheus", group)["triggers"]}
    oldest = float(triggers["oldest"]["threshold"])
    # A worker that runs several stages at once does that many seconds of work in a second.
    seconds = float(triggers["work"]["threshold"]) / STAGES_AT_ONCE
    running = int(triggers["running"]["threshold"]) / STAGES_AT_ONCE
    assert wanted(SLOWER, group, signals(work=lanes(5 * seconds, 2 * seconds))) == 7
    assert wanted(SLOWER, group, signals(oldest=lanes(6 * oldest, 99 * oldest))) == 6
    assert wanted(SLOWER, group, signals(running=lanes(5 * running, 3 * running))) == 8


@pytest.mark.parametrize("group", ModelGroup)
def test_the_target_over_redis_is_that_of_the_file(group: ModelGroup) -> None:
    modifiers = scaled_object("keda-redis", group)["advanced"]["scalingModifiers"]
    assert modifiers["formula"] == "waiting + waiting_batch + running + running_batch"
    target = int(modifiers["target"])
    seen = signals(waiting=lanes(2 * target, target), running=lanes(3 * target, target))
    assert wanted(REDIS, group, seen) == 7


def test_a_group_that_is_woken_early_is_active_while_jobs_wait_in_another_group() -> None:
    early = next(each for each in SCENARIOS if each.name == "prometheus-180-early").trigger[ModelGroup.DIFFUSION]
    coming = replace(signals(), elsewhere=3)
    assert early.active(coming) and not early.active(signals())
    assert not SLOWER.trigger[ModelGroup.DIFFUSION].active(coming)
    assert max(metric.desired_replicas(1, 1) for metric in early.metrics(coming)) <= 1


def test_the_trigger_that_was_documented_counts_only_messages() -> None:
    seen = signals(waiting=lanes(149, 0), messages=lanes(0, 0))
    trigger = list_length(4)
    assert list(trigger.metrics(seen)) == [Metric(0, 4), Metric(0, 4)]
    assert not trigger.active(seen)


def lanes(interactive: float, batch: float) -> dict[Lane, float]:
    return {Lane.INTERACTIVE: interactive, Lane.BATCH: batch}
