"""A day of jobs: a valley at night, two peaks, a burst of one user, batch jobs at night, and a long job every hour.

The seconds of the stages are assumptions, of a small GPU at 768 x 768 pixels with 50 steps. No GPU was measured.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from diffedit.contract.job import Job, JobOptions
from diffedit.contract.object_keys import artifact_key
from diffedit.contract.request import EditParams, EditRequest
from diffedit.contract.stages import Artifact, Lane, ModelGroup, Stage

DAY = 24 * 3600.0
PROFILE = "sd21"
STAGE_SECONDS: Mapping[Stage, float] = {
    Stage.CAPTION: 0.6,
    Stage.PROMPTS: 1.2,
    Stage.EMBED: 0.3,
    Stage.MASK: 8.0,
    Stage.INVERT: 16.0,
    Stage.EDIT: 36.0,
}
"""Means of usual jobs. A job takes between about half and twice as long."""
LONG_STAGES: Mapping[Stage, float] = {Stage.INVERT: 600.0, Stage.EDIT: 1200.0}
"""Of a long job, such as a large picture with 1,000 steps."""

JOBS_PER_HOUR = (6, 3, 2, 2, 3, 6, 24, 70, 170, 250, 290, 250, 160, 180, 250, 300, 260, 180, 110, 70, 50, 36, 18, 9)
"""Interactive jobs that begin in each hour, from midnight."""
BURST_AT, BURST_JOBS = 13.5 * 3600, 500
BATCH_AT, BATCH_JOBS = 2 * 3600.0, 200


class Kind(StrEnum):
    """Which part of the traffic a job belongs to."""

    INTERACTIVE = "interactive"
    """Many users, a few jobs each."""
    BURST = "burst"
    """500 interactive jobs of one user at once."""
    BATCH = "batch"
    """200 batch jobs of one program at once, at night."""
    LONG = "long"
    """A batch job with an inversion of 10 and an edit of 20 minutes."""


@dataclass
class SimulatedJob:
    """A job of the day and what became of it. Times are seconds since the start of the day.

    Attributes:
        seconds: what each of its stages takes.
        interrupted: how often each stage was stopped by a scale-in and started again.
        lost: seconds that stopped stages had run.
    """

    job: Job
    kind: Kind
    submitted_at: float
    seconds: Mapping[Stage, float]
    started_at: float | None = None
    finished_at: float | None = None
    interrupted: dict[Stage, int] = field(default_factory=dict)
    lost: float = 0.0

    @property
    def waited(self) -> float | None:
        """Seconds of its life in which nothing worked for it, or what worked was lost. None if it has not ended."""
        if self.finished_at is None:
            return None
        return self.finished_at - self.submitted_at - sum(self.seconds.values())

    def device_seconds(self, group: ModelGroup) -> float:
        """Return what its stages of this group take if each runs once."""
        return sum(seconds for stage, seconds in self.seconds.items() if stage.group is group)


def a_day(seed: int = 0, scale: float = 1.0) -> list[SimulatedJob]:
    """Return the jobs of a day, by the time of their submission. `scale` multiplies how many there are."""
    numbers = random.Random(seed)
    jobs = [
        _job(numbers, Kind.INTERACTIVE, hour * 3600 + numbers.uniform(0, 3600), f"user-{numbers.randrange(200)}")
        for hour, count in enumerate(JOBS_PER_HOUR)
        for _ in range(round(count * scale))
    ]
    # A program submits a few jobs in each second.
    jobs += [_job(numbers, Kind.BURST, BURST_AT + n / 5, "burst") for n in range(round(BURST_JOBS * scale))]
    jobs += [_job(numbers, Kind.BATCH, BATCH_AT + n / 5, "nightly") for n in range(round(BATCH_JOBS * scale))]
    jobs += [_job(numbers, Kind.LONG, hour * 3600 + numbers.uniform(0, 3600), "posters") for hour in range(24)]
    return sorted(jobs, key=lambda each: each.submitted_at)


def with_artifacts_of(job: Job, stage: Stage) -> Job:
    """Return the job as it is after this stage."""
    return job.with_artifacts({each: artifact_key(each.value, job.id * 2, _extension(each)) for each in stage.gives})


def _job(numbers: random.Random, kind: Kind, at: float, owner: str) -> SimulatedJob:
    texts = {"source_prompt": "a bowl of fruits", "target_prompt": "a bowl of pears"}
    if kind is Kind.INTERACTIVE and numbers.random() < 0.3:
        texts = {"source_concept": "fruits", "target_concept": "pears"}
    name = f"{numbers.getrandbits(128):032x}"
    params = EditParams(profile=PROFILE, concept_prompts="sentences")
    request = EditRequest(image=f"inputs/{name[:2]}/{name * 2}.png", **texts, params=params)
    lane = Lane.BATCH if kind in (Kind.BATCH, Kind.LONG) else Lane.INTERACTIVE
    job = Job(id=name, request=request, options=JobOptions(lane=lane, owner=owner))
    factor = numbers.lognormvariate(0, 0.25)
    means = {**STAGE_SECONDS, **(LONG_STAGES if kind is Kind.LONG else {})}
    return SimulatedJob(job, kind, at, {stage: means[stage] * factor for stage in job.stages_left})


def _extension(artifact: Artifact) -> str:
    texts: Sequence[Artifact] = (Artifact.CAPTION, Artifact.PROMPTS)
    if artifact in texts:
        return "json"
    return "png" if artifact in (Artifact.MASK, Artifact.RESULT) else "safetensors"
