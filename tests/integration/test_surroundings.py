"""A client in a program that has Celery or Django of its own. Each program is a real process."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import redis

from diffedit import Client, Settings
from diffedit.jobs.keys import job_key
from diffedit_worker.local.stack import LocalServices
from tests.support.fake_service import png
from tests.support.surroundings import NOWHERE, OF_CELERY, OF_CELERYS_COMMAND, their_modules

PROGRAM = """
import json, sys, warnings
warnings.simplefilter("ignore")
from celery import Celery, Task, current_app, shared_task

class Noting(Task):
    bound = set()
    @classmethod
    def on_bound(cls, app):
        cls.bound.add(app.main)

if "an application" in sys.argv:
    theirs = Celery("theirs", loader="app", fixups=[])

@shared_task(base=Noting)
def earlier(): pass

from diffedit import Client
with Client.from_env() as client:
    job = client.edit(sys.stdin.buffer.read(), source_prompt="a bowl", target_prompt="a pear")

@shared_task(base=Noting)
def later(): pass

print(json.dumps({"job": job.id, "current": current_app.main, "apps": [earlier.app.main, later.app.main],
                  "bound": sorted(Noting.bound)}))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return their_modules(tmp_path)


def run(stack: LocalServices, folder: Path, *arguments: str, **variables: str) -> dict[str, Any]:
    """Run the program: it submits a job, and says what became of its own application and tasks."""
    inherited = {name: value for name, value in os.environ.items() if name not in OF_CELERY | OF_CELERYS_COMMAND}
    paths = {"PYTHONPATH": os.pathsep.join([str(folder), *sys.path])}
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env={**inherited, **stack.environment, **paths, **variables},
        cwd=folder,
        input=png(),
        capture_output=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr.decode()
    answer: dict[str, Any] = json.loads(ran.stdout)
    return answer


def message_of(settings: Settings, job_id: str) -> dict[str, Any] | None:
    """Return the message of this job, in its queue or held back behind those of other tests, and cancel the job."""
    server = redis.Redis.from_url(settings.redis_url.get_secret_value(), decode_responses=True)
    with Client(settings) as client:
        job = client.job(job_id)
        found = [*server.lrange(job.status().job.queue, 0, -1), server.hget(job_key(job_id), "held")]
        job.cancel()
    messages = [json.loads(message) for message in found if message]
    return next((message for message in messages if message["headers"]["job_id"] == job_id), None)


@pytest.mark.parametrize("name", [None, *OF_CELERY])
def test_the_programs_application_and_its_variables_leave_ours_alone_and_ours_leaves_them(
    stack: LocalServices, settings: Settings, folder: Path, name: str | None
) -> None:
    answer = run(stack, folder, "an application", **({name: OF_CELERY[name]} if name else {}))
    message = message_of(settings, answer.pop("job"))
    assert message and message["content-type"] == "application/json"
    assert answer == {"current": "theirs", "apps": ["theirs", "theirs"], "bound": ["theirs"]}


@pytest.mark.parametrize("name", ["DJANGO_SETTINGS_MODULE", "CELERY_BROKER_URL"])
def test_ours_is_never_the_default_application(
    stack: LocalServices, settings: Settings, folder: Path, name: str
) -> None:
    answer = run(stack, folder, **{name: OF_CELERY[name]})
    assert message_of(settings, answer.pop("job"))
    assert answer == {"current": "default", "apps": ["default", "default"], "bound": ["default"]}


def test_all_variables_together_change_nothing(stack: LocalServices, settings: Settings, folder: Path) -> None:
    (folder / "their_loader.py").write_text("from celery.loaders.app import AppLoader as Loader\n")
    answer = run(stack, folder, "an application", **OF_CELERY, **OF_CELERYS_COMMAND)
    assert message_of(settings, answer["job"])
    assert stack.environment["DIFFEDIT_REDIS_URL"] != NOWHERE
