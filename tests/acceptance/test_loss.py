"""Redis loses all its data amid running jobs: after `diffedit restore` every job ends, once and as it must."""

from collections.abc import Iterator

import pytest

from benchmarks.chaos.loss import ENVIRONMENT, Loss, edits
from diffedit import State
from diffedit_worker.local.stack import LocalServices
from tests.support.services import WorkerGroup

JOBS = 16
STEPS = 8
"""Of the longest edit. The workload has some of 60 steps, too."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServices]:
    with LocalServices(tmp_path_factory.mktemp("loss")) as stack:
        stack.environment |= ENVIRONMENT
        yield stack


@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("ignore::diffedit.NoWorkerWarning")
def test_every_job_ends_once_after_a_loss_of_all_data(workers: WorkerGroup) -> None:
    workers.start(2)
    short = [each for each in edits(seed=3, jobs=3 * JOBS) if each.arguments["num_inference_steps"] <= STEPS]
    outcome = Loss(workers.stack).run(short[:JOBS], timeout=90)
    assert (outcome.lost, outcome.double_outcomes, outcome.wrong, outcome.doubled) == ([], [], [], [])
    assert outcome.states.keys() == {State.SUCCEEDED}
    assert 0 < outcome.ended_before < JOBS / 2, "the loss came amid the jobs"
    assert JOBS / 3 < outcome.restored <= outcome.compared
    assert (outcome.restored_again, outcome.copies_left) == (0, 0)
