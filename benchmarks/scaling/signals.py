"""What a scaler can know of the queues of one model group."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import redis

from benchmarks.scaling.clock import START, SimulatedClock
from benchmarks.scaling.traffic import PROFILE
from diffedit.contract.stages import Lane, ModelGroup, queue_name
from diffedit.jobs import keys
from diffedit.jobs.census import QueueCensus, durations_in, work_seconds


@dataclass(frozen=True)
class Signals:
    """The state of the queues of one group, by lane where it is a mapping.

    Attributes:
        messages: `LLEN` of the list of Celery.
        waiting: `ZCARD` of the waiting set.
        running: `HLEN` of the running hash.
        work: seconds of work of these jobs in this group, as `diffedit_work_seconds` has them.
        oldest: seconds since the job came that waits for longest.
        elsewhere: how many jobs of the profile wait in queues of other groups.
    """

    messages: Mapping[Lane, int]
    waiting: Mapping[Lane, int]
    running: Mapping[Lane, int]
    work: Mapping[Lane, float]
    oldest: Mapping[Lane, float]
    elsewhere: int = 0


@dataclass
class SignalReader:
    """Reads the signals of a group in one round trip, or in none if nothing waits and nothing has changed."""

    connection: redis.Redis
    group: ModelGroup
    clock: SimulatedClock
    queues: Mapping[Lane, str] = field(init=False)
    _last: Signals | None = field(init=False, default=None)
    _last_writes: int = field(init=False, default=-1)

    def __post_init__(self) -> None:
        self.queues = {lane: queue_name(PROFILE, self.group, lane) for lane in Lane}

    def read(self) -> Signals:
        """Return the signals of this moment."""
        if self._last is None or self._last_writes != self.clock.writes or any(self._last.waiting.values()):
            self._last, self._last_writes = self._read(), self.clock.writes
        return self._last

    def _read(self) -> Signals:
        pipeline = self.connection.pipeline(transaction=False)
        for queue in self.queues.values():
            pipeline.llen(queue)
            pipeline.zcard(keys.WAITING + queue)
            pipeline.hlen(keys.RUNNING_IN + queue)
            pipeline.zrange(keys.WAITING + queue, 0, 0, withscores=True)
        pipeline.hgetall(keys.DURATIONS + PROFILE)
        others = [group for group in ModelGroup if group is not self.group]
        for name in (queue_name(PROFILE, group, lane) for group in others for lane in Lane):
            pipeline.zcard(keys.WAITING + name)
        answers: list[Any] = pipeline.execute()
        by_lane = {lane: answers[4 * index : 4 * index + 4] for index, lane in enumerate(self.queues)}
        durations = durations_in(answers[4 * len(by_lane)])
        return Signals(
            messages={lane: found[0] for lane, found in by_lane.items()},
            waiting={lane: found[1] for lane, found in by_lane.items()},
            running={lane: found[2] for lane, found in by_lane.items()},
            work={
                lane: work_seconds(self.group, QueueCensus(found[1], found[2]), durations)
                for lane, found in by_lane.items()
            },
            oldest={
                lane: max(0.0, START + self.clock.now - found[3][0][1]) if found[3] else 0.0
                for lane, found in by_lane.items()
            },
            elsewhere=sum(answers[4 * len(by_lane) + 1 :]),
        )
