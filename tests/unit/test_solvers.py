"""DPM-Solver++ against DDIM, against diffusers' solver of that name, and against a path that is known exactly."""

import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler

from diffedit_worker.diffusion.solvers import DPMSolverPlusPlus

CONFIG = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "steps_offset": 1}


def ddim(prediction_type: str = "epsilon") -> DDIMScheduler:
    return DDIMScheduler(**CONFIG, prediction_type=prediction_type, clip_sample=False, set_alpha_to_one=False)


def pair(steps: int, prediction_type: str = "epsilon") -> tuple[DPMSolverPlusPlus, DPMSolverPlusPlus]:
    """The solver towards the picture, and its inverse."""
    schedulers = DPMSolverPlusPlus(ddim(prediction_type)), DPMSolverPlusPlus(ddim(prediction_type), inverse=True)
    for scheduler in schedulers:
        scheduler.set_timesteps(steps)
    return schedulers


def randn(seed: int) -> torch.Tensor:
    return torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_the_first_step_equals_ddims(prediction_type: str) -> None:
    down, _ = pair(20, prediction_type)
    other = ddim(prediction_type)
    other.set_timesteps(20)
    for t in (int(down.timesteps[0]), int(down.timesteps[7])):
        down.set_timesteps(20)
        (ours,) = down.step(randn(1), t, randn(2))
        assert torch.allclose(ours, other.step(randn(1), t, randn(2)).prev_sample, atol=1e-5)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_the_steps_towards_the_picture_equal_those_of_diffusers(prediction_type: str) -> None:
    down, _ = pair(15, prediction_type)
    other = DPMSolverMultistepScheduler(
        **CONFIG, prediction_type=prediction_type, final_sigmas_type="sigma_min", lower_order_final=False
    )
    other.set_timesteps(timesteps=down.timesteps.tolist())
    ours = theirs = randn(0)
    for i, t in enumerate(down.timesteps.tolist()):
        output = randn(10 + i)
        (ours,) = down.step(output, t, ours)
        theirs = other.step(output, t, theirs).prev_sample
        assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-3)


def walked(scheduler: DPMSolverPlusPlus, x: torch.Tensor, steps: int, spread: float) -> torch.Tensor:
    """Along the path of data that is normal with this standard deviation, whose noise a model would know exactly."""
    for i, t in enumerate(scheduler.timesteps.tolist()[:steps]):
        at = i if scheduler._at is None else scheduler._at
        alpha, sigma = float(scheduler._alpha[at]), float(scheduler._sigma[at])
        x0 = alpha * spread**2 * x / (alpha**2 * spread**2 + sigma**2)
        (x,) = scheduler.step((x - alpha * x0) / sigma, t, x)
    return x


@pytest.mark.parametrize("inverse", [False, True])
def test_the_error_falls_faster_than_the_number_of_steps_grows(inverse: bool) -> None:
    errors = []
    for steps in (25, 100):
        scheduler = pair(steps)[inverse]
        x, spread = randn(3).double(), 0.5
        alpha, sigma = scheduler._alpha, scheduler._sigma
        scale = ((alpha * spread) ** 2 + sigma**2).sqrt()
        # The picture's own level is left out: it has no timestep.
        end = steps - 1
        exact = x * scale[end] / scale[0]
        errors.append(float((walked(scheduler, x, end, spread) - exact).abs().mean() / exact.abs().mean()))
    # A solver of first order, such as DDIM, gains four times at most.
    assert errors[0] > 5 * errors[1]


def test_a_schedule_may_end_on_the_pictures_own_level() -> None:
    for inverse in (False, True):
        scheduler = DPMSolverPlusPlus(
            DDIMScheduler(**{**CONFIG, "steps_offset": 0}, set_alpha_to_one=False), inverse=inverse
        )
        scheduler.set_timesteps(10)
        assert walked(scheduler, randn(3).double(), 10, 0.5).isfinite().all()


def test_both_directions_share_their_levels() -> None:
    down, up = pair(20)
    assert torch.equal(down._alpha, up._alpha.flip(0))
    assert up.timesteps.tolist() == [1, 1, *down.timesteps.tolist()[:0:-1][1:]]


def test_a_picture_that_the_model_predicts_exactly_is_restored_exactly() -> None:
    down, up = pair(10, "v_prediction")
    z0 = randn(4).double()
    x = z0
    for t in up.timesteps.tolist():
        alpha, sigma = float(up._alpha[up._at]), float(up._sigma[up._at])
        (x,) = up.step((alpha * x - z0) / sigma, t, x)
    for i, t in enumerate(down.timesteps.tolist()):
        (x,) = down.step((float(down._alpha[i]) * x - z0) / float(down._sigma[i]), t, x)
    assert torch.allclose(x, z0)
