"""The ways to scale that are compared: what each one reads, and how its workers leave."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from benchmarks.scaling.autoscaler import Metric
from benchmarks.scaling.fleet import Drain
from benchmarks.scaling.signals import Signals
from diffedit.contract.stages import Lane, ModelGroup

INTERACTIVE_SECONDS, BATCH_SECONDS = 60.0, 900.0
"""The work that may wait for each worker: about how long a job waits while the fleet keeps up."""
UTILIZATION = 0.8
"""The share of the workers that may be busy before there shall be more."""


@dataclass(frozen=True)
class Trigger:
    """What KEDA reads. `metrics` is for the HPA; `active` says whether there shall be a replica at all.

    `scraped` is whether Prometheus stands between, so that the values are as old as its last scrape.
    """

    metrics: Callable[[Signals], Sequence[Metric]]
    active: Callable[[Signals], bool]
    scraped: bool = False


@dataclass(frozen=True)
class Scenario:
    """One way to scale.

    Attributes:
        trigger: None for a fixed number of workers.
        drain: DIFFEDIT_DRAIN of the workers.
        replicas: the largest number of workers of each group.
    """

    name: str
    label: str
    trigger: Trigger | None
    drain: Drain = "stage"
    replicas: tuple[tuple[ModelGroup, int], ...] = ((ModelGroup.LANGUAGE, 4), (ModelGroup.DIFFUSION, 16))


def is_needed(seen: Signals) -> bool:
    """Return whether a job waits or runs, or will come: a node may start while another group has the job.

    Not the seconds of work: nobody knows them before the first stage of a profile was measured.
    """
    return any((*seen.waiting.values(), *seen.running.values(), seen.elsewhere))


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
        is_needed,
    )


def work(interactive: float, batch: float, *, oldest: float | None = None, busy: bool = True) -> Trigger:
    """Seconds of work from Prometheus. With `busy`, also the running jobs, so that working workers are not too many.

    `oldest` is the target for the age of the oldest interactive job that waits.
    """

    def metrics(seen: Signals) -> list[Metric]:
        found = [Metric(seen.work[Lane.INTERACTIVE] / interactive + seen.work[Lane.BATCH] / batch, 1)]
        if busy:
            found.append(Metric(sum(seen.running.values()), UTILIZATION))
        if oldest:
            found.append(Metric(seen.oldest[Lane.INTERACTIVE], oldest, "Value"))
        return found

    return Trigger(metrics, is_needed, scraped=True)


RECOMMENDED = Scenario(
    "work", "seconds of work, running, oldest", work(INTERACTIVE_SECONDS, BATCH_SECONDS, oldest=120)
)
SCENARIOS = (
    Scenario("list", "LLEN, 4 messages a worker (documented before)", list_length(4), "step"),
    Scenario("jobs-1", "waiting + running, 1 a worker", jobs(1)),
    Scenario("jobs-2", "waiting + running, 2 a worker", jobs(2)),
    Scenario("jobs-4", "waiting + running, 4 a worker", jobs(4)),
    Scenario("work-alone", "seconds of work alone, 60 s", work(INTERACTIVE_SECONDS, BATCH_SECONDS, busy=False)),
    RECOMMENDED,
    Scenario("work-120", "the same, 120 s", work(120, BATCH_SECONDS, oldest=240)),
    replace(RECOMMENDED, name="work-step", label="the same as `work`, DIFFEDIT_DRAIN=step", drain="step"),
    Scenario("fixed", "a fixed pool", None, replicas=((ModelGroup.LANGUAGE, 1), (ModelGroup.DIFFUSION, 12))),
)
