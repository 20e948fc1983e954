"""The ways to scale that are compared: what each one reads, and how its workers leave."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from benchmarks.scaling.autoscaler import (
    COOLDOWN_PERIOD,
    POLLING_INTERVAL,
    SCALE_DOWN,
    SCALE_UP,
    Direction,
    Metric,
    Policy,
)
from benchmarks.scaling.fleet import Drain
from benchmarks.scaling.signals import Signals
from diffedit.contract.stages import Lane, ModelGroup

LANGUAGE, DIFFUSION = ModelGroup.LANGUAGE, ModelGroup.DIFFUSION


@dataclass(frozen=True)
class Trigger:
    """What KEDA reads. `metrics` is for the HPA; `active` says whether there shall be a replica at all.

    `scraped` is whether Prometheus stands between, so that the values are as old as its last scrape.
    """

    metrics: Callable[[Signals], Sequence[Metric]]
    active: Callable[[Signals], bool]
    scraped: bool = False


@dataclass(frozen=True)
class Rules:
    """What a ScaledObject says besides its triggers. The defaults are those of KEDA and Kubernetes. Seconds."""

    polling: float = POLLING_INTERVAL
    cooldown: float = COOLDOWN_PERIOD
    up: Direction = SCALE_UP
    down: Direction = SCALE_DOWN


@dataclass(frozen=True)
class Scenario:
    """One way to scale.

    Attributes:
        trigger: by group; none for a fixed number of workers.
        drain: DIFFEDIT_DRAIN of the workers.
        replicas: the largest number of workers of each group.
    """

    name: str
    label: str
    trigger: Mapping[ModelGroup, Trigger]
    drain: Drain = "stage"
    rules: Rules = Rules()
    replicas: Mapping[ModelGroup, int] = field(default_factory=lambda: {DIFFUSION: 16, LANGUAGE: 4})


def has_jobs(seen: Signals) -> bool:
    """Return whether a job of the group waits or runs.

    Not whether there are seconds of work: nobody knows them before the first stage of a profile was measured.
    """
    return any((*seen.waiting.values(), *seen.running.values()))


def will_have_jobs(seen: Signals) -> bool:
    """Return whether a job waits in another group as well: a node may start while the job is there."""
    return has_jobs(seen) or seen.elsewhere > 0


def list_length(target: float) -> Trigger:
    """The trigger that was documented before: `LLEN` of each list of Celery."""
    return Trigger(
        lambda seen: [Metric(seen.messages[lane], target) for lane in Lane],
        lambda seen: any(seen.messages.values()),
    )


def jobs(target: float) -> Trigger:
    """`ZCARD` of the waiting sets and `HLEN` of the running hashes, added by a formula of KEDA (`scalingModifiers`)."""
    return Trigger(
        lambda seen: [Metric(sum(seen.waiting.values()) + sum(seen.running.values()), target)],
        has_jobs,
    )


def work(
    seconds: float, oldest: float, running: float | None = 1, batch: float | None = None, *, early: bool = False
) -> Trigger:
    """Three triggers over Prometheus.

    Args:
        seconds: of work for each worker.
        oldest: seconds for each worker that the oldest interactive job has waited.
        running: how many stages run for each worker; None leaves this trigger out.
        batch: seconds of batch work for each worker, if they differ.
        early: wake a group that has no workers when a job waits in another one.
    """

    def metrics(seen: Signals) -> list[Metric]:
        wanted = seen.work[Lane.INTERACTIVE] / seconds + seen.work[Lane.BATCH] / (batch or seconds)
        found = [Metric(wanted, 1), Metric(seen.oldest[Lane.INTERACTIVE], oldest)]
        return [*found, Metric(sum(seen.running.values()), running)] if running else found

    return Trigger(metrics, will_have_jobs if early else has_jobs, scraped=True)


def _both(trigger: Trigger) -> Mapping[ModelGroup, Trigger]:
    return {DIFFUSION: trigger, LANGUAGE: trigger}


SHIPPED = Rules(
    polling=15,
    cooldown=600,
    up=Direction((Policy("Percent", 100, 60), Policy("Pods", 4, 60)), 0),
    down=Direction((Policy("Percent", 20, 60), Policy("Pods", 1, 60)), 600),
)
"""What the ScaledObjects in deploy/kubernetes/components say."""

REDIS = Scenario("redis", "waiting + running, 4 a worker", {DIFFUSION: jobs(4), LANGUAGE: jobs(20)}, rules=SHIPPED)
PROMETHEUS = Scenario("prometheus", "60 s of work, oldest, running", _both(work(60, 60)), rules=SHIPPED)
SLOWER = replace(
    PROMETHEUS,
    name="prometheus-180",
    label="180 s of work, oldest, running",
    trigger={DIFFUSION: work(180, 60), LANGUAGE: work(60, 60)},
)
SCENARIOS = (
    Scenario("list", "LLEN, 4 a worker", _both(list_length(4)), "step"),
    REDIS,
    PROMETHEUS,
    SLOWER,
    replace(SLOWER, name="prometheus-180-step", drain="step"),
    replace(
        SLOWER,
        name="prometheus-180-early",
        label="180 s of work, oldest, running, woken early",
        trigger={**SLOWER.trigger, DIFFUSION: work(180, 60, early=True)},
    ),
    replace(
        REDIS, name="redis-2", label="waiting + running, 2 a worker", trigger={**REDIS.trigger, DIFFUSION: jobs(2)}
    ),
    replace(REDIS, name="redis-defaults-step", label="waiting + running, defaults", rules=Rules(), drain="step"),
    Scenario("fixed", "8 workers, always", {}, replicas={DIFFUSION: 8, LANGUAGE: 1}),
)
