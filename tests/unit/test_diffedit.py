"""The three steps of DiffEdit by themselves. test_parity.py compares them with diffusers."""

from collections import Counter
from types import SimpleNamespace

import pytest
import torch

from diffedit_worker.diffusion.diffedit import (
    count_steps,
    decode,
    difference_map,
    draw_noise,
    edit,
    encode,
    invert,
    predict_noise,
)
from tests.support.deviations import one_level_behind, sampled_encoding, threshold_by_batch_mean
from tests.support.models import SIZE, compute_mask, embeddings, pictures, small_models

STEPS = {"num_inference_steps": 5}
SIDE = SIZE // 2
SOURCE, TARGET, NEGATIVE = (embeddings(1, seed) for seed in (1, 2, 3))
EVERYWHERE = torch.ones(1, SIDE, SIDE, dtype=torch.bool)


class Stop(Exception):
    pass


def stop_at(step):
    def on_step(done, total):
        if done == step:
            raise Stop

    return on_step


@pytest.fixture(scope="module")
def models():
    return small_models()


@pytest.fixture
def forwards(models):
    """Count the UNet's forward passes and their samples."""
    counts = Counter()
    hook = models.unet.register_forward_hook(lambda unet, args, output: counts.update(passes=1, samples=len(args[0])))
    yield counts
    hook.remove()


@pytest.fixture(scope="module")
def z0(models):
    return encode(models.vae, 2 * pictures(2) - 1)


@pytest.fixture(scope="module")
def noise():
    return draw_noise((2, 3, 4, SIDE, SIDE), seed=7)


@pytest.fixture(scope="module")
def trajectory(models, z0):
    return invert(models.denoiser, models.inverse_scheduler, z0, SOURCE, **STEPS)


@pytest.mark.parametrize(("steps", "strength", "count"), [(50, 0.8, 40), (50, 1.0, 50), (50, 0.58, 28), (5, 0.0, 0)])
def test_strength_gives_a_whole_number_of_steps(steps, strength, count):
    assert count_steps(steps, strength) == count


def test_one_picture_has_one_encoding(models):
    image = 2 * pictures(2) - 1
    torch.manual_seed(1)
    first = encode(models.vae, image)
    torch.manual_seed(2)
    assert torch.equal(first, encode(models.vae, image))
    assert not torch.equal(first, sampled_encoding(models.vae, image, torch.Generator().manual_seed(1)))


def test_decoding_gives_pictures(models, z0):
    assert decode(models.vae, z0).shape == (2, 3, SIZE, SIZE)


def test_the_seed_decides_the_noise():
    assert torch.equal(draw_noise((1, 2, 4, 8, 8), 3), draw_noise((1, 2, 4, 8, 8), 3))
    assert not torch.equal(draw_noise((1, 2, 4, 8, 8), 3), draw_noise((1, 2, 4, 8, 8), 4))
    half = draw_noise((1, 2, 4, 8, 8), 3, dtype=torch.float16)
    assert torch.equal(half, draw_noise((1, 2, 4, 8, 8), 3).half())


def test_guidance_without_a_negative_is_refused(models, z0):
    with pytest.raises(ValueError, match="unconditional"):
        predict_noise(models.denoiser, z0, 1, SOURCE, guidance_scale=7.5)


def test_guidance_extrapolates_from_the_negative(models, z0):
    plain, negative = (predict_noise(models.denoiser, z0, 1, text)[0] for text in (SOURCE, NEGATIVE))
    guided, _ = predict_noise(models.denoiser, z0, 1, SOURCE, NEGATIVE, 3.0)
    assert torch.allclose(guided, 3 * plain - 2 * negative, atol=1e-5)


def test_a_mask_does_not_depend_on_the_other_pictures_of_its_batch(models, z0, noise):
    # Given two pictures whose difference maps differ in size, because one of them has a larger change
    target = torch.cat([TARGET, SOURCE + 0.1 * (TARGET - SOURCE)])

    def masks(pick):
        return compute_mask(models.denoiser, models.scheduler, z0[pick], SOURCE, target[pick], noise[pick], **STEPS)

    alone = torch.cat([masks([0]), masks([1])])
    assert [len(mask.unique()) for mask in alone] == [2, 2]
    assert torch.equal(masks([0, 1]), alone)
    # Unlike in diffusers, which takes the mean over the batch
    D = difference_map(models.denoiser, models.scheduler, z0, SOURCE, target, noise, **STEPS)
    assert not torch.equal(threshold_by_batch_mean(D), alone)


