"""Celery's queues of a worker, except that -Q and -X can only name queues of its profile.

Celery makes a queue of any name that -Q has, and ignores what it does not know in -X. A worker with a misspelt queue,
or with one of another profile, would be announced and wait for messages that nobody sends.
"""

from collections.abc import Sequence
from typing import Any

from celery.app.amqp import Queues

from diffedit.errors import InvalidRequest


class ServedQueues(Queues):  # type: ignore[misc]
    """The queues of `task_queues`, all of which a worker reads unless it is told to read fewer."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._of_profile = tuple(self)

    def select(self, include: Sequence[str] | None) -> None:
        """Read only these queues (-Q). Raises InvalidRequest."""
        self._check("--queues", include or ())
        super().select(include)

    def deselect(self, exclude: Sequence[str] | str | None) -> None:
        """Do not read these queues (-X), or no longer the one that the remote command `cancel_consumer` names.

        Raises:
            InvalidRequest: an option is wrong. For a remote command nothing is raised: that would end the worker.
        """
        is_remote = isinstance(exclude, str)
        if not is_remote:
            self._check("--exclude-queues", exclude or ())
        super().deselect(exclude)
        if not is_remote and not self.consume_from:
            raise InvalidRequest("--exclude-queues: no queue is left for this worker; name fewer")

    def _check(self, option: str, names: Sequence[str]) -> None:
        for name in names:
            if name not in self._of_profile:
                raise InvalidRequest(
                    f"{option}: the profile of this worker has no queue {name!r}; its queues are "
                    f"{', '.join(self._of_profile)}; DIFFEDIT_PROFILE chooses the profile"
                )
