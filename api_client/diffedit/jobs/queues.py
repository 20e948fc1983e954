"""What a job store knows of queues: their lengths, who waits in them, and whether they are paused.

A queue in Celery holds few messages. Those of further jobs are held back in Redis, so that owners take turns: each
owner's next job comes after one job of each other owner, however many jobs they have queued (`lua/queueing.lua`).
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from pydantic import ConfigDict

from diffedit.contract.job import Job
from diffedit.contract.validation import Frozen


class Pause(Frozen):
    """Why a queue is paused, and since when."""

    model_config = ConfigDict(extra="ignore")

    since: datetime
    """When the pause began, by the clock of the Redis server, in UTC."""
    reason: str = ""
    """Why, for people; "" if no reason was given."""


class QueueStore(Protocol):
    """The part of a `JobStore` that is about queues."""

    def send(self, job: Job) -> None:
        """Put a message for the first of the job's stages left into its queue, or hold it back until its turn comes.

        Raises BrokerUnavailable, BrokerFull: the message could not be sent, or the answer was lost.
        """

    def queue_lengths(self, queues: Sequence[str]) -> dict[str, int]:
        """Return the number of messages of each queue, with those that are held back."""

    def waiting_jobs(self) -> dict[str, int]:
        """Return how many jobs wait in each queue in which one waits, whether a worker reads the queue or not."""

    def pause_queues(self, queues: Sequence[str], reason: str = "") -> None:
        """Pause queues: no stage of theirs starts until `resume_queues`. Stages that run go on.

        A second call changes the reason. Workers and clients of 0.2.0 know of no pause. A message that one of them
        sends can be taken until the leader holds it back, a few seconds later.
        """

    def resume_queues(self, queues: Sequence[str]) -> list[str]:
        """End the pause of these queues. Returns those of them that were paused."""

    def paused_queues(self) -> Mapping[str, Pause]:
        """Return the queues that are paused."""

    def tend_queues(self) -> None:
        """What the leader does regularly, so that no lost message and no older version stops a queue."""
