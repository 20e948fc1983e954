"""What came of a simulated day: the table, and the chart in docs/images."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.scaling.simulation import Day
from benchmarks.scaling.traffic import Kind
from diffedit.contract.stages import ModelGroup

GROUP = ModelGroup.DIFFUSION
"""The group that has GPUs. The language models run on processors here, and their hours are not counted."""


@dataclass(frozen=True)
class Outcome:
    """A day in numbers.

    Attributes:
        waits: median and 99th percentile of the seconds that jobs of each kind waited, without those that never ended.
        unfinished: how many jobs had not ended a day after the day.
        gpu_hours: what the nodes of the diffusion group were paid for.
        ideal: hours of its stages, if each runs once and no GPU ever waits.
        lost_hours: hours of stages that were stopped and started again.
        interruptions: how many stages were stopped; `most` is the largest number for one stage.
        to_zero: how often the group went to no workers.
        hours, nodes, running, waiting: samples over the day.
        wall_seconds, cpu_share: how long the simulation took, and the share in which Python computed.
    """

    name: str
    label: str
    drain: str
    waits: Mapping[str, tuple[float, float]]
    unfinished: int
    longest_wait: float
    gpu_hours: float
    ideal: float
    lost_hours: float
    interruptions: int
    most: int
    to_zero: int
    largest: int
    hours: Sequence[float]
    nodes: Sequence[int]
    running: Sequence[int]
    waiting: Sequence[int]
    wall_seconds: float
    cpu_share: float

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def outcome_of(day: Day) -> Outcome:
    """Return the numbers of a day."""
    waits = {kind: [each.waited for each in day.jobs if each.kind is kind and each.waited is not None] for kind in Kind}
    fleet, scaler = day.fleets[GROUP], day.scalers[GROUP]
    samples = scaler.samples
    return Outcome(
        name=day.scenario.name,
        label=day.scenario.label,
        drain=day.scenario.drain,
        waits={kind.value: _percentiles(found) for kind, found in waits.items() if found},
        unfinished=sum(each.finished_at is None for each in day.jobs),
        longest_wait=max(waited for found in waits.values() for waited in found),
        gpu_hours=fleet.nodes.paid_hours(),
        ideal=sum(each.device_seconds(GROUP) for each in day.jobs) / 3600,
        lost_hours=sum(each.lost for each in day.jobs) / 3600,
        interruptions=fleet.interruptions,
        most=max((count for each in day.jobs for count in each.interrupted.values()), default=0),
        to_zero=scaler.to_zero,
        largest=max(sample.replicas for sample in samples),
        hours=[sample.at / 3600 for sample in samples],
        nodes=[sample.nodes for sample in samples],
        running=[sum(sample.signals.running.values()) for sample in samples],
        waiting=[sum(sample.signals.waiting.values()) for sample in samples],
        wall_seconds=day.wall_seconds,
        cpu_share=day.cpu_share,
    )


def _percentiles(values: Sequence[float]) -> tuple[float, float]:
    median, high = np.percentile(values, (50, 99))
    return float(median), float(high)


HEADER = (
    "scaler",
    "drain",
    *(f"{kind.value} p50 / p99, s" for kind in Kind),
    "GPU hours",
    "of ideal",
    "to zero",
    "stopped / most of one",
    "lost GPU hours",
    "not ended",
)


def row_of(outcome: Outcome) -> list[str]:
    """Return the cells of a scenario, for `HEADER`."""
    waits = [f"{outcome.waits[kind][0]:.0f} / {outcome.waits[kind][1]:.0f}" for kind in Kind if kind in outcome.waits]
    return [
        outcome.name,
        outcome.drain,
        *waits,
        f"{outcome.gpu_hours:.0f}",
        f"{outcome.gpu_hours / outcome.ideal:.2f}",
        str(outcome.to_zero),
        f"{outcome.interruptions} / {outcome.most}",
        f"{outcome.lost_hours:.1f}",
        str(outcome.unfinished),
    ]


def markdown(outcomes: Sequence[Outcome]) -> str:
    """Return the table as Markdown."""
    rows = [HEADER, ["---"] * len(HEADER), *map(row_of, outcomes)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def chart(outcomes: Sequence[Outcome]) -> Figure:
    """Draw one row for each scenario: the nodes that are paid, and the workers that are busy."""
    figure = Figure(figsize=(10, 2.1 * len(outcomes) + 0.5), layout="constrained")
    axes = figure.subplots(len(outcomes), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for each, outcome in zip(axes, outcomes, strict=True):
        _draw(each, outcome)
    axes[0].legend(loc="upper left", frameon=False, ncols=3, fontsize=9)
    axes[-1].set_xlabel("hour of the day")
    axes[-1].set_xticks(range(0, 25, 2))
    axes[-1].set_xlim(0, 25)
    return figure


def _draw(axes: Axes, outcome: Outcome) -> None:
    axes.fill_between(outcome.hours, outcome.nodes, step="post", color="#f2c078", label="GPUs that are paid")
    axes.fill_between(outcome.hours, outcome.running, step="post", color="#00796b", label="stages that run")
    waits = outcome.waits[Kind.INTERACTIVE]
    title = f"{outcome.name}: {outcome.label}, drain {outcome.drain}; {outcome.gpu_hours:.0f} GPU hours"
    if outcome.unfinished:
        title += f"; {outcome.unfinished} jobs were not done after two days"
    else:
        title += f", {outcome.gpu_hours / outcome.ideal:.1f} of the ideal; "
        title += f"interactive p50 {waits[0]:.0f} s, p99 {waits[1]:.0f} s"
    axes.set_title(title, loc="left", fontsize=8.5, fontweight="bold")
    axes.set_ylabel("GPUs")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
