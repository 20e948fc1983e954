"""What the speed costs in quality: edits of held-out swaps by ours and by diffusers' pipeline.

The swaps are those of docs/explanation/quality.md. `python -m benchmarks.quality` shows more about them.
"""

from collections.abc import Callable, Iterator

from benchmarks.harness.estimates import mean_with_interval, psnr_of_errors, share_with_interval
from benchmarks.harness.results import ResultRow
from benchmarks.quality.held_out_edits import DIFFUSERS, OURS, Edit, Variant, edit_all, held_out_swaps

SEED = 2026
VARIANTS: dict[str, Variant] = {preset: Variant(OURS, {"preset": preset}) for preset in ("guide", "default", "draft")}
"""The presets of the bundled model's profile."""
GROUPS: dict[str, Callable[[Edit], bool]] = {
    "swaps": lambda edit: edit.layout != "bowl",
    "bowls": lambda edit: edit.layout == "bowl",
}


def speed_vs_quality(count: int = 80) -> Iterator[ResultRow]:
    """Compare success, masks and background of edits: `count` swaps and `count` / 5 bowls."""
    results = edit_all(held_out_swaps(SEED, count), {DIFFUSERS: Variant(DIFFUSERS, {}), **VARIANTS})
    for group, contains in GROUPS.items():
        chosen = {name: [edit for edit in edits if contains(edit)] for name, edits in results.items()}
        for name in VARIANTS:
            yield ResultRow(
                f"success %, mask IoU, PSNR of the background in {len(chosen[name])} {group}: {name}",
                summary(chosen[name]),
                summary(chosen[DIFFUSERS]),
                target="no worse",
            )


def summary(edits: list[Edit]) -> str:
    success = share_with_interval([edit.succeeded for edit in edits])
    iou = mean_with_interval([edit.iou for edit in edits])
    return f"{success} %, {iou}, {psnr_of_errors(edit.composed_error for edit in edits)} dB"
