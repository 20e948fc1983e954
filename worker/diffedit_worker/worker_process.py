"""What a worker process does when Celery starts it, when it is ready, and when it stops."""

import functools
import logging
import os
import signal
import sys
import threading
import time
import uuid
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from celery import Celery
from celery.signals import celeryd_after_setup, celeryd_init, worker_ready, worker_shutdown, worker_shutting_down

from diffedit.contract import versions
from diffedit.contract.stages import Lane, ModelGroup, Stage, queue_name
from diffedit.jobs.backend import redis_backend
from diffedit.jobs.workers import WorkerInfo
from diffedit.objects.s3 import S3ObjectStore
from diffedit.retries import WORKER_REDIS_POLICY
from diffedit.status_server import Page, StatusServer
from diffedit.trace_export import exit_at_once, export_traces, flush_traces
from diffedit_worker.celery_ext.event_loop import watch_event_loop
from diffedit_worker.celery_ext.pool import release_slot
from diffedit_worker.celery_ext.shutdown import call_before_shutdown
from diffedit_worker.models.profiles import Profile
from diffedit_worker.runtime.context import WorkerContext
from diffedit_worker.runtime.fitness import UNFIT_EXIT_CODE, Fitness
from diffedit_worker.runtime.maintenance import Maintenance
from diffedit_worker.runtime.measured_store import MeasuredStore
from diffedit_worker.runtime.metrics import WorkerMetrics
from diffedit_worker.runtime.probes import Probes
from diffedit_worker.runtime.requeueing import requeue_innocent
from diffedit_worker.runtime.status_server import serve_status
from diffedit_worker.runtime.tracing import StageTracer
from diffedit_worker.settings import WorkerSettings
from diffedit_worker.worker_parts import default_batch_jobs, make_models, make_runner

if TYPE_CHECKING:
    from diffedit_worker.models.loading import Models
    from diffedit_worker.runtime.runner import Runner
    from diffedit_worker.stages.definition import StageDefinition

log = logging.getLogger(__name__)

LEAVE_TIMEOUT = 10.0
"""Seconds for which an unfit worker waits for a stage that uploads its result."""


