"""A stage that a worker runs, and when it last made progress."""

import math
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from diffedit.contract.stages import Stage

if TYPE_CHECKING:
    from diffedit_worker.models.loading import Models


COMPLETION_TIMEOUT = 20.0
"""Seconds for which the next stage of a job waits until this one is out of the way: as long as Redis may take."""


@dataclass(eq=False)
class RunningStage:
    """A stage that this worker runs. The times are those of `time.monotonic`.

    Attributes:
        models: the models that it uses, as soon as they are known.
        alone: whether no other stage is computed in this worker meanwhile.
        is_completing: whether it is being recorded as done. The message for the next stage may be here before the
            answer is.
        device_seconds: its share of the time of the device so far.
        ended: is set when the worker has nothing more to do with it.
    """

    job_id: str
    stage: Stage
    last_step_at: float = field(default_factory=time.monotonic)
    last_reported_at: float = field(default_factory=time.monotonic)
    last_preview_at: float = -math.inf
    models: "Models | None" = None
    alone: bool = False
    is_completing: bool = False
    device_seconds: float = 0.0
    ended: threading.Event = field(default_factory=threading.Event)

    def add_device_seconds(self, seconds: float) -> None:
        self.device_seconds += seconds

    def makes_way(self) -> bool:
        """Return whether this stage is over, after a wait if it is about to be. Else the next one is a duplicate."""
        return self.is_completing and self.ended.wait(COMPLETION_TIMEOUT)

    @property
    def last_progress_at(self) -> float:
        """When the stage started, ended its last step, or last waited for a model to be loaded."""
        if self.models is None:
            return self.last_step_at
        return max(self.last_step_at, self.models.loading_clock.last_at)
