"""The undocumented parts of Celery and kombu that we use are still there.

If one of these tests fails after an update, compare `diffedit_worker/celery_ext/` and
`diffedit/jobs/independent_celery.py` with the new sources.
"""

import inspect
from concurrent.futures import Future
from importlib.metadata import version
from types import SimpleNamespace

import click
import pytest
from celery import Celery, _state
from celery.app.amqp import AMQP, Queues
from celery.app.utils import Settings
from celery.apps import worker as worker_program
from celery.bin import celery as celery_command
from celery.bin import worker as worker_module
from celery.bin.base import CLIContext
from celery.bootsteps import Blueprint
from celery.concurrency.base import BasePool, apply_target
from celery.concurrency.thread import ApplyResult, TaskPool
from celery.loaders.base import BaseLoader
from celery.worker import WorkController, state
from celery.worker import components as worker_components
from kombu.transport import redis as kombu_redis
from kombu.transport import virtual

from diffedit import Settings as ClientSettings
from diffedit.jobs.dispatch import celery_app
from diffedit.jobs.independent_celery import _Settings
from diffedit_worker.celery_ext.versions import TESTED_VERSIONS


def source(part: object) -> str:
    return inspect.getsource(part)


def parameters(function: object) -> list[str]:
    return list(inspect.signature(function).parameters)


@pytest.mark.parametrize("package", TESTED_VERSIONS)
def test_the_installed_version_was_tested(package: str) -> None:
    installed, tested = version(package), TESTED_VERSIONS[package]
    assert installed in tested, (
        f"{package} {installed} is installed, but diffedit_worker.celery_ext was tested with {', '.join(tested)} only. "
        "Run tests/unit/test_celery_internals.py and the acceptance tests of recovery, lanes and foreign messages. If "
        "they pass, add the version to TESTED_VERSIONS in worker/diffedit_worker/celery_ext/versions.py; otherwise "
        "adapt pool.py or transport.py beside it first."
    )


def test_the_thread_pool_submits_to_its_executor_and_returns_the_future() -> None:
    assert parameters(TaskPool.on_apply)[:3] == ["self", "target", "args"]
    assert "self.executor.submit(apply_target" in source(TaskPool.on_apply)
    assert "self.executor" in source(TaskPool.on_stop)
    future: Future[None] = Future()
    assert ApplyResult(future).f is future


def test_the_pool_has_a_limit_and_a_number_of_slots() -> None:
    pool = TaskPool(limit=3)
    assert (pool.limit, pool.num_processes) == (3, 3)
    assert isinstance(inspect.getattr_static(BasePool, "num_processes"), property)
    assert parameters(BasePool.register_with_event_loop) == ["self", "loop"]


def test_the_worker_compares_its_reserved_tasks_with_the_slots_of_the_pool() -> None:
    from celery.worker import consumer

    sources = source(inspect.getmodule(consumer.Consumer)) + source(consumer.tasks)
    assert "num_processes" in sources and "worker_disable_prefetch" in sources and "reserved_requests" in sources


def test_celery_calls_back_after_the_task_and_forgets_it_there() -> None:
    text = source(apply_target)
    assert text.index("target(*args") < text.index("callback(ret)")


def test_celery_knows_its_reserved_tasks() -> None:
    class Request:
        id = name = "a task"

    request = Request()
    state.task_reserved(request)
    assert request in state.reserved_requests
    state.task_ready(request)
    assert request not in state.reserved_requests


def test_the_redis_transport_hands_a_readable_file_to_its_cycle() -> None:
    assert parameters(kombu_redis.Transport.on_readable) == ["self", "fileno"]
    assert "self.cycle.on_readable(fileno)" in source(kombu_redis.Transport.on_readable)


def test_the_cycle_finds_the_channel_of_a_file() -> None:
    cycle = kombu_redis.MultiChannelPoller()
    assert cycle._fd_to_chan == {}
    assert "self._fd_to_chan[sock.fileno()] = (channel, type)" in source(kombu_redis.MultiChannelPoller)


def test_unacknowledged_messages_are_found_by_their_tags() -> None:
    qos = virtual.QoS(channel=SimpleNamespace(do_restore=False))
    qos.append("a message", "a tag")
    assert list(qos._delivered) == ["a tag"]
    assert issubclass(kombu_redis.Channel.QoS, virtual.QoS)
    assert parameters(kombu_redis.Channel.QoS.ack)[:2] == ["self", "delivery_tag"]