class WorkerProcess:
    """One worker: its id, its models, its runner, its fitness and its maintenance.

    Attributes:
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
        self._metrics = WorkerMetrics(profile.name)
        self._draining = threading.Event()
        self._asked_to_drain = False
        self._context = WorkerContext(
            id=uuid.uuid4().hex,
            enqueue=lambda job: self._backend.job_store.send(job),
            shutting_down=self._stopping.is_set,
            paused=lambda: self._fitness.paused or self._draining.is_set(),
            draining=self._draining.is_set,
            drain=self._drain,
            release_slot=release_slot,
            stage_refused=lambda *refusal: self._fitness.stage_refused(*refusal),
            stage_computed=lambda stage: self._fitness.stage_computed(stage),
            name=lambda: self._node_name or "",
            stage_handed_back=self._metrics.count_hand_back,
            job_recovered=lambda job: self._metrics.count_recovery(job.request.params.profile),
        )
        # With few retries, so that an outage of Redis does not hold up the watchdog.
        self._backend = redis_backend(settings, settings.limits)
        self._object_store = MeasuredStore(S3ObjectStore(settings), self._metrics.measured_request)
        self._maintenance: Maintenance | None = None
        self._node_name: str | None = None
        self._pool: Any = None
        self._batch_jobs = 1
        self._fitness: Fitness
        self._probes = Probes(
            settings.worker_ttl,
            lambda: "it stops" if self._stopping.is_set() or self._draining.is_set() else None,
            lambda: "it is paused, because the object store does not work" if self._fitness.paused else None,
        )
        self._pages: dict[str, Page] = {"/metrics": self._metrics.page, **self._probes.pages}
        """What the worker serves on its port, by path."""
        self._status_server: StatusServer | None = None
        self._models_of = functools.cache(self._make_models)
        self.get_runner = functools.cache(self._make_runner)

    def connect_signals(self) -> None:
        """Follow the life of this application's worker.

        Signals belong to the process, so each receiver checks whether the signal is about its own application. Celery
        holds receivers by weak references. The application keeps this object alive, through its tasks.
        """
        celeryd_init.connect(self._on_init)
        celeryd_after_setup.connect(self._on_setup)
        worker_ready.connect(self._on_ready)
        worker_shutting_down.connect(self._on_shutting_down)
        worker_shutdown.connect(self._on_shutdown)
        call_before_shutdown(self._app, self._before_shutdown)
        watch_event_loop(self._app, self._probes.loop.turned, self._probes.loop.left)

    def _on_init(self, instance: Any, conf: Any, **_: Any) -> None:
        """Called before Celery reads how many threads its pool has."""
        if instance.app is self._app:
            if self._settings.log_format == "json":
                instance.quiet = True  # its banner is several lines of text
            conf.worker_concurrency = self._settings.batch_jobs or default_batch_jobs(self._settings, self._profile)

    def _on_setup(self, instance: Any, **_: Any) -> None:
        """Called before the worker connects to anything."""
        if instance.app is not self._app:
            return
        export_traces("diffedit-worker")
        self._node_name = instance.hostname
        # Not the setting: --concurrency of Celery has priority.
        self._batch_jobs = instance.concurrency
        queues = instance.app.amqp.queues.consume_from
        self._fitness = Fitness(
            instance.hostname,
            queues,
            self._backend,
            self._object_store,
            prove_models=self._prove_models,
            set_paused=self._set_paused,
            end_process=self._end_process,
        )
        with self._ending_if_unfit():
            self._status_server = serve_status(self._settings, self._pages)
            self._probes.write_to(self._settings.heartbeat_file)
        # Celery installs its handler later, and the first process of a container ignores signals without a handler.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        with self._ending_if_unfit():
            self.get_runner()
            for group in groups_of(queues, self._profile.name) if self._settings.preload else ():
                self._models_of(self._profile.name).load(group)

    def _on_ready(self, sender: Any, **_: Any) -> None:
        """Called before the worker receives its first message. `sender` is Celery's consumer."""
        if sender.app is not self._app:
            return
        self._pool = sender.pool
        # Celery would cancel the tasks that run. A thread cannot be cancelled, but a stage stops at its next step.
        signal.signal(signal.SIGQUIT, signal.getsignal(signal.SIGTERM))
        with self._ending_if_unfit():
            self._fitness.prove_at_start()
            info = WorkerInfo(
                id=self._context.id,
                name=sender.hostname,
                profile=self._profile.name,
                device=str(self._models_of(self._profile.name).device),
                queues=tuple(sorted(queue.name for queue in sender.task_consumer.queues)),
                profile_about=self._profile.about,
                profile_params=self._profile.params,
                batch_jobs=self._batch_jobs,
                profile_presets=self._profile.presets,
                contract=versions.CONTRACT,
                version=version("diffedit-service"),
            )
        self._metrics.describe(worker=info.name, device=info.device, version=info.version)
        self._maintenance = Maintenance(
            self._backend.job_store,
            self._backend.worker_registry,
            self._settings,
            info,
            self._context,
            self._fitness,
            running_stages=lambda: self.get_runner().running_stages,
            object_store=self._object_store,
        )
        self._maintenance.start()
        self._probes.watch(self._maintenance)

    @contextmanager
    def _ending_if_unfit(self) -> Iterator[None]:
        """End the process if an error shows that this worker cannot run stages: it would take jobs and hand them on."""
        try:
            yield
        except Exception as error:
            self._fitness.report_unfit(error)
            # Celery only logs the exceptions of a receiver, but lets SystemExit pass.
            sys.exit(UNFIT_EXIT_CODE)

    def _on_shutting_down(self, sender: str, **_: Any) -> None:
        """Called on SIGTERM, at once.

        For every other end, `call_before_shutdown` does the same as soon as Celery's loop gets to it.
        """
        if sender == self._node_name:
            self._begin_to_stop()

    def _before_shutdown(self) -> None:
        if not self._draining.is_set():  # else SIGTERM has begun it
            self._begin_to_stop()

    def _begin_to_stop(self) -> None:
        """Let the running stages end first, if this is wanted and the first call. Else they stop at their next step.

        The job of a stage that stops returns to its queue.
        """
        lets_stages_end = self._asked_to_drain or self._settings.drain == "stage"
        if lets_stages_end and not self._draining.is_set():
            self._draining.set()
            self._set_paused(True)
        else:
            self._stopping.set()

    def _drain(self) -> None:
        """End this process when its running stages have ended, because an administrator wants it to."""
        if not self._asked_to_drain:
            self._asked_to_drain = True
            log.warning("this worker was asked to drain: it takes no more jobs, and ends when its stages have ended")
            # Celery waits for its tasks then.
            os.kill(os.getpid(), signal.SIGTERM)

    def _on_shutdown(self, sender: Any, **_: Any) -> None:
        if sender.app is self._app and self._maintenance:
            self._fitness.stop()
            self._maintenance.stop()
            flush_traces()

    def _set_paused(self, paused: bool) -> None:
        if self._pool:
            self._pool.set_paused(paused)

    def _prove_models(self) -> None:
        """Raise if one of the models that are loaded does not work."""
        self._models_of(self._profile.name).prove()

    def _end_process(self) -> None:
        """End this process from the thread of a stage, whose job is handed on already."""
        self._stopping.set()
        self._set_paused(True)
        # Another stage may be uploading its result, or return its job to the queue.
        deadline = time.monotonic() + LEAVE_TIMEOUT
        while (left := self.get_runner().running_stages) and time.monotonic() < deadline:
            time.sleep(0.05)
        requeue_innocent(self._backend.job_store, self._context, [each.job_id for each in left])
        if self._maintenance:
            self._maintenance.stop()
        # A regular end would run the destructors of a device that may be broken.
        exit_at_once(UNFIT_EXIT_CODE)

    def _make_models(self, profile: str) -> "Models":
        models = make_models(self._settings, profile, self._batch_jobs, on_loaded=self._metrics.observe_load)
        self._metrics.add_device(models.device)
        return models

    def _make_runner(self) -> "Runner":
        return make_runner(
            self._settings,
            redis_backend(self._settings, self._settings.limits, WORKER_REDIS_POLICY),
            self._object_store,
            self._models_of,
            self._context,
            side_by_side=self._batch_jobs > 1,
            pipeline=self._pipeline,
            observers=[self._metrics.observe_stage, StageTracer()],
        )


def groups_of(queues: Container[str], profile: str) -> list[ModelGroup]:
    """Return the model groups of this profile whose stages come through these queues."""
    return [group for group in ModelGroup if any(queue_name(profile, group, lane) in queues for lane in Lane)]
