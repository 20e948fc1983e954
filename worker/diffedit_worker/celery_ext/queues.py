"""Celery's queues of a worker, except that -Q and -X can only name queues that exist.

Celery makes a queue of any name that -Q has, and ignores what it does not know in -X. A worker with a misspelt queue,
or with one of another profile, would be announced and wait for messages that nobody sends.
"""

from collections.abc import Sequence
from typing import Any

from celery.app.amqp import Queues

from diffedit.errors import InvalidRequest


class ServedQueues(Queues):  # type: ignore[misc]
    """The queues of `task_queues`, of which a worker reads some."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._served = tuple(self)

    def select(self, include: Sequence[str] | None) -> None:
        """Read only these queues (-Q). Raises InvalidRequest."""
        self._check(include or ())
        super().select(include)

    def deselect(self, exclude: Sequence[str] | None) -> None:
        """Do not read these queues (-X). Raises InvalidRequest."""
        self._check(exclude or ())
        super().deselect(exclude)
        if not self.consume_from:
            raise InvalidRequest("this worker would read no queue; leave one that --exclude-queues does not name")

    def _check(self, names: Sequence[str]) -> None:
        if unknown := [name for name in names if name not in self._served]:
            raise InvalidRequest(
                f"this worker has no queue {' and no queue '.join(map(repr, unknown))}; its profile has "
                f"{', '.join(self._served)}; another profile is served with DIFFEDIT_PROFILE"
            )
