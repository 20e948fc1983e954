"""From difference maps to masks: the paper's threshold, and two additions that are not in the paper.

A difference map D (h, w) holds, for each latent cell, how much source and target differ in the model's predictions.
"""

from typing import Literal

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor


def threshold(D: Tensor, ratio: float | Literal["otsu"], *, cleanup: bool = False) -> Tensor:
    """Return the mask M (B, h, w), bool, of each difference map (B, h, w): true where the difference is above the cut.

    The paper removes extremes, scales to [0, 1] and cuts at 0.5. diffusers removes extremes by clamping at `ratio`
    times the mean. Clamp, scale and cut together mean: the cut is half of `ratio` times the mean. In this form, a map
    of zeros gives an empty mask instead of 0 / 0.

    With "otsu", the cut is the one that separates the map best (`otsu_cut`), because the distance of the mean from the
    changed cells depends on how many cells change. `cleanup` smooths the map (`smooth`) and keeps whole regions of the
    mask (`keep_whole_regions`).

    Deviation from diffusers: each picture has its own mean, where diffusers takes the mean over the batch. So the mask
    of a picture does not depend on the other pictures in its batch.
    """
    mean = D.mean(dim=(1, 2), keepdim=True)
    if cleanup:
        D = smooth(D)
    cut = otsu_cut(D) if ratio == "otsu" else 0.5 * ratio * mean
    if cleanup:
        return torch.stack([keep_whole_regions(d, float(c)) for d, c in zip(D, cut, strict=True)])
    return D.gt(cut)


def otsu_cut(D: Tensor) -> Tensor:
    """Return the cut (B, 1, 1) of each map (B, h, w) that separates its cells into two groups best.

    "Best" means the largest squared difference of the groups' means, weighted by the groups' sizes (Otsu 1979, doi
    10.1109/TSMC.1979.4310076). The cut is halfway between the two neighbouring values.
    """
    v = D.flatten(1).double().sort(dim=1).values
    n = v.shape[1]
    below = torch.arange(1, n, device=D.device)
    sums = v.cumsum(dim=1)
    low, high = sums[:, :-1] / below, (sums[:, -1:] - sums[:, :-1]) / (n - below)
    gap = (below * (n - below) * (high - low).square()).argmax(dim=1, keepdim=True)
    cut: Tensor = (v.gather(1, gap) + v.gather(1, gap + 1)) / 2
    return cut[:, :, None].to(D.dtype)


def smooth(D: Tensor) -> Tensor:
    """Return each map (B, h, w) after a Gaussian filter of 0.7 cells, which removes the speckles of few noises."""
    smoothed = ndimage.gaussian_filter(D.float().cpu().numpy(), sigma=(0, 0.7, 0.7), mode="nearest")
    return torch.from_numpy(smoothed).to(D.device)


def keep_whole_regions(D: Tensor, cut: float) -> Tensor:
    """Return the regions (h, w), bool, of a map (h, w) above `cut` that contain a strong cell, with their holes filled.

    A cell is strong if its value is at least twice the cut, where the paper's scale reaches 1. If no cell is, those of
    at least 80 % of the largest value are strong. A region without a strong cell is noise, or an object that is not
    part of the edit. (This is double thresholding, as in Canny's edge detector.)
    """
    level = D.float().cpu().numpy()
    passing = level > cut
    strong = passing & (level >= min(2 * cut, 0.8 * level.max()))
    kept = ndimage.binary_propagation(strong, structure=np.ones((3, 3)), mask=passing)
    return torch.from_numpy(ndimage.binary_fill_holes(kept)).to(D.device)
