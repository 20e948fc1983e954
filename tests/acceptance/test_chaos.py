"""No job is lost while everything fails: a short run. `make chaos` is a long one."""

from pathlib import Path

import pytest

from benchmarks.chaos.faults import KINDS
from benchmarks.chaos.run import run


@pytest.mark.filterwarnings("ignore::diffedit.errors.NoWorkerWarning")
def test_every_job_ends_once_whatever_fails(tmp_path: Path) -> None:
    outcome = run(tmp_path / "stack", seed=1, jobs=15, faults=len(KINDS), seconds=15, timeout=60)
    assert len(outcome.injected) > len(KINDS) / 2
    assert (outcome.lost, outcome.double_outcomes, outcome.failed, outcome.unreadable) == ([], [], {}, [])
    assert (outcome.crashes, outcome.processes_left) == ([], [])
    # The uploads are read from the workers' logs, where a changed line would otherwise count as none.
    assert outcome.stored > 0
