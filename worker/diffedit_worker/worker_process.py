"""What a worker process does when Celery starts it, when it is ready, and when it stops."""

import functools
import logging
import signal
import sys
import threading
import uuid
from collections.abc import Container, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from celery import Celery
from celery.signals import celeryd_after_setup, worker_ready, worker_shutdown, worker_shutting_down

from diffedit.contract.stages import Lane, ModelGroup, Stage, queue_name
from diffedit.errors import DiffEditError, ModelUnavailable
from diffedit.jobs.backend import redis_backend
from diffedit.jobs.dispatch import send
from diffedit.jobs.store import JobStore
from diffedit.jobs.workers import WorkerInfo
from diffedit.objects.s3 import S3ObjectStore
from diffedit.retries import WORKER_REDIS_RETRIES
from diffedit_worker.celery_ext.pool import release_slot
from diffedit_worker.models.profiles import Profile, load_profiles, profile_named
from diffedit_worker.runtime.context import WorkerContext
from diffedit_worker.runtime.maintenance import Maintenance
from diffedit_worker.settings import WorkerSettings

if TYPE_CHECKING:
    from diffedit_worker.models.loading import Models
    from diffedit_worker.runtime.runner import Runner
    from diffedit_worker.stages.definition import StageDefinition

log = logging.getLogger(__name__)

UNKNOWN_DEVICE = "unknown"


class WorkerProcess:
    """One worker: its id, its models, its runner and its maintenance. Each of them is made when it is needed.

    Attributes:
        job_store: for what must be recorded even when this worker cannot run stages.
        get_runner: returns the runner. The first call imports torch, and raises if that is impossible.
    """

    def __init__(
        self,
        app: Celery,
        settings: WorkerSettings,
        profile: Profile,
        pipeline: "Mapping[Stage, StageDefinition] | None" = None,
    ) -> None:
        self._app = app
        self._settings = settings
        self._profile = profile
        self._pipeline = pipeline
        self._stopping = threading.Event()
        self._context = WorkerContext(
            id=uuid.uuid4().hex,
            enqueue=functools.partial(send, app),
            shutting_down=self._stopping.is_set,
            release_slot=release_slot,
        )
        # With few retries, so that an outage of Redis does not hold up the watchdog.
        self._backend = redis_backend(settings, settings.limits)
        self._maintenance: Maintenance | None = None
        self._node_name: str | None = None
        self.job_store: JobStore = self._backend.job_store
        self.get_runner = functools.cache(self._make_runner)
        self._models_of = functools.cache(self._make_models)

    def connect_signals(self) -> None:
        """Follow the life of this application's worker.

        Signals belong to the process, so each receiver checks whether the signal is about its own application. Celery
        holds receivers by weak references. The application keeps this object alive, through its tasks.
        """
        celeryd_after_setup.connect(self._on_setup)
        worker_ready.connect(self._on_ready)
        worker_shutting_down.connect(self._on_shutting_down)
        worker_shutdown.connect(self._on_shutdown)

    def _on_setup(self, instance: Any, **_: Any) -> None:
        """Called before the worker connects to anything."""
        if instance.app is not self._app:
            return
        self._node_name = instance.hostname
        if self._settings.preload:
            self._load_models(instance.app.amqp.queues.consume_from)

    def _load_models(self, queues: Container[str]) -> None:
        """Load the models for these queues. If one cannot be loaded, end the process: it could only fail jobs."""
        # Celery installs its handler later, and the first process of a container ignores signals without a handler.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        try:
            for group in groups_of(queues, self._profile.name):
                self._models_of(self._profile.name).load(group)
        except Exception as error:
            log.critical("this worker does not start: %s", error, exc_info=not isinstance(error, DiffEditError))
            # Celery only logs the exceptions of a receiver, but lets SystemExit pass.
            sys.exit(1)

    def _on_ready(self, sender: Any, **_: Any) -> None:
        """Called before the worker receives its first message. `sender` is Celery's consumer."""
        if sender.app is not self._app:
            return
        runner = None
        try:
            runner = self.get_runner()
        except Exception:
            # The worker then fails each job that it receives, and records why.
            log.exception("this worker cannot run stages")
        info = WorkerInfo(
            id=self._context.id,
            name=sender.hostname,
            profile=self._profile.name,
            device=self._device() if runner else UNKNOWN_DEVICE,
            queues=tuple(sorted(queue.name for queue in sender.task_consumer.queues)),
            profile_params=self._profile.params,
        )
        self._maintenance = Maintenance(
            self._backend.job_store,
            self._backend.worker_registry,
            self._settings,
            info,
            self._context,
            running_stages=lambda: runner.running_stages if runner else [],
        )
        self._maintenance.start()

    def _on_shutting_down(self, sender: str, **_: Any) -> None:
        """Called on SIGTERM. The running stage stops at its next step, and its job returns to the queue."""
        if sender == self._node_name:
            self._stopping.set()

    def _on_shutdown(self, sender: Any, **_: Any) -> None:
        if sender.app is self._app and self._maintenance:
            self._maintenance.stop()

    def _make_models(self, profile: str) -> "Models":
        """Return the models of a profile, none of them loaded. Imports torch."""
        from diffedit_worker.models.devices import limit_cpu_threads
        from diffedit_worker.models.loading import Models, disable_progress_bars

        named = profile_named(load_profiles(self._settings.profiles_file), profile)
        models = Models(named, device=self._settings.device)
        limit_cpu_threads(named, models.device)
        disable_progress_bars()
        return models

    def _make_runner(self) -> "Runner":
        """Return a runner on the real services. Imports torch."""
        from diffedit_worker.pipeline import PIPELINE
        from diffedit_worker.runtime.runner import Runner

        backend = redis_backend(self._settings, self._settings.limits, WORKER_REDIS_RETRIES)
        return Runner(
            backend.job_store,
            backend.artifact_locks,
            S3ObjectStore(self._settings),
            self._models_of,
            self._context,
            s3_retry_timeout=self._settings.s3_retry_timeout,
            cache_bytes=self._settings.cache_bytes,
            pipeline=self._pipeline or PIPELINE,
        )

    def _device(self) -> str:
        """Return the device on which the models run, such as "cuda:0". Imports torch."""
        from diffedit_worker.models.devices import resolve_device

        with suppress(ModelUnavailable):
            return str(resolve_device(self._settings.device))
        return UNKNOWN_DEVICE


def groups_of(queues: Container[str], profile: str) -> list[ModelGroup]:
    """Return the model groups of this profile whose stages come through these queues."""
    return [group for group in ModelGroup if any(queue_name(profile, group, lane) in queues for lane in Lane)]
