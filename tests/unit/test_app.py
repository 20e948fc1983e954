"""The Celery application of a worker and what its process does at Celery's signals. No services, no worker."""

import gc
import json
import logging
import weakref
from types import SimpleNamespace
from typing import Any

import click
import pytest
from celery import Celery, signals
from celery.bin.worker import worker as celery_worker
from celery.worker.heartbeat import Heart
from kombu import Connection, Producer
from kombu.exceptions import OperationalError

import diffedit_worker.app
from diffedit import InvalidRequest, Stage
from diffedit.contract.job import Job
from diffedit.contract.stages import ModelGroup, queue_names
from diffedit.errors import ModelUnavailable, UnknownProfile
from diffedit.jobs.backend import JobBackend
from diffedit.jobs.messages import task_name
from diffedit.testing import MemoryObjectStore, memory_backend
from diffedit_worker import worker_process
from diffedit_worker.app import CONFIGURATION, create_app
from diffedit_worker.celery_ext.pool import release_slot
from diffedit_worker.models import devices
from diffedit_worker.models.loading import Models
from diffedit_worker.models.profiles import load_profiles
from diffedit_worker.runtime.fitness import UNFIT_EXIT_CODE
from diffedit_worker.runtime.logs import PlainFormatter
from diffedit_worker.runtime.maintenance import Maintenance
from diffedit_worker.runtime.runner import Runner
from diffedit_worker.settings import WorkerSettings
from tests.support.factories import a_job

NODE = "worker@here"


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> JobBackend:
    """Memory backend and object store in the place of Redis and S3.

    A worker's maintenance sends its heartbeats, but starts no threads. No signal handler is changed.
    """
    backend = memory_backend()
    monkeypatch.setattr(worker_process, "redis_backend", lambda *args: backend)
    monkeypatch.setattr(worker_process, "S3ObjectStore", lambda settings: MemoryObjectStore())
    monkeypatch.setattr(worker_process.signal, "signal", lambda *args: None)
    monkeypatch.setattr(Maintenance, "start", lambda maintenance: maintenance.heartbeat.send())
    return backend


