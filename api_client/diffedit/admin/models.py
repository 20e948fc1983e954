"""What the methods of `Admin` return."""

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
    """The model group whose stages are in it."""
    lane: Lane
    """The lane of the jobs in it."""
    waiting: NonNegativeInt
    """Jobs that wait."""
    held_back: NonNegativeInt
    """Those of them whose message is held back until jobs of other owners have had their turn, or until `resume`."""
    parked: NonNegativeInt
    """Those of them that wait until other jobs of their owners have ended (`max_running`)."""
    running: NonNegativeInt
    """Jobs of which a worker runs a stage."""
    oldest: float | None
    """Seconds since the longest waiting job began to wait; None if none waits."""
    paused_since: datetime | None = None
    """Since when the queue is paused, in UTC; None if it is not."""
    paused_reason: str | None = None
    """The reason that was given for the pause."""
    workers: tuple[str, ...] = ()
    """The names of the live workers that read it, including paused ones."""


class Changed(Frozen):
    """The result for one job that an administrator wanted to change."""

    id: str
    """The id of the job."""
    done: bool
    """Whether it was changed; with `dry_run`, whether it would be."""
    error: str | None = None
    """The code of the error that prevented it."""
    message: str | None = None
    """What prevented it, for a person."""


class Explanation(Frozen):
    """Why a job waits, runs or has ended."""

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
    """Jobs that are ahead of it in this queue."""
    workers: tuple[str, ...] = Field(default=())
    """The names of the live workers that take jobs from this queue and can serve the job."""
