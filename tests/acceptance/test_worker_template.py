"""A worker that tests fork from a template is a process of its own."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from diffedit_worker.local.stack import LocalServices
from tests.support.services import client_of, log_of
from tests.support.waiting import until
from tests.support.worker_template import ForkedProcess, WorkerTemplate, WorkerTemplates

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux only")

VARIABLES = {"DIFFEDIT_PROFILE": "tiny"}
SHOW = """
import gc, os, signal, sys, threading
print(sys.argv, sorted(os.environ.items()), os.getsid(0) == os.getpid(), sys.stdin.read(), "torch" in sys.modules)
print(gc.isenabled(), threading.active_count(), sorted(os.listdir("/proc/self/fd"))[:-1])
print(sys.path, os.getcwd())
print(signal.getsignal(signal.SIGINT) is signal.default_int_handler, signal.getsignal(signal.SIGTERM))
print("an error", file=sys.stderr)
sys.exit(3)
"""


def run(template: WorkerTemplate, output: Path, code: str, *arguments: str) -> ForkedProcess:
    with output.open("ab") as file:
        return template.fork(code, arguments, os.environ | VARIABLES, file)


def empty_modules(folder: Path) -> Path:
    """Write modules with the names of those that a template imports, so that it starts at once."""
    for name in ("local/commands", "pipeline", "runtime/runner", "worker_command"):
        (folder / "diffedit_worker" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "diffedit_worker" / f"{name}.py").touch()
    (folder / "diffedit").mkdir()
    # Without these, the packages of that name further down the path would be imported.
    for package in ("diffedit", "diffedit_worker", "diffedit_worker/local", "diffedit_worker/runtime"):
        (folder / package / "__init__.py").touch()
    (folder / "diffedit" / "cli.py").write_text("app = None\n")
    return folder


@pytest.fixture
def waiting(template: WorkerTemplate, tmp_path: Path) -> Iterator[list[ForkedProcess]]:
    """Two programs that wait for their input."""
    started = [run(template, tmp_path / "output.txt", "input()") for _ in range(2)]
    yield started
    for each in started:
        each.kill()
        each.stdin.close()


def test_a_forked_program_runs_as_in_a_new_interpreter(template: WorkerTemplate, tmp_path: Path) -> None:
    forked = run(template, tmp_path / "forked.txt", SHOW, "worker", "--name")
    forked.stdin.write(b"some input")
    forked.stdin.close()
    assert forked.wait(timeout=30) == 3
    command = [sys.executable, "-P", "-c", f"import torch\n{SHOW}", "worker", "--name"]
    with (tmp_path / "new.txt").open("ab") as file:
        new = subprocess.run(
            command, env=os.environ | VARIABLES, input=b"some input", stdout=file, stderr=file, start_new_session=True
        )
    assert new.returncode == 3
    assert (tmp_path / "forked.txt").read_text() == (tmp_path / "new.txt").read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_ends_one_forked_program_alone(waiting: list[ForkedProcess], number: signal.Signals) -> None:
    first, second = waiting
    os.kill(first.pid, number)
    assert first.wait(timeout=30) == -number
    assert second.poll() is None
    second.kill()
    assert second.wait(timeout=30) == -signal.SIGKILL


def test_an_error_ends_a_forked_program_with_a_traceback(template: WorkerTemplate, tmp_path: Path) -> None:
    program = run(template, tmp_path / "output.txt", "1 / 0")
    with program.stdin:
        assert program.wait(timeout=30) == 1
    assert "ZeroDivisionError" in (tmp_path / "output.txt").read_text()


def test_forked_programs_end_with_their_template(tmp_path: Path) -> None:
    template = WorkerTemplate(os.environ | {"PYTHONPATH": str(empty_modules(tmp_path))})
    program = run(template, tmp_path / "output.txt", "input()")
    with program.stdin:
        assert psutil.pid_exists(program.pid)
        template.stop()
        assert program.wait(timeout=30) == -signal.SIGKILL


@pytest.mark.parametrize(
    ("variables", "is_forked"),
    [({"DIFFEDIT_DEVICE": "cpu"}, True), ({"OMP_NUM_THREADS": "7"}, False), ({"HF_HOME": "/nowhere"}, False)],
)
def test_a_variable_that_a_library_may_read_early_needs_a_new_interpreter(
    templates: WorkerTemplates, variables: dict[str, str], is_forked: bool
) -> None:
    assert (templates.of(os.environ | variables) is templates.first) is is_forked
    assert (templates.of(os.environ | variables) is not None) is is_forked


def test_workers_with_an_import_path_of_their_own_have_a_template_of_their_own(
    templates: WorkerTemplates, tmp_path: Path
) -> None:
    paths = os.environ | {"PYTHONPATH": str(empty_modules(tmp_path))}
    other = templates.of(paths)
    assert other and other is templates.of(paths) is not templates.first
    assert templates.of(paths | {"HF_HOME": "/nowhere"}) is None
    program = run(other, tmp_path / "output.txt", "import diffedit_worker.pipeline as m; print(m.__file__)")
    with program.stdin:
        assert program.wait(timeout=30) == 0
    assert (tmp_path / "output.txt").read_text() == f"{tmp_path}/diffedit_worker/pipeline.py\n"


def test_the_stack_forks_its_workers_unless_their_variables_are_others(stack: LocalServices) -> None:
    (name,) = {worker.name.partition("@")[0] for worker in client_of(stack).health().workers}
    assert isinstance(stack.processes[name], ForkedProcess)
    forked = stack.start_worker("forked", app="no.such.module")
    new = stack.start_worker("new", app="no.such.module", environment={"HF_HOME": "/nowhere"})
    assert (isinstance(forked, ForkedProcess), isinstance(new, subprocess.Popen)) == (True, True)
    assert forked.wait(timeout=60) == new.wait(timeout=60) == 2
    # The first line has the time, and the name of the process that started it.
    logs = [log_of(stack, each).splitlines()[1:] for each in ("forked", "new")]
    assert logs[0] == logs[1]
    assert "no.such.module" in " ".join(logs[0])
    stack.stop(forked, new)


def test_a_forked_worker_of_another_application_imports_it_from_the_current_directory(
    template: WorkerTemplate, tmp_path: Path
) -> None:
    with LocalServices(tmp_path) as stack:
        worker = stack.start_worker("simulated", app="benchmarks.harness.simulated_worker")
        assert isinstance(worker, ForkedProcess)
        until(lambda: client_of(stack).health().workers, "the worker of another application")
