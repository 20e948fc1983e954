"""Thresholding of difference maps: the paper's cut, Otsu's cut, and the clean-up."""

import pytest
import torch

from diffedit_worker.diffusion.thresholding import keep_whole_regions, otsu_cut, smooth, threshold


def test_the_cut_is_half_of_the_ratio_times_the_mean_of_each_map():
    D = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 5.0, 0.1])[:, None, None]
    for ratio in (1.0, 2.5):
        wanted = torch.stack([d > ratio / 2 * d.mean() for d in D])
        assert torch.equal(threshold(D, ratio), wanted)
        assert all(0 < mask.sum() < mask.numel() for mask in wanted)


def test_clean_up_removes_specks_and_fills_holes():
    D = torch.zeros(16, 16)
    D[2:9, 2:9] = 3.0
    D[5, 5] = 0.0
    D[12:15, 12:15] = 1.6  # above the cut, without a strong cell
    cleaned = keep_whole_regions(D, 1.0)
    assert cleaned[2:9, 2:9].all()
    assert cleaned.sum() == 49


def test_clean_up_keeps_a_faint_region_if_no_region_is_clear():
    D = torch.zeros(16, 16)
    D[2:9, 2:9] = 1.4
    assert keep_whole_regions(D, 1.0)[2:9, 2:9].all()
    assert not keep_whole_regions(torch.zeros(16, 16), 0.0).any()


def test_smoothing_does_not_mix_maps_and_keeps_their_sum():
    D = torch.ones(2, 16, 16)
    D[1, 4, 4] = 5.0
    smoothed = smooth(D)
    assert torch.allclose(smoothed[0], D[0])
    assert 1 < smoothed[1, 4, 5] < smoothed[1, 4, 4] < 5
    assert smoothed.sum() == pytest.approx(D.sum().item(), rel=1e-5)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.8])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_otsus_cut_separates_two_groups_of_any_size_and_scale(share, scale):
    generator = torch.Generator().manual_seed(0)
    D = torch.rand(3, 16, 16, generator=generator)
    high = torch.rand(3, 16, 16, generator=generator) < share
    D[high] += 3.0
    assert torch.equal(scale * D > otsu_cut(scale * D), high)


def test_otsus_cut_has_the_least_variance_within_the_groups():
    D = torch.rand(1, 6, 6, generator=torch.Generator().manual_seed(3)).square()
    cells = D.flatten().sort().values

    def within(count: int) -> float:
        return sum(len(part) * part.var(correction=0).item() for part in (cells[:count], cells[count:]))

    best = min(range(1, len(cells)), key=within)
    assert (otsu_cut(D) >= D).sum() == best
