"""The arithmetic of the simulated device: fitted times, the throughput that they allow, and the measured one."""

import pytest
import torch

from benchmarks.harness.concurrency import seconds_of_calls
from benchmarks.harness.pass_times import GUIDE, EditCost, PassTimes, allowed_rate
from benchmarks.harness.simulated_device import DEVICES, ITERATIONS_PER_SECOND, SimulatedDenoiser
from benchmarks.service.shared_device import run_jobs
from diffedit_worker.diffusion import diffedit
from diffedit_worker.models.schedulers import new_inverse_scheduler, new_scheduler


def test_points_on_a_line_give_the_line():
    times = PassTimes.fit({1: 0.03, 2: 0.04, 8: 0.10})
    assert (times.fixed, times.per_sample) == pytest.approx((0.02, 0.01))
    assert times.seconds(4) == pytest.approx(0.06)


def test_the_fit_weighs_relative_errors():
    """With absolute errors, the largest pass would decide alone, and small passes would be far off."""
    measured = {2: 0.0432, 8: 0.0762, 32: 0.2778}
    times = PassTimes.fit(measured)
    errors = [abs(times.seconds(n) / seconds - 1) for n, seconds in measured.items()]
    assert max(errors) < 0.11
    for change in (0.9, 1.1):
        other = PassTimes(times.fixed * change, times.per_sample)
        others = [abs(other.seconds(n) / seconds - 1) for n, seconds in measured.items()]
        assert sum(error**2 for error in others) > sum(error**2 for error in errors)


def test_a_pass_of_no_samples_never_takes_negative_time():
    times = PassTimes.fit({1: 0.01, 2: 0.03})
    assert times.fixed == 0
    # b with the least (100 b - 1)² + (200 b / 3 - 1)²
    assert times.per_sample == pytest.approx(0.15 / 13)


def test_one_point_is_no_line():
    with pytest.raises(ValueError, match="two numbers of samples"):
        PassTimes.fit({1: 0.01})


def test_one_job_is_allowed_its_own_passes():
    assert allowed_rate(PassTimes(2.0, 1.0), EditCost(passes=10, samples=30), jobs=1, max_samples=8) == 1 / (20 + 30)


def test_jobs_share_the_fixed_time_of_their_passes():
    cost, times = EditCost(passes=10, samples=30), PassTimes(2.0, 1.0)
    assert allowed_rate(times, cost, jobs=2, max_samples=100) == 2 / (20 + 60)
    # 120 samples need 15 passes of 8, more than the 10 of one job.
    assert allowed_rate(times, cost, jobs=4, max_samples=8) == 4 / (30 + 120)


def test_the_guides_settings_cost_what_is_written_down():
    shape, calls = (1, 4, 8, 8), []

    def denoiser(x, t, cond, features=None):
        calls.append(len(x))
        return torch.zeros_like(x), x

    z0, text = torch.zeros(shape), torch.zeros(1, 3, 4)
    config = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    scheduler, inverse = new_scheduler(config, "ddim"), new_inverse_scheduler(config, "ddim")
    diffedit.difference_map(denoiser, scheduler, z0, text, text, diffedit.draw_noise((1, 10, *shape[1:]), seed=0))
    trajectory = diffedit.invert(denoiser, inverse, z0, text)
    diffedit.edit(denoiser, scheduler, trajectory, torch.ones(1, 8, 8, dtype=torch.bool), text, negative=text)
    assert EditCost(len(calls), sum(calls)) == GUIDE
    assert calls[:3] == [8, 8, 4]


def test_every_published_device_is_near_its_fitted_line():
    for name, rates in ITERATIONS_PER_SECOND.items():
        for samples, rate in rates.items():
            assert DEVICES[name].seconds(samples) * rate == pytest.approx(1, abs=0.11), name


def test_a_simulated_device_takes_one_pass_at_a_time():
    device = SimulatedDenoiser(PassTimes(0.004, 0.001))
    x, t, cond = torch.zeros(3, 4, 2, 2), torch.ones(3, dtype=torch.int64), torch.zeros(3, 1, 1)
    seconds = seconds_of_calls(lambda _: device(x, t, cond), calls=4, at_once=4)
    assert device.samples == [3] * 4
    assert seconds >= 4 * 0.007
    with pytest.raises(ValueError, match="shallow"):
        device(x, t, cond, x)


def test_jobs_on_a_simulated_device_share_passes():
    alone, four = (run_jobs(PassTimes(0.02, 0.00001), jobs) for jobs in (1, 4))
    assert alone.samples_per_pass == GUIDE.samples / GUIDE.passes
    assert four.samples_per_pass > 2 * alone.samples_per_pass
