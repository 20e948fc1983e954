"""A worker with a queue that its profile does not have ends before it connects to anything. Real processes."""

import os
import subprocess
import sys

import pytest

from diffedit.contract.stages import queue_names

DIFFEDIT = [sys.executable, "-c", "import sys; from diffedit.cli import app; sys.exit(app())", "worker", "--"]
CELERY = [sys.executable, "-m", "celery", "-A", "diffedit_worker.app", "worker"]
EXIT_CODES = {"diffedit worker": 2, "celery worker": 1}
PROGRAMS = pytest.mark.parametrize(
    ("program", "command"), [("diffedit worker", DIFFEDIT), ("celery worker", CELERY)], ids=list(EXIT_CODES)
)


def errors_of(program: str, command: list[str], *options: str) -> str:
    """Run a worker for the profile "tiny" without services; return what it said on stderr."""
    variables = {"DIFFEDIT_REDIS_URL": "redis://127.0.0.1:1/0", "DIFFEDIT_PROFILE": "tiny"}
    environment = {**os.environ, **variables, "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run([*command, *options], env=environment, capture_output=True, text=True, timeout=60)
    assert ended.returncode == EXIT_CODES[program], ended.stderr
    return " ".join(ended.stderr.split())


@PROGRAMS
@pytest.mark.parametrize("option", ["-Q", "-X"])
@pytest.mark.parametrize("queue", ["diffedit.tiny.difusion", "diffedit.sd21.diffusion", "celery"])
def test_a_queue_that_the_profile_does_not_have_is_refused(
    program: str, command: list[str], option: str, queue: str
) -> None:
    errors = errors_of(program, command, option, f"diffedit.tiny.language,{queue}")
    assert f"no queue '{queue}'" in errors
    assert ", ".join(queue_names("tiny")) in errors


@PROGRAMS
def test_a_worker_that_would_read_no_queue_is_refused(program: str, command: list[str]) -> None:
    assert "no queue is left" in errors_of(program, command, "-X", ",".join(queue_names("tiny")))
