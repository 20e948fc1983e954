"""Nothing is lost when everything fails, in short; `make chaos` does it at length."""

from pathlib import Path

import pytest

from benchmarks.chaos import run
from benchmarks.faults import KINDS


@pytest.mark.filterwarnings("ignore::diffedit.errors.NoWorkerWarning")
def test_every_job_comes_to_one_end_whatever_fails(tmp_path: Path) -> None:
    outcome = run(tmp_path / "stack", seed=1, jobs=15, count=len(KINDS), seconds=15, patience=60)
    assert len(outcome.struck) > len(KINDS) / 2
    assert (outcome.lost, outcome.doubled, outcome.failed, outcome.unreadable) == ([], [], {}, [])
    assert (outcome.crashes, outcome.left) == ([], [])
