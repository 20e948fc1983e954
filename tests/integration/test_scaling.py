"""The simulation of `benchmarks.scaling` for a few hours, over a real Valkey."""

from collections.abc import Sequence
from functools import partial

import pytest

from benchmarks.scaling.report import Outcome, outcome_of
from benchmarks.scaling.scenarios import DIFFUSION, LANGUAGE, PROMETHEUS, SCENARIOS, Scenario
from benchmarks.scaling.simulation import Simulation, simulated_redis
from benchmarks.scaling.traffic import Kind, SimulatedJob, a_day
from diffedit.contract.stages import Stage

HOURS = 3.0


def some_jobs() -> list[SimulatedJob]:
    """Return jobs of the first hours of a day: a few interactive ones, three long ones and a piece of the batch."""
    jobs = [each for each in a_day() if each.submitted_at < HOURS * 3600]
    batch = [each for each in jobs if each.kind is Kind.BATCH]
    return [each for each in jobs if each not in batch[25:]]


def simulated(scenario: Scenario, jobs: Sequence[SimulatedJob]) -> Outcome:
    with simulated_redis() as (backend, connection):
        return outcome_of(Simulation(scenario, jobs, backend, connection).run(until=HOURS * 3600))


@pytest.fixture(scope="module")
def calm() -> tuple[Outcome, list[SimulatedJob]]:
    jobs = some_jobs()
    return simulated(PROMETHEUS, jobs), jobs


def test_every_job_ends_and_waits_for_no_less_than_nothing(calm: tuple[Outcome, list[SimulatedJob]]) -> None:
    outcome, jobs = calm
    assert outcome.unfinished == 0
    # The clock adds up to what the stages took and what the jobs waited.
    assert all(each.waited is not None and each.waited > -1e-6 for each in jobs)


def test_the_fleet_goes_to_zero_and_comes_back(calm: tuple[Outcome, list[SimulatedJob]]) -> None:
    outcome, _ = calm
    assert outcome.to_zero > 1
    assert outcome.largest > 1


def test_gpus_are_paid_for_longer_than_they_work(calm: tuple[Outcome, list[SimulatedJob]]) -> None:
    outcome, jobs = calm
    work = sum(each.seconds.get(stage, 0.0) for each in jobs for stage in (Stage.MASK, Stage.INVERT, Stage.EDIT))
    assert outcome.ideal == pytest.approx(work / 3600)
    assert outcome.gpu_hours > outcome.ideal


def test_the_same_jobs_give_the_same_numbers(calm: tuple[Outcome, list[SimulatedJob]]) -> None:
    outcome, _ = calm
    again = simulated(PROMETHEUS, some_jobs())
    assert (again.waits, again.nodes, again.gpu_hours) == (outcome.waits, outcome.nodes, outcome.gpu_hours)


def test_a_worker_that_ends_its_stage_loses_no_work_when_the_fleet_shrinks() -> None:
    """Three replicas run long edits when the scaler goes down to one; a job that is handed back starts again."""
    lost = {}
    for drain in ("stage", "step"):
        jobs = [each for each in a_day() if each.kind is Kind.LONG][:3]
        for each in jobs:
            each.submitted_at = 0.0
        with simulated_redis() as (backend, connection):
            scenario = Scenario("shrinking", "", {}, drain, replicas={DIFFUSION: 3, LANGUAGE: 1})
            simulation = Simulation(scenario, jobs, backend, connection)
            simulation.events.at(1000.0, partial(simulation.fleets[DIFFUSION].scale_to, 1))
            simulation.run(until=0.0)
        assert all(each.finished_at is not None for each in jobs)
        lost[drain] = [sum(each.interrupted.values()) for each in jobs]
    assert lost["stage"] == [0, 0, 0]
    assert sorted(lost["step"]) == [0, 1, 1]


def test_the_names_of_scenarios_are_unique() -> None:
    assert len({scenario.name for scenario in SCENARIOS}) == len(SCENARIOS)


def test_a_fixed_pool_works_from_its_first_worker_on() -> None:
    """No job has come before, and no scaler has asked."""
    jobs = [each for each in a_day() if each.kind is Kind.INTERACTIVE][:1]
    with simulated_redis() as (backend, connection):
        scenario = Scenario("fixed", "", {}, replicas={DIFFUSION: 1, LANGUAGE: 1})
        day = Simulation(scenario, jobs, backend, connection).run(until=0.0)
    assert jobs[0].submitted_at > 180
    assert jobs[0].waited == pytest.approx(0.0)
    assert outcome_of(day).to_zero == 0
