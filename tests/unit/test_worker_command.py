"""`diffedit worker` starts Celery with the options that a worker needs."""

from typing import Any

import pytest
from celery import Celery

from diffedit import InvalidRequest
from diffedit.contract.stages import Lane, ModelGroup, queue_names
from diffedit_worker import worker_command
from diffedit_worker.settings import WorkerSettings

DEFAULTS: dict[str, Any] = {
    "profile": None,
    "groups": tuple(ModelGroup),
    "lanes": tuple(Lane),
    "preload": False,
    "name": None,
    "log_level": "info",
    "extra": (),
}


class Started:
    """Stands for Celery: remembers the settings of the application and the parsed options of its worker."""

    settings: WorkerSettings
    options: dict[str, Any]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Started:
    started, create_app = Started(), worker_command.create_app

    class FakeWorker:
        exitcode = 3

        def __init__(self, **options: Any) -> None:
            started.options = options

        def start(self) -> None: ...

    def create(settings: WorkerSettings) -> Celery:
        started.settings = settings
        app = create_app(settings)
        app.Worker = FakeWorker
        return app

    monkeypatch.setattr(worker_command, "create_app", create)
    monkeypatch.setenv("DIFFEDIT_PROFILE", "tiny")
    return started


def run(**changes: Any) -> int:
    return worker_command.run(**{**DEFAULTS, **changes})


def test_by_default_a_worker_reads_all_queues_of_the_profile_in_order(started: Started) -> None:
    run()
    assert started.options["queues"] == list(queue_names("tiny"))
    assert started.options["hostname"].startswith("worker@")
    assert "%" not in started.options["hostname"]
    assert started.options["without_gossip"] and started.options["without_mingle"]
    assert started.options["loglevel"] in ("INFO", 20)


@pytest.mark.parametrize(
    ("options", "queues"),
    [
        ({"groups": [ModelGroup.LANGUAGE]}, ["diffedit.tiny.language", "diffedit.tiny.language.batch"]),
        ({"lanes": [Lane.BATCH]}, ["diffedit.tiny.diffusion.batch", "diffedit.tiny.language.batch"]),
        ({"groups": [ModelGroup.DIFFUSION], "lanes": [Lane.INTERACTIVE]}, ["diffedit.tiny.diffusion"]),
        ({"profile": "sd21", "groups": [ModelGroup.LANGUAGE], "lanes": [Lane.BATCH]}, ["diffedit.sd21.language.batch"]),
    ],
)
def test_groups_and_lanes_choose_the_queues(started: Started, options: dict[str, Any], queues: list[str]) -> None:
    run(**options)
    assert started.options["queues"] == queues


def test_the_options_replace_the_environment(started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFFEDIT_PRELOAD", "1")
    run(profile="sd21", preload=False, name="gpu1", log_level="warning")
    assert (started.settings.profile, started.settings.preload) == ("sd21", False)
    assert started.options["hostname"].startswith("gpu1@")
    assert started.options["loglevel"] in ("WARNING", 30)


def test_the_environment_names_the_profile(started: Started) -> None:
    run()
    assert started.settings.profile == "tiny"


def test_further_options_go_to_celery_and_replace_ours(started: Started) -> None:
    run(extra=["-E", "-Q", "one,two"])
    assert started.options["task_events"] is True
    assert started.options["queues"] == ["one", "two"]


def test_the_exit_code_is_celerys(started: Started) -> None:
    assert run() == 3


@pytest.mark.parametrize("extra", [["--no-such-option=1"], ["--time-limit", "soon"]])
def test_options_that_celery_does_not_accept_are_an_invalid_request(started: Started, extra: list[str]) -> None:
    with pytest.raises(InvalidRequest, match="Celery does not accept these options"):
        run(extra=extra)


def test_an_unknown_profile_is_an_invalid_request(started: Started) -> None:
    with pytest.raises(InvalidRequest, match="nobody"):
        run(profile="nobody")
