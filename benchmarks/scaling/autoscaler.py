"""The rules by which KEDA and the HorizontalPodAutoscaler (HPA) choose the replicas of a Deployment.

Written from the documentation, not from a cluster:

- Kubernetes, "Horizontal Pod Autoscaling": "Algorithm details", "Configurable scaling behavior", "Default Behavior".
- Kubernetes API, `HPAScalingRules`; and `pkg/controller/podautoscaler` for what the pages leave open: how external
  metrics become replicas, the order of stabilization and rates, and the rounding of a percentage.
- KEDA, "ScaledObject specification" (`pollingInterval`, `cooldownPeriod`, `minReplicaCount`) and "Scaling Deployments":
  KEDA scales from 0 to 1 and to 0, the HPA does all between.

Times are seconds since any fixed moment. Nothing here reads a clock or Redis.
"""

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

TOLERANCE = 0.1
"""`--horizontal-pod-autoscaler-tolerance`: a metric so close to its target changes nothing."""
SYNC_PERIOD = 15.0
"""`--horizontal-pod-autoscaler-sync-period`: seconds between two decisions of the HPA."""
POLLING_INTERVAL = 30.0
"""KEDA's default: seconds between two looks at whether a Deployment is to be active."""
COOLDOWN_PERIOD = 300.0
"""KEDA's default: seconds without an active trigger before the last replica goes."""


@dataclass(frozen=True)
class Metric:
    """An external metric and its target.

    With "AverageValue", `target` is what one replica may have; with "Value", what all replicas may have together.
    """

    value: float
    target: float
    kind: Literal["AverageValue", "Value"] = "AverageValue"

    def desired_replicas(self, current: int, ready: int, tolerance: float = TOLERANCE) -> int:
        """Return the replicas that this metric asks for, where `current` run and `ready` of them are ready."""
        per_replica = self.kind == "AverageValue"
        ratio = self.value / (self.target * (current if per_replica else 1))
        if abs(1 - ratio) <= tolerance:
            return current
        # Rounded first, because 0.3 / 0.1 is more than 3 in binary.
        return math.ceil(round(self.value / self.target * (1 if per_replica else ready), 9))


@dataclass(frozen=True)
class Policy:
    """How much the replicas may change within `period` seconds: by so many pods, or by so many per cent."""

    kind: Literal["Pods", "Percent"]
    value: int
    period: float


@dataclass(frozen=True)
class Direction:
    """The rules of one direction. Of several policies, `select` chooses the largest change ("Max") or the smallest.

    The recommendation that changes least within the last `stabilization` seconds is the one that holds.
    """

    policies: Sequence[Policy]
    stabilization: float
    select: Literal["Max", "Min"] = "Max"


SCALE_UP = Direction((Policy("Percent", 100, 15), Policy("Pods", 4, 15)), 0)
SCALE_DOWN = Direction((Policy("Percent", 100, 15),), 300)
"""The defaults of Kubernetes."""


class HorizontalAutoscaler:
    """One HorizontalPodAutoscaler. It remembers what it recommended and changed."""

    def __init__(self, minimum: int, maximum: int, up: Direction = SCALE_UP, down: Direction = SCALE_DOWN) -> None:
        self._minimum, self._maximum = minimum, maximum
        self._up, self._down = up, down
        self._recommended: deque[tuple[float, int]] = deque()
        self._changes: deque[tuple[float, int]] = deque()

    def replicas(self, now: float, current: int, ready: int, metrics: Iterable[Metric]) -> int:
        """Return how many replicas there shall be. Called once in `SYNC_PERIOD`, while there are any.

        Several metrics: the one that asks for most decides.
        """
        wanted = max(metric.desired_replicas(current, ready) for metric in metrics)
        wanted = min(max(wanted, self._minimum), self._maximum)
        wanted = self._within_rate(now, current, self._stabilized(now, current, wanted))
        if wanted != current:
            self._changes.append((now, wanted - current))
        return wanted

    def forget(self) -> None:
        """Forget the recommendations: at 0 replicas the HPA rests."""
        self._recommended.clear()

    def _stabilized(self, now: float, current: int, wanted: int) -> int:
        self._recommended.append((now, wanted))
        longest = max(self._up.stabilization, self._down.stabilization)
        while self._recommended[0][0] < now - longest:
            self._recommended.popleft()
        lowest = min(n for at, n in self._recommended if at >= now - self._up.stabilization)
        highest = max(n for at, n in self._recommended if at >= now - self._down.stabilization)
        return min(max(current, lowest), highest)

    def _within_rate(self, now: float, current: int, wanted: int) -> int:
        if wanted > current:
            most = [self._limit(now, current, policy, +1) for policy in self._up.policies]
            return min(wanted, max(current, max(most) if self._up.select == "Max" else min(most)))
        if wanted < current:
            least = [self._limit(now, current, policy, -1) for policy in self._down.policies]
            return max(wanted, min(current, min(least) if self._down.select == "Max" else max(least)))
        return current

    def _limit(self, now: float, current: int, policy: Policy, sign: int) -> int:
        at_start = current - sum(change for at, change in self._changes if at > now - policy.period)
        if policy.kind == "Pods":
            return at_start + sign * policy.value
        share = at_start * (1 + sign * policy.value / 100)
        return math.ceil(share) if sign > 0 else math.floor(share)


class Activation:
    """KEDA's part: from 0 replicas to 1 when a trigger is active, and to 0 when none was for `cooldown` seconds."""

    def __init__(self, minimum: int = 0, cooldown: float = COOLDOWN_PERIOD) -> None:
        self._minimum, self._cooldown = minimum, cooldown
        self._last_active = -math.inf

    def replicas(self, now: float, current: int, active: bool) -> int:
        """Return how many replicas there shall be. Called once in `POLLING_INTERVAL`."""
        if active:
            self._last_active = now
            return max(current, 1)
        if self._minimum == 0 and now - self._last_active > self._cooldown:
            return 0
        return max(current, self._minimum)
