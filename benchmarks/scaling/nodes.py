"""The machines under the workers. They come slowly, stay for a while without a worker, and are paid meanwhile."""

import itertools
from dataclasses import dataclass

from benchmarks.scaling.events import Events

PROVISION = 120.0
"""Seconds from the request of a node until a pod starts on it. An assumption: one to five minutes are usual."""
KEEP = 600.0
"""`--scale-down-unneeded-time` of the cluster autoscaler: seconds for which it keeps a node that nobody needs."""


@dataclass(eq=False)
class Node:
    """A machine for one worker. Times are seconds since the start of the day.

    Attributes:
        ready_at: when a pod can start on it.
        free_since: since when it is empty; None while it is not.
        removed_at: until when it is paid.
    """

    number: int
    requested_at: float
    ready_at: float
    free_since: float | None = None
    removed_at: float | None = None


class NodePool:
    """The nodes of one Deployment."""

    def __init__(self, events: Events, provision: float = PROVISION, keep: float = KEEP) -> None:
        self._events = events
        self._provision, self._keep = provision, keep
        self._numbers = itertools.count()
        self.nodes: list[Node] = []

    def take(self) -> Node:
        """Return the node that became free last, or request one."""
        free = [node for node in self.nodes if node.free_since is not None and node.removed_at is None]
        now = self._events.now
        if not free:
            node = Node(next(self._numbers), now, now + self._provision)
            self.nodes.append(node)
            return node
        node = max(free, key=lambda each: (each.free_since, each.number))
        node.free_since = None
        return node

    def free(self, node: Node) -> None:
        """Note that the node is empty. It goes if nobody takes it in time."""
        node.free_since = since = self._events.now

        def remove_if_free() -> None:
            if node.free_since == since:
                node.removed_at = self._events.now

        self._events.after(self._keep, remove_if_free)

    @property
    def present(self) -> int:
        """How many nodes are paid at the moment."""
        return sum(node.removed_at is None for node in self.nodes)

    def paid_hours(self) -> float:
        """Return the hours that all nodes together were paid for until now."""
        until = self._events.now
        seconds = sum((until if n.removed_at is None else n.removed_at) - n.requested_at for n in self.nodes)
        return seconds / 3600
