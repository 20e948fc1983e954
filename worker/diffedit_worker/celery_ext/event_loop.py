"""When the event loop of a Celery worker turns.

The loop runs while the worker has a connection to the broker. Before that, and when the connection is lost, Celery
waits for the broker outside of the loop, for as long as it takes.
"""

from collections.abc import Callable
from typing import Any

from celery import Celery
from celery.bootsteps import StartStopStep

TURN = 1.0
"""Seconds between two turns of an idle loop, at most."""


def watch_event_loop(app: Celery, turned: Callable[[], object], left: Callable[[], object]) -> None:
    """Let a worker of this application call `turned` at least every second while its loop turns, and `left` after."""

    class WatchEventLoop(StartStopStep):  # type: ignore[misc]
        # Nearly the last one before the loop runs.
        requires = ("celery.worker.consumer.tasks:Tasks",)

        def start(self, consumer: Any) -> None:
            """Called when there is a connection. Celery cancels the timer when the connection is lost."""
            if consumer.hub:
                turned()
                consumer.hub.call_repeatedly(TURN, turned)

        def stop(self, consumer: Any) -> None:
            """Called when the connection is lost, and when the worker ends."""
            left()

    app.steps["consumer"].add(WatchEventLoop)
