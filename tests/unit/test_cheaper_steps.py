"""Guidance in a part of the steps, and features that are kept between steps: which passes are run, and with what."""

from dataclasses import dataclass, field
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from diffedit_worker.diffusion.denoiser import Denoiser
from diffedit_worker.diffusion.diffedit import edit, encode, invert, predict_noise
from diffedit_worker.diffusion.solvers import DPMSolverPlusPlus
from tests.support.models import SIZE, embeddings, pictures, small_models

STEPS = {"num_inference_steps": 10}
N = 8
"""The steps at the default strength."""
SIDE = SIZE // 2
SOURCE, TARGET, NEGATIVE = (embeddings(1, seed) for seed in (1, 2, 3))
EVERYWHERE = torch.ones(1, SIDE, SIDE, dtype=torch.bool)


@dataclass
class Recorder:
    """A denoiser that writes down its passes."""

    denoiser: Denoiser
    passes: list[tuple[Tensor, Tensor | None, Tensor]] = field(default_factory=list)
    """The text, the features that came in, and those that went out."""

    def __call__(self, x: Tensor, t: Tensor, cond: Tensor, features: Tensor | None = None) -> tuple[Tensor, Tensor]:
        assert t.shape == (len(x),) and t.dtype == torch.int64
        assert len(cond) == len(x) and (features is None or len(features) == len(x))
        eps, after = self.denoiser(x, t, cond, features)
        self.passes.append((cond, features, after))
        return eps, after

    @property
    def samples(self) -> list[int]:
        return [len(cond) for cond, _, _ in self.passes]

    @property
    def is_full(self) -> list[bool]:
        return [features is None for _, features, _ in self.passes]


@pytest.fixture(scope="module")
def models():
    return small_models()


@pytest.fixture(scope="module")
def z0(models):
    return encode(models.vae, 2 * pictures(2) - 1)


@pytest.fixture(scope="module")
def trajectory(models, z0):
    return invert(models.denoiser, models.inverse_scheduler, z0, SOURCE, **STEPS)


@pytest.fixture
def recorder(models):
    return Recorder(models.denoiser)


def edited(models, denoiser, trajectory, mask=EVERYWHERE, **options):
    return edit(denoiser, models.scheduler, trajectory, mask, TARGET, negative=NEGATIVE, **STEPS, **options)


@pytest.mark.parametrize(("share", "guided"), [(1.0, 8), (0.6, 4), (0.5, 4), (0.1, 0), (0.0, 0)])
def test_only_the_first_share_of_the_steps_has_guidance(models, trajectory, recorder, share, guided):
    edited(models, recorder, trajectory, guidance_interval=share)
    assert recorder.samples == guided * [4] + (N - guided) * [2]
    for cond, _, _ in recorder.passes[guided:]:
        assert torch.equal(cond, TARGET.expand(2, -1, -1))


def test_without_any_guided_step_the_edit_is_the_one_at_scale_1(models, trajectory):
    none = edited(models, models.denoiser, trajectory, guidance_interval=0.0)
    assert torch.equal(none, edited(models, models.denoiser, trajectory, guidance_scale=1.0))
    half = edited(models, models.denoiser, trajectory, guidance_interval=0.5)
    whole = edited(models, models.denoiser, trajectory)
    assert not torch.equal(half, none) and not torch.equal(half, whole)


@pytest.mark.parametrize(
    ("reuse", "full"),
    [(1, [1, 1, 1, 1, 1, 1, 1, 1]), (2, [1, 0, 1, 0, 1, 0, 1, 0]), (3, [1, 0, 0, 1, 0, 0, 1, 0]), (9, [1] + 7 * [0])],
)
def test_one_pass_of_n_is_full_and_the_others_take_its_features(models, z0, trajectory, recorder, reuse, full):
    invert(recorder, models.inverse_scheduler, z0, SOURCE, **STEPS, feature_reuse=reuse)
    edited(models, recorder, trajectory, feature_reuse=reuse)
    assert recorder.is_full == [bool(each) for each in full + full]
    for (_, _, before), (_, features, after) in pairwise(recorder.passes):
        assert features is None or (torch.equal(features, before) and features is after)


def test_when_guidance_ends_between_full_passes_the_features_under_the_target_go_on(models, trajectory, recorder):
    # Given full passes in the steps 0, 3 and 6, and guidance in the steps 0 to 3
    edited(models, recorder, trajectory, feature_reuse=3, guidance_interval=0.5)
    assert recorder.samples == [4, 4, 4, 4, 2, 2, 2, 2]
    assert recorder.is_full == [True, False, False, True, False, False, True, False]
    # Then the steps 4 and 5 use those of step 3 under the target, which are the second half
    cond, _, features = recorder.passes[3]
    assert torch.equal(cond[2:], TARGET.expand(2, -1, -1))
    for i in (4, 5):
        assert torch.equal(recorder.passes[i][1], features[2:])


def test_a_shallow_pass_with_guidance_extrapolates_from_the_negative(models, z0):
    _, features = predict_noise(models.denoiser, z0, 500, TARGET, NEGATIVE, 3.0)
    guided, kept = predict_noise(models.denoiser, z0 + 0.1, 400, TARGET, NEGATIVE, 3.0, features)
    assert kept is features
    negative, target = (
        predict_noise(models.denoiser, z0 + 0.1, 400, text, features=each)[0]
        for text, each in zip((NEGATIVE, TARGET), features.chunk(2), strict=True)
    )
    assert torch.allclose(guided, 3 * target - 2 * negative, atol=1e-5)


def test_the_inversion_keeps_the_features_of_both_texts_if_it_has_guidance(models, z0, recorder):
    options = {**STEPS, "uncond": NEGATIVE, "guidance_scale": 2.0, "feature_reuse": 2}
    invert(recorder, models.inverse_scheduler, z0, SOURCE, **options)
    assert recorder.samples == N * [4]
    assert recorder.is_full == [True, False] * 4


@pytest.mark.parametrize("solver", ["ddim", "dpmsolver++"])
def test_an_empty_mask_returns_the_picture_whatever_is_left_out(models, z0, solver):
    schedulers = models.inverse_scheduler, models.scheduler
    if solver == "dpmsolver++":
        schedulers = DPMSolverPlusPlus(models.scheduler, inverse=True), DPMSolverPlusPlus(models.scheduler)
    there = invert(models.denoiser, schedulers[0], z0, SOURCE, **STEPS, feature_reuse=2)
    options = {"guidance_interval": 0.5, "feature_reuse": 3, **STEPS}
    back = edit(models.denoiser, schedulers[1], there, ~EVERYWHERE, TARGET, negative=NEGATIVE, **options)
    assert torch.equal(back, z0)
