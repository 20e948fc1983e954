"""What Celery's event loop publishes, it publishes once.

Celery would repeat it until the broker takes it: a heartbeat every two seconds, by which tools such as Flower see the
worker, and answers to remote commands. While a server takes connections and answers nothing, the loop would not turn:
the worker would not see SIGTERM, and after five minutes its probe would end it.
"""

from typing import Any

from celery import Celery
from celery.app.control import Control
from celery.events import EventDispatcher
from kombu.pidbox import Mailbox


class OnceDispatcher(EventDispatcher):  # type: ignore[misc]
    """Sends each event once. What the broker does not take is kept, and sent after the next connection."""

    def send(self, type: str, *args: Any, retry: bool = False, **fields: Any) -> Any:
        return super().send(type, *args, retry=False, **fields)


class OnceMailbox(Mailbox):  # type: ignore[misc]
    """Sends each answer to a remote command once."""

    def _publish_reply(self, *args: Any, **options: Any) -> None:
        super()._publish_reply(*args, retry_policy={"max_retries": 0}, **options)


class OnceControl(Control):  # type: ignore[misc]
    Mailbox = OnceMailbox


def publish_once(app: Celery) -> None:
    """Let a worker of this application publish each event and each answer once."""
    app.events.dispatcher_cls = OnceDispatcher
    app.control_cls = OnceControl