def test_a_mask_does_not_depend_on_the_batch_size(models, z0, noise, forwards):
    masks, passes = [], []
    for max_batch in (1, 2, 5, 100):
        forwards.clear()
        masks.append(
            compute_mask(models.denoiser, models.scheduler, z0, SOURCE, TARGET, noise, max_batch=max_batch, **STEPS)
        )
        passes.append(forwards["passes"])
    assert len(masks[0].unique()) == 2
    assert all(torch.equal(mask, masks[0]) for mask in masks)
    assert passes == [6, 6, 3, 1]


def test_equal_descriptions_give_an_empty_mask(models, z0, noise):
    mask = compute_mask(models.denoiser, models.scheduler, z0, SOURCE, SOURCE, noise, **STEPS)
    assert mask.dtype == torch.bool
    assert mask.shape == (2, SIDE, SIDE)
    assert not mask.any()


def test_equal_descriptions_give_an_empty_mask_with_otsus_cut(models, z0, noise):
    for cleanup in (False, True):
        options = {"mask_thresholding_ratio": "otsu", "mask_cleanup": cleanup, **STEPS}
        assert not compute_mask(models.denoiser, models.scheduler, z0, SOURCE, SOURCE, noise, **options).any()


@pytest.mark.parametrize("ratio", [2.0, "otsu"])
def test_each_picture_is_cleaned_up_by_itself(models, z0, noise, ratio):
    options = {"mask_cleanup": True, "mask_thresholding_ratio": ratio, **STEPS}
    both = compute_mask(models.denoiser, models.scheduler, z0, SOURCE, TARGET, noise, **options)
    alone = [
        compute_mask(models.denoiser, models.scheduler, z0[[i]], SOURCE, TARGET, noise[[i]], **options) for i in (0, 1)
    ]
    assert both.dtype == torch.bool
    assert torch.equal(both, torch.cat(alone))


def test_a_lower_threshold_gives_a_larger_mask(models, z0, noise):
    inputs = (models.denoiser, models.scheduler, z0, SOURCE, TARGET, noise)
    small, large = (compute_mask(*inputs, mask_thresholding_ratio=ratio, **STEPS) for ratio in (3.0, 2.0))
    assert 0 < small.sum() < large.sum() < large.numel()
    assert not (small & ~large).any()


def test_a_mask_needs_at_least_one_step(models, z0, noise):
    with pytest.raises(ValueError, match="less than one step"):
        compute_mask(models.denoiser, models.scheduler, z0, SOURCE, TARGET, noise, mask_encode_strength=0.1, **STEPS)


def test_an_edit_at_the_defaults_costs_140_samples(models, z0, forwards):
    one, costs = z0[:1], []
    noise = draw_noise((1, 10, 4, SIDE, SIDE), seed=0)
    mask = compute_mask(models.denoiser, models.scheduler, one, SOURCE, TARGET, noise)
    costs.append(forwards["samples"])
    trajectory = invert(models.denoiser, models.inverse_scheduler, one, SOURCE)
    costs.append(forwards["samples"])
    edit(models.denoiser, models.scheduler, trajectory, mask, TARGET, negative=NEGATIVE)
    costs.append(forwards["samples"])
    assert costs == [20, 20 + 40, 20 + 40 + 80]


def test_a_trajectory_ends_on_the_picture(trajectory, z0):
    assert trajectory.shape == (2, 5, 4, SIDE, SIDE)
    assert torch.equal(trajectory[:, -1], z0)
    distances = (trajectory - z0[:, None]).abs().mean(dim=(0, 2, 3, 4))
    assert distances.tolist() == sorted(distances.tolist(), reverse=True)


def test_an_empty_mask_returns_the_picture(models, trajectory, z0):
    latents = edit(models.denoiser, models.scheduler, trajectory, ~EVERYWHERE, TARGET, negative=NEGATIVE, **STEPS)
    assert torch.equal(latents, z0)


