"""A stage that a worker runs, and when it last made progress."""

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from diffedit.contract.stages import Stage

if TYPE_CHECKING:
    from diffedit_worker.models.loading import Models


@dataclass
class RunningStage:
    """A stage that this worker runs. The times are those of `time.monotonic`.

    Attributes:
        models: the models that it uses, as soon as they are known.
        alone: whether no other stage is computed in this worker meanwhile.
    """

    job_id: str
    stage: Stage
    last_step_at: float = field(default_factory=time.monotonic)
    last_reported_at: float = field(default_factory=time.monotonic)
    last_preview_at: float = -math.inf
    models: "Models | None" = None
    alone: bool = False

    @property
    def last_progress_at(self) -> float:
        """When the stage started, ended its last step, or last waited for a model to be loaded."""
        if self.models is None:
            return self.last_step_at
        return max(self.last_step_at, self.models.loading_clock.last_at)
