"""What the speed costs in quality: edits of held-out swaps, ours beside those of diffusers' pipeline.

    python -m benchmarks.price

The swaps are those of docs/explanation/quality.md; `python -m benchmarks.quality` says much more of them.
"""

from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.figures import Figure, mean, psnr, run_figures, share
from benchmarks.held_out import OURS, REFERENCE, Edit, edited, held_out

SEED, COUNT = 2026, 80
RIVALS: dict[str, dict[str, Any]] = {
    "the defaults of both": {},
    "the reference's mask settings in ours": {"mask_thresholding_ratio": 3.0, "mask_cleanup": False},
    "ours by dpmsolver++ at 20 steps": {"scheduler": "dpmsolver++", "num_inference_steps": 20},
}
GROUPS: dict[str, Callable[[Edit], bool]] = {
    "swaps": lambda edit: edit.layout != "bowl",
    "bowls": lambda edit: edit.layout == "bowl",
}


def quality(count: int = COUNT) -> Iterator[Figure]:
    """`count` swaps and a fifth as many bowls, by the reference and by ours in several ways."""
    rows = {REFERENCE: (REFERENCE, {}), **{name: (OURS, params) for name, params in RIVALS.items()}}
    results = edited(held_out(SEED, count), rows)
    for group, belongs in GROUPS.items():
        chosen = {name: [edit for edit in edits if belongs(edit)] for name, edits in results.items()}
        for name in RIVALS:
            yield Figure(
                f"success %, mask IoU, dB of the background in {len(chosen[name])} {group}: {name}",
                verdict(chosen[name]),
                verdict(chosen[REFERENCE]),
                bar="no worse",
            )


def verdict(edits: list[Edit]) -> str:
    success, iou = share([edit.succeeded for edit in edits]), mean([edit.iou for edit in edits])
    return f"{success} %, {iou}, {psnr(edit.composed_error for edit in edits)} dB"


FIGURES = (quality,)

if __name__ == "__main__":
    run_figures(FIGURES, __doc__)
