"""What an administrator is told."""

from datetime import datetime

from pydantic import Field, NonNegativeInt

from diffedit.contract.job import State
from diffedit.contract.stages import Lane, ModelGroup, Stage
from diffedit.contract.validation import Frozen


class QueueState(Frozen):
    """A queue at one moment."""

    name: str
    """The name of Celery's queue."""
    profile: str
    """The profile of the jobs in it."""
    group: ModelGroup
    """The stages of which models it carries."""
    lane: Lane
    """The lane of the jobs in it."""
    waiting: NonNegativeInt
    """Jobs that wait."""
    held_back: NonNegativeInt
    """Those of them that wait until jobs of other owners have had their turn."""
    parked: NonNegativeInt
    """Those of them that wait until other jobs of their owners have ended (`max_running`)."""
    running: NonNegativeInt
    """Jobs of which a worker runs a stage."""
    oldest: float | None
    """Seconds for which the job waits that has waited for the longest; None if none waits."""
    paused_since: datetime | None = None
    """Since when the queue is paused, in UTC; None if it is not."""
    paused_reason: str | None = None
    """Why it is paused, as the person said who did it."""
    workers: tuple[str, ...] = ()
    """The names of the live workers that read it, also of those that take no jobs at present."""


class Changed(Frozen):
    """What came of one job that was to be changed."""

    id: str
    """The id of the job."""
    done: bool
    """Whether it was changed; with `dry_run`, whether it would be."""
    error: str | None = None
    """The code of the error that prevented it."""
    message: str | None = None
    """What prevented it, for a person."""


class Explanation(Frozen):
    """Why a job is where it is."""

    id: str
    """The id of the job."""
    state: State
    """Its state."""
    reasons: tuple[str, ...]
    """Sentences for a person: what the job waits for, since when, and who could run it; or how it ended."""
    stage: Stage | None = None
    """The stage that it waits for or that a worker runs; None if it has ended."""
    queue: str | None = None
    """The queue of this stage."""
    waiting_since: datetime | None = None
    """Since when it waits, in UTC; None if it does not wait."""
    ahead: int | None = None
    """Jobs that wait in this queue for longer."""
    workers: tuple[str, ...] = Field(default=())
    """The names of the live workers that take jobs from this queue and can serve the job."""