def test_outside_the_mask_an_edit_follows_the_trajectory(models, trajectory, z0):
    mask = torch.zeros(2, SIDE, SIDE, dtype=torch.bool)
    mask[0, :4] = mask[1, 4:] = True
    outside = ~mask[:, None].expand_as(z0)
    latents = edit(models.denoiser, models.scheduler, trajectory, mask, TARGET, negative=NEGATIVE, **STEPS)
    assert torch.equal(latents[outside], z0[outside])
    assert not (latents == z0)[~outside].any()
    behind = one_level_behind(trajectory)
    behind = edit(models.denoiser, models.scheduler, behind, mask, TARGET, negative=NEGATIVE, **STEPS)
    assert torch.equal(behind[outside], trajectory[:, -2][outside])


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_without_mask_and_guidance_the_edit_restores_the_picture(prediction_type):
    # DDIM retraces its inversion only in the limit of small steps, and random weights are not smooth
    models = small_models(prediction_type, seed=2)
    z0 = draw_noise((1, 4, SIDE, SIDE), seed=2)
    text = embeddings(1, 2) / 10
    errors = []
    for steps in (10, 50):
        there = invert(models.denoiser, models.inverse_scheduler, z0, text, num_inference_steps=steps)
        options = {"num_inference_steps": steps, "guidance_scale": 1}
        back = edit(models.denoiser, models.scheduler, there, EVERYWHERE, text, **options)
        errors.append((back - z0).abs().mean())
        distance = (there[:, 0] - z0).abs().mean()
    assert errors[1] < 0.15 * distance
    assert errors[1] < 0.5 * errors[0]


def test_no_strength_means_no_change(models, z0):
    none = {**STEPS, "strength": 0.0}
    trajectory = invert(models.denoiser, models.inverse_scheduler, z0, SOURCE, **none)
    assert trajectory.shape == (2, 1, 4, SIDE, SIDE)
    assert torch.equal(edit(models.denoiser, models.scheduler, trajectory, EVERYWHERE, TARGET, **none), z0)


@pytest.mark.parametrize("other", [{"strength": 0.5}, {"num_inference_steps": 10}])
def test_a_trajectory_made_with_other_steps_is_refused(models, trajectory, other):
    with pytest.raises(ValueError, match="the trajectory has 5 entries, but .* need"):
        edit(models.denoiser, models.scheduler, trajectory, EVERYWHERE, TARGET, negative=NEGATIVE, **{**STEPS, **other})


@pytest.fixture
def walks(models, z0, noise, trajectory):
    """The three steps, each as a function of `on_step`, and how often it calls it."""

    def mask(on_step):
        return compute_mask(
            models.denoiser, models.scheduler, z0, SOURCE, TARGET, noise, max_batch=4, on_step=on_step, **STEPS
        )

    def inversion(on_step):
        return invert(models.denoiser, models.inverse_scheduler, z0, SOURCE, on_step=on_step, **STEPS)

    def edition(on_step):
        inputs = (models.denoiser, models.scheduler, trajectory, EVERYWHERE, TARGET)
        return edit(*inputs, negative=NEGATIVE, on_step=on_step, **STEPS)

    return SimpleNamespace(mask=(mask, 3), invert=(inversion, 4), edit=(edition, 4))


@pytest.mark.parametrize("name", ["mask", "invert", "edit"])
def test_each_step_is_reported_once(walks, name):
    walk, total = getattr(walks, name)
    calls = []
    walk(lambda *call: calls.append(call))
    assert calls == [(done, total) for done in range(1, total + 1)]


@pytest.mark.parametrize("name", ["mask", "invert", "edit"])
def test_an_exception_of_on_step_ends_the_function(walks, name, forwards):
    walk, _ = getattr(walks, name)
    with pytest.raises(Stop):
        walk(stop_at(2))
    assert forwards["passes"] == 2


def test_models_and_schedulers_are_not_changed(models, walks):
    for scheduler in schedulers_of(models):
        scheduler.set_timesteps(9)
    before = [(scheduler.num_inference_steps, scheduler.timesteps.clone()) for scheduler in schedulers_of(models)]
    with torch.enable_grad():
        results = [walk(lambda done, total: None) for walk, _ in vars(walks).values()]
    assert not any(result.requires_grad for result in results)
    for scheduler, (steps, timesteps) in zip(schedulers_of(models), before, strict=True):
        assert scheduler.num_inference_steps == steps
        assert torch.equal(scheduler.timesteps, timesteps)


def schedulers_of(models):
    return models.scheduler, models.inverse_scheduler