def test_the_worker_command_takes_an_application_and_returns_the_exit_code() -> None:
    assert parameters(CLIContext)[:3] == ["app", "no_color", "workdir"]
    text = source(worker_module)
    assert "ctx.obj.app" in text and "app.Worker(" in text and "ctx.exit(worker.exitcode)" in text


def test_the_signals_name_the_application_or_the_node() -> None:
    text = source(worker_program) + source(WorkController)
    assert "celeryd_after_setup.send(\n            sender=self.hostname, instance=self" in text
    assert (
        "celeryd_init.send(\n            sender=self.hostname, instance=self,\n            conf=self.app.conf" in text
    )
    assert text.index("self.on_before_init(**kwargs)") < text.index("self.setup_defaults(**kwargs)")
    assert "worker_ready.send(sender=consumer)" in text
    assert "worker_shutting_down.send(\n                        sender=worker.hostname" in text
    assert "worker_shutdown.send(sender=self)" in text


def test_a_worker_closes_its_steps_before_it_waits_for_its_tasks() -> None:
    text = source(Blueprint.stop)
    assert text.index("self.close(parent)") < text.index("'terminate' if terminate else 'stop'")
    assert "self.send_all(parent, 'close'" in source(Blueprint.close)
    # The blueprint stops nothing if a step was not started, and the start of this one ends when the worker ends.
    assert worker_components.Consumer.last is True


def test_an_application_makes_its_pools_in_properties_that_the_client_replaces() -> None:
    assert isinstance(inspect.getattr_static(Celery, "pool"), property)
    assert isinstance(inspect.getattr_static(AMQP, "producer_pool"), property)
    assert "self._pool" in source(Celery.pool.fget)
    assert "self._producer_pool" in source(AMQP.producer_pool.fget)
    assert parameters(Celery._ensure_after_fork) == ["self"]
    # A fork drops the pools by these names.
    assert "self._pool = None" in source(Celery._after_fork)
    assert "._producer_pool = None" in source(Celery._after_fork)


def test_the_settings_that_celery_takes_from_the_environment_are_those_that_ours_replace() -> None:
    reading = {
        name for name, each in vars(Settings).items() if isinstance(each, property) and "environ" in source(each.fget)
    }
    assert reading == {"broker_url", "broker_read_url", "broker_write_url", "result_backend"}
    assert reading <= vars(_Settings).keys()


def test_the_view_of_the_settings_is_kept_when_the_configuration_is_read() -> None:
    app = celery_app(ClientSettings())
    view = app.conf
    assert isinstance(view, _Settings) and app.conf is view and not app.configured
    assert app.conf.task_serializer == "json" and app.configured
    assert app.conf is view


def test_the_loader_the_fixups_and_the_finalizers_are_where_ours_replaces_them() -> None:
    assert "'CELERY_CONFIG_MODULE'" in source(BaseLoader.read_configuration)
    assert parameters(Celery)[1] == "loader" and "fixups" in parameters(Celery)
    assert "_announce_app_finalized(self)" in source(Celery.finalize)
    ours = {each.__name__ for each in _state._on_app_finalizers if each.__module__ == "celery.app.builtins"}
    assert "add_chain_task" in ours


def test_the_worker_selects_its_queues_before_it_starts_anything() -> None:
    text = source(WorkController.setup_queues)
    assert "amqp.queues.select(include)" in text and "amqp.queues.deselect(exclude)" in text
    setup = source(WorkController.setup_instance)
    assert setup.index("self.setup_queues(") < setup.index("self.blueprint.apply(")
    assert "self.queues_cls(" in source(AMQP.Queues)
    assert AMQP.queues_cls is Queues


def test_the_celery_command_takes_options_from_variables_after_it_has_the_application() -> None:
    assert 'auto_envvar_prefix="CELERY"' in source(celery_command)
    context = click.Context(celery_command.celery, info_name="celery", auto_envvar_prefix="CELERY")
    assert click.Context(worker_module.worker, context, "worker").auto_envvar_prefix == "CELERY_WORKER"
    context.auto_envvar_prefix = None
    assert click.Context(worker_module.worker, context, "worker").auto_envvar_prefix is None
