"""A stage that a worker runs, and when it last made progress."""

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from diffedit.contract.stages import Stage

if TYPE_CHECKING:
    from diffedit_worker.models.loading import Models
    from diffedit_worker.runtime.stage_report import Outcome


COMPLETION_TIMEOUT = 20.0
"""Seconds for which the next stage of a job waits until this one is out of the way: as long as Redis may take."""


@dataclass(eq=False)
class StageTimes:
    """How long a stage takes, in seconds. It began when this object was made.

    Attributes:
        began_at: when, in seconds since 1970.
        load, compute, save: the time in which it read, computed and wrote, as in `StageReport`.
        device: its share of the time of the worker's device.
        ended_at: when its artifacts were stored, by `time.perf_counter`; None before that.
    """

    began_at: float = field(default_factory=time.time)
    load: float = 0.0
    compute: float = 0.0
    save: float = 0.0
    device: float = 0.0
    ended_at: float | None = None
    _started_at: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        """All seconds so far, or until its artifacts were stored."""
        return (self.ended_at or time.perf_counter()) - self._started_at

    def add_device_seconds(self, seconds: float) -> None:
        self.device += seconds

    @contextmanager
    def measure(self, part: Literal["load", "compute", "save"]) -> Iterator[None]:
        """Count the time inside the context, however it ends, as time of this part."""
        started_at = time.perf_counter()
        try:
            yield
        finally:
            setattr(self, part, getattr(self, part) + time.perf_counter() - started_at)


@dataclass
class Ending:
    """What became of a stage, for the task that ran it.

    Attributes:
        outcome: None as long as there is nothing to tell, for example because the message was a duplicate.
        code: the error code, if it ended with an error; else "".
    """

    outcome: "Outcome | None" = None
    code: str = ""


@dataclass(eq=False)
class RunningStage:
    """A stage that this worker runs. `last_..._at` are times of `time.monotonic`.

    Attributes:
        models: the models that it uses, as soon as they are known.
        alone: whether no other stage is computed in this worker meanwhile.
        is_completing: whether it is being recorded as done. The message for the next stage may be here before the
            answer is.
        times: how long it takes, from the start in the record.
        out_of_memory: how often memory ran out in it.
        ending: what became of it, once that is known.
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
    times: StageTimes = field(default_factory=StageTimes)
    out_of_memory: int = 0
    ending: Ending = field(default_factory=Ending)
    ended: threading.Event = field(default_factory=threading.Event)

    def makes_way(self) -> bool:
        """Return whether this stage is over, after a wait if it is about to be. Else the next one is a duplicate."""
        return self.is_completing and self.ended.wait(COMPLETION_TIMEOUT)

    @property
    def last_progress_at(self) -> float:
        """When the stage started, ended its last step, or last waited for a model to be loaded."""
        if self.models is None:
            return self.last_step_at
        return max(self.last_step_at, self.models.loading_clock.last_at)
