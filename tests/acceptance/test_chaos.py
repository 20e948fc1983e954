"""No job is lost while everything fails: a short run. `make chaos` is a long one."""

import os
from pathlib import Path

import pytest

from benchmarks.chaos.run import run
from benchmarks.harness.previous_release import unpack_release
from tests.support.worker_template import WorkerTemplates


@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("ignore::diffedit.errors.NoWorkerWarning")
def test_every_job_ends_once_and_as_it_must_whatever_fails(tmp_path: Path, templates: WorkerTemplates) -> None:
    # Where the run unpacks it, and before the run: a template that starts later counts as a process that is left.
    last_release = unpack_release(tmp_path / "stack" / "last-release")
    templates.prepare(os.environ | last_release, tmp_path / "template.txt")
    outcome = run(tmp_path / "stack", seed=1, jobs=16, faults=10, sick=2, seconds=24, timeout=60)
    assert outcome.injected.total() > 6
    assert (outcome.lost, outcome.double_outcomes, outcome.failed, outcome.unreadable) == ([], [], {}, [])
    assert (outcome.wrong, outcome.crashes, outcome.processes_left) == ([], [], [])
    # The uploads are read from the workers' logs, where a changed line would otherwise count as none.
    assert outcome.stored > 0
    assert outcome.forked_reads > 0
    assert (outcome.webhooks.undelivered, outcome.webhooks.false) == ([], [])
    assert outcome.webhooks.taken > 0
    assert outcome.injected["sender of webhooks killed"] > 0
