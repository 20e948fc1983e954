"""Events that Celery's event loop sends once.

Every two seconds it sends a heartbeat, by which tools such as Flower see the worker. Celery would send it again until
the broker takes it. While a server takes connections and answers nothing, the loop would not turn: the worker would not
see SIGTERM, and after five minutes its probe would end it.
"""

from typing import Any

from celery.events import EventDispatcher


class OnceDispatcher(EventDispatcher):  # type: ignore[misc]
    """Sends each event once. What the broker does not take is kept, and sent after the next connection."""

    def send(self, type: str, *args: Any, retry: bool = False, **fields: Any) -> Any:
        return super().send(type, *args, retry=False, **fields)