@pytest.fixture
def sent(backend: JobBackend, monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """The jobs that workers put into their queues."""
    sent: list[Job] = []
    monkeypatch.setattr(backend.job_store, "send", sent.append)
    return sent


class Sender:
    """Has the attributes of Celery's worker or consumer that receivers read."""

    def __init__(self, **attributes: Any) -> None:
        vars(self).update(attributes)


class FakePool:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.pauses: list[bool] = []

    def set_paused(self, paused: bool) -> None:
        self.pauses.append(paused)


def a_app(**settings: Any) -> Celery:
    return create_app(WorkerSettings(**{"profile": "tiny", "device": "cpu", **settings}))


def set_up(app: Celery, queues: tuple[str, ...] = queue_names("tiny"), node: str = NODE) -> None:
    """Send the signal that Celery sends before a worker connects."""
    app.amqp.queues.select(queues)
    worker = SimpleNamespace(app=app, hostname=node, concurrency=app.conf.worker_concurrency)
    signals.celeryd_init.send(sender=node, instance=worker, conf=app.conf)
    worker.concurrency = app.conf.worker_concurrency
    signals.celeryd_after_setup.send(sender=node, instance=worker, conf=app.conf)


def get_ready(app: Celery, queues: tuple[str, ...] = queue_names("tiny"), node: str = NODE) -> None:
    """Send the signals that Celery sends before a worker connects, and when it is ready."""
    set_up(app, queues, node)
    consumer = SimpleNamespace(queues=[SimpleNamespace(name=name) for name in queues])
    signals.worker_ready.send(sender=Sender(app=app, hostname=node, task_consumer=consumer, pool=FakePool()))


def shut_down(node: str = NODE) -> None:
    signals.worker_shutting_down.send(sender=node, sig="SIGTERM", how="Warm", exitcode=0)


def test_the_application_is_configured_for_one_task_at_a_time_and_no_prefetch() -> None:
    conf = a_app().conf
    assert {name: conf[name] for name in CONFIGURATION} == CONFIGURATION
    assert [queue.name for queue in conf.task_queues] == list(queue_names("tiny"))
    assert conf.accept_content == ["json"]


@pytest.mark.parametrize("names", [["diffedit.tiny.difusion"], [*queue_names("tiny"), *queue_names("sd21")]])
def test_only_queues_of_the_profile_can_be_selected_or_excluded(names: list[str]) -> None:
    queues = a_app().amqp.queues
    for choose in (queues.select, queues.deselect):
        with pytest.raises(InvalidRequest, match=r"no queue '.*'; its queues are diffedit\.tiny\.diffusion, "):
            choose(names)


def test_a_worker_reads_the_queues_that_it_selects_and_does_not_exclude() -> None:
    queues = a_app().amqp.queues
    queues.select(["diffedit.tiny.language", "diffedit.tiny.diffusion"])
    queues.deselect(["diffedit.tiny.language"])
    assert list(queues.consume_from) == ["diffedit.tiny.diffusion"]
    with pytest.raises(InvalidRequest, match="no queue is left"):
        queues.deselect(["diffedit.tiny.diffusion"])


def test_the_remote_command_that_cancels_queues_does_not_end_the_worker() -> None:
    queues = a_app().amqp.queues
    queues.deselect("diffedit.tiny.diffusion")
    assert "diffedit.tiny.diffusion" not in queues.consume_from
    for name in ("unknown", *queue_names("tiny")):
        queues.deselect(name)
    assert not queues.consume_from


@pytest.mark.parametrize(("settings", "jobs"), [({"batch_jobs": 3}, 3), ({}, 4), ({"device": "cuda:7"}, 1)])
def test_the_setting_says_how_many_stages_run_at_once_or_else_the_device(backend: JobBackend, settings, jobs) -> None:
    app = a_app(**settings)
    signals.celeryd_init.send(sender=NODE, instance=SimpleNamespace(app=app), conf=app.conf)
    assert app.conf.worker_concurrency == jobs


def test_there_is_a_task_for_each_stage() -> None:
    assert {task_name(stage) for stage in Stage} <= a_app().tasks.keys()


def test_the_profile_must_exist() -> None:
    with pytest.raises(UnknownProfile, match="nobody"):
        a_app(profile="nobody")


def test_a_malformed_profiles_file_is_named(tmp_path) -> None:
    profiles = tmp_path / "profiles.toml"
    profiles.write_text("[tiny")
    with pytest.raises(InvalidRequest, match=r"profiles\.toml"):
        a_app(profiles_file=profiles)


def test_the_module_makes_its_application_when_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    diffedit_worker.app._app_of_environment.cache_clear()
    monkeypatch.setenv("DIFFEDIT_PROFILE", "tiny")
    monkeypatch.setenv("DIFFEDIT_REDIS_URL", "redis://127.0.0.1:1/7")
    app = diffedit_worker.app.app
    assert app.conf.broker_url == "redis://127.0.0.1:1/7"
    assert diffedit_worker.app.app is app
    with pytest.raises(AttributeError, match="no attribute 'celery'"):
        _ = diffedit_worker.app.celery
    diffedit_worker.app._app_of_environment.cache_clear()


def test_a_ready_worker_announces_its_device_its_queues_and_the_defaults_of_its_profile(backend: JobBackend) -> None:
    app = a_app()
    get_ready(app, queues=("diffedit.tiny.language",))
    (info,) = backend.worker_registry.workers()
    assert (info.name, info.profile, info.queues) == (NODE, "tiny", ("diffedit.tiny.language",))
    assert info.device == "cpu"
    assert "pineapple" in info.profile_about
    assert info.profile_params == load_profiles()["tiny"].params
    assert info.profile_presets == load_profiles()["tiny"].presets


def test_without_a_setting_the_best_device_is_announced(backend: JobBackend) -> None:
    app = a_app(device=None)
    get_ready(app)
    assert backend.worker_registry.workers()[0].device == str(devices.resolve_device(None))


def test_a_worker_without_the_wanted_device_ends_and_reports_its_trouble(backend: JobBackend) -> None:
    with pytest.raises(SystemExit) as caught:
        get_ready(a_app(device="cuda:77"))
    assert caught.value.code == UNFIT_EXIT_CODE
    assert backend.worker_registry.workers() == []
    (trouble,) = backend.worker_registry.troubles()
    assert (trouble.name, trouble.code, trouble.queues) == (NODE, "model_unavailable", queue_names("tiny"))
    assert "cuda:77" in trouble.message


def test_a_worker_that_cannot_run_stages_ends_and_reports_its_trouble(backend: JobBackend, monkeypatch) -> None:
    def fail(self: object, *args: object, **kwargs: object) -> None:
        raise ImportError("no torch")

    monkeypatch.setattr(Runner, "__init__", fail)
    with pytest.raises(SystemExit) as caught:
        get_ready(a_app())
    assert caught.value.code == UNFIT_EXIT_CODE
    assert [trouble.code for trouble in backend.worker_registry.troubles()] == ["internal"]


def test_a_worker_that_works_again_has_no_trouble(backend: JobBackend) -> None:
    with pytest.raises(SystemExit):
        get_ready(a_app(device="cuda:77"))
    get_ready(a_app())
    assert backend.worker_registry.troubles() == []


def test_after_the_shutdown_signal_a_worker_returns_its_messages(backend: JobBackend, sent) -> None:
    app, job = a_app(), a_job()
    backend.job_store.create_job(job)
    get_ready(app)
    shut_down()
    with pytest.raises(Exception, match="^$"):  # Celery's Ignore
        app.tasks[task_name(Stage.EMBED)]({"id": job.id})
    assert sent == [job]
    signals.worker_shutdown.send(sender=Sender(app=app))
    assert backend.worker_registry.workers() == []


def test_two_applications_in_one_process_are_independent(backend: JobBackend, sent) -> None:
    first, second, job = a_app(), a_app(), a_job()
    backend.job_store.create_job(job)
    for app, node in ((first, "first@here"), (second, "second@here")):
        get_ready(app, node=node)
    assert [info.name for info in backend.worker_registry.workers()] == ["first@here", "second@here"]
    assert len({info.id for info in backend.worker_registry.workers()}) == 2
    shut_down("second@here")
    signals.worker_shutdown.send(sender=Sender(app=second))
    assert [info.name for info in backend.worker_registry.workers()] == ["first@here"]
    with pytest.raises(Exception, match="^$"):
        second.tasks[task_name(Stage.EMBED)]({"id": job.id})
    assert sent == [job]


def test_an_application_that_is_no_longer_used_is_collected_and_receives_no_signals(backend: JobBackend) -> None:
    app = a_app()
    reference = weakref.ref(app)
    app.tasks  # noqa: B018 - makes the tasks, which refer to the application
    del app
    gc.collect()
    assert reference() is None
    shut_down()


def test_an_application_keeps_its_worker_alive(backend: JobBackend) -> None:
    app = a_app()
    gc.collect()
    get_ready(app)
    assert backend.worker_registry.workers()


@pytest.mark.parametrize(
    ("queues", "groups"),
    [
        (queue_names("tiny"), [ModelGroup.LANGUAGE, ModelGroup.DIFFUSION]),
        (("diffedit.tiny.language", "diffedit.tiny.language.batch"), [ModelGroup.LANGUAGE]),
        (("diffedit.tiny.diffusion.batch",), [ModelGroup.DIFFUSION]),
        (queue_names("sd21"), []),
    ],
)
def test_a_worker_serves_the_model_groups_of_its_queues(queues: tuple[str, ...], groups: list[ModelGroup]) -> None:
    assert worker_process.groups_of(queues, "tiny") == groups


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[ModelGroup]:
    """The groups whose models are loaded."""
    loaded: list[ModelGroup] = []
    monkeypatch.setattr(Models, "load", lambda self, group: loaded.append(group))
    return loaded


def test_preload_loads_the_models_of_the_workers_queues(backend: JobBackend, loaded: list[ModelGroup]) -> None:
    app = a_app(preload=True)
    set_up(app, queues=("diffedit.tiny.diffusion",))
    assert loaded == [ModelGroup.DIFFUSION]


def test_without_preload_no_model_is_loaded(backend: JobBackend, loaded: list[ModelGroup]) -> None:
    app = a_app()
    set_up(app)
    assert loaded == []


@pytest.mark.parametrize("error", [ModelUnavailable("no such directory"), RuntimeError("a bug")])
def test_a_worker_that_cannot_load_a_model_ends(
    backend: JobBackend, loaded: list[ModelGroup], monkeypatch, caplog, error: Exception
) -> None:
    def fail(self: object, group: ModelGroup) -> None:
        raise error

    monkeypatch.setattr(Models, "load", fail)
    app = a_app(preload=True)
    with pytest.raises(SystemExit) as caught, caplog.at_level(logging.CRITICAL):
        set_up(app)
    assert caught.value.code == UNFIT_EXIT_CODE
    assert f"this worker is not fit to run stages and ends: {error}" in caplog.text
    assert ("Traceback" in caplog.text) is isinstance(error, RuntimeError)


def test_celerys_log_lines_are_made_plain_and_hide_what_tasks_return() -> None:
    a_app()
    logger, handler = logging.Logger("test"), logging.StreamHandler()
    logger.addHandler(handler)
    signals.after_setup_logger.send(sender=None, logger=logger)
    formatter = handler.formatter
    assert isinstance(formatter, PlainFormatter)
    signals.after_setup_task_logger.send(sender=None, logger=logger)
    assert handler.formatter is formatter
    assert not logging.getLogger("celery.app.trace").isEnabledFor(logging.INFO)


def test_a_stage_releases_the_slot_of_celerys_pool(backend: JobBackend) -> None:
    app = a_app()
    settings = WorkerSettings(profile="tiny", device="cpu")
    process = worker_process.WorkerProcess(app, settings, load_profiles()["tiny"])
    assert process.get_runner()._context.release_slot is release_slot
    assert process.get_runner() is process.get_runner()


@pytest.mark.usefixtures("backend")
def test_the_celery_command_leaves_the_number_of_threads_to_the_worker() -> None:
    """The command takes a number in the configuration before the worker starts, and that one has priority."""
    option = next(option for option in celery_worker.params if option.name == "concurrency")
    app = create_app(WorkerSettings(profile="tiny", device="cpu", batch_jobs=3))
    context = click.Context(celery_worker, obj=SimpleNamespace(app=app))
    assert option.callback(context, option, None) is None
    worker = SimpleNamespace(app=app)
    signals.celeryd_init.send(NODE, instance=worker, conf=app.conf, options={})
    assert app.conf.worker_concurrency == 3


@pytest.mark.usefixtures("backend")
def test_what_the_event_loop_publishes_is_published_once() -> None:
    """Celery would repeat a heartbeat and an answer to a remote command until the broker takes it."""
    tries: list[str] = []

    class AwayBroker(Producer):
        """Has a connection that is never there."""

        def _publish(self, body: Any, *_: Any) -> None:
            tries.append(json.loads(body)["type"])
            assert len(tries) < 9, "it is repeated"
            raise self.connection.recoverable_connection_errors[0]

    app = a_app()
    with Connection("memory://") as connection:
        producer = AwayBroker(connection)
        dispatcher = app.events.Dispatcher(connection)
        dispatcher.producer = producer
        Heart(None, dispatcher)._send("worker-heartbeat")
        with pytest.raises(OperationalError):
            app.control.mailbox._publish_reply(
                {"type": "answer"}, "reply.pidbox", "key", "ticket", connection.default_channel, producer
            )
    assert tries == ["worker-heartbeat", "answer"]
