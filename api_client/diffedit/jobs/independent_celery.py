"""A Celery application that neither affects the other Celery applications of its process nor is affected by them.

- Its settings are its own. Before what an application is given, Celery takes the broker, the result backend, the loader
  and a module of settings from the environment (CELERY_BROKER_URL, CELERY_CONFIG_MODULE and others).
- It has no fixups. Under DJANGO_SETTINGS_MODULE, Django's makes the first application the default one of the process.
- Its tasks are its own. Celery adds each `@shared_task` of a program to all applications of the process.
- Its connections are its own. By default all applications share kombu's pools and one limit for all of them. This one
  would then change the limit of another application of the process, and could not hold its own.
"""

from typing import Any

import billiard.einfo
import celery.backends.base
import celery.canvas
import celery.events.receiver
import celery.utils.deprecated
from celery import Celery, _state
from celery.app import builtins
from celery.app.amqp import AMQP
from celery.app.utils import Settings
from celery.loaders.app import AppLoader
from celery.utils.functional import maybe_evaluate
from kombu.pools import ProducerPool

from diffedit.forks import PerProcess

_IMPORTED_EARLY = (billiard.einfo, celery.backends.base, celery.canvas, celery.events.receiver, celery.utils.deprecated)
"""What Celery would import with its first message. Here a fork waits for the imports. In the middle of one it would
leave the module locked in the child for ever."""


class _Loader(AppLoader):  # type: ignore[misc]
    def read_configuration(self, env: str = "") -> None:
        """Read nothing. Celery imports the module that CELERY_CONFIG_MODULE names."""


class _Settings(Settings):  # type: ignore[misc]
    """Settings without the properties by which Celery looks into the environment first."""

    broker_url = broker_read_url = broker_write_url = property(lambda self: self.get("broker_url"))
    result_backend = property(lambda self: self.get("result_backend"))


class _Messages(AMQP):  # type: ignore[misc]
    def __init__(self, app: Celery) -> None:
        super().__init__(app)
        self._producers = PerProcess(lambda: ProducerPool(app.pool, limit=app.pool.limit))

    @property
    def producer_pool(self) -> Any:
        return self._producers()


class IndependentCelery(Celery):  # type: ignore[misc]
    """Celery, but its settings, tasks and connections are its own, and it is not the current application."""

    amqp_cls = _Messages
    finalized: bool
    _conf: Any

    def __init__(self, main: str, broker: str) -> None:
        self._connections = PerProcess(lambda: self.connection_for_write().Pool(limit=self.conf.broker_pool_limit))
        super().__init__(main, broker=broker, loader=_Loader, fixups=[], set_as_current=False)
        # Celery makes this view of the settings itself, and keeps it when it reads its configuration.
        self._conf = _Settings(self._conf.changes, keys=self._conf._keys)
        # `@shared_task` adds a task to each finalized application that is registered.
        _state._deregister_app(self)

    @property
    def pool(self) -> Any:
        return self._connections()

    def finalize(self, auto: bool = False) -> None:
        """Make the tasks, as Celery does. Of the shared ones only Celery's own."""
        with self._finalize_mutex:
            if self.finalized:
                return
            self.finalized = True
            for add_task in set(_state._on_app_finalizers):
                if add_task.__module__ == builtins.__name__:
                    add_task(self)
            while self._pending:
                maybe_evaluate(self._pending.popleft())
            for task in self._tasks.values():
                task.bind(self)
            self.on_after_finalize.send(sender=self)
