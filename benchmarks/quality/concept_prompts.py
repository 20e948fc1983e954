"""Two concepts, by the caption or by sentences: the same held-out swaps edited in both ways, with a paired test.

    python -m benchmarks.quality.concept_prompts --seed 40961 --count 300

The source is named as in docs/explanation/quality.md, and the captioner writes the caption. With `--edits FILE`, each
edit is kept there, and a second run with the same file makes only those that are missing.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.stats import binomtest

from benchmarks.quality.held_out_edits import CONCEPTS, Edit, Editor, Variant, held_out_swaps
from benchmarks.quality.report import COLUMNS, GROUPS
from training.scenes import Layout, Swap, require_font

WAYS = ("sentences", "caption")
NO_PICTURE = Image.new("L", (1, 1))


class KeptEdits:
    """Edits of both ways, by the layout and the number of the swap, in a file if one is given."""

    def __init__(self, seed: int, path: Path | None) -> None:
        self.seed, self.path = seed, path
        self.edits: dict[tuple[str, str, int], Edit] = {}
        for line in path.read_text().splitlines() if path and path.exists() else ():
            entry = json.loads(line)
            if entry["seed"] == seed:
                fields = {**entry["edit"], "picture": NO_PICTURE, "mask": NO_PICTURE}
                self.edits[entry["way"], fields["layout"], entry["number"]] = Edit(**fields)

    def add(self, way: str, number: int, edit: Edit) -> None:
        self.edits[way, edit.layout, number] = edit
        if self.path:
            fields = {name: value for name, value in vars(edit).items() if name not in ("picture", "mask")}
            with self.path.open("a") as file:
                file.write(json.dumps({"seed": self.seed, "way": way, "number": number, "edit": fields}) + "\n")


def edit_both_ways(seed: int, count: int, kept: KeptEdits) -> dict[str, list[Edit]]:
    """Return the edits of the swaps, by way. The edits that were kept are not made again."""
    editor: Editor | None = None
    results: dict[str, list[Edit]] = {way: [] for way in WAYS}
    for number, swap in track(numbered(held_out_swaps(seed, count)), transient=True):
        for way in WAYS:
            place = way, swap.before.layout, number
            if place not in kept.edits:
                editor = editor or Editor("tiny", None)
                kept.add(way, number, editor.edit(swap, Variant(CONCEPTS, {"concept_prompts": way})))
            results[way].append(kept.edits[place])
    return results


def numbered(swaps: Sequence[Swap]) -> list[tuple[int, Swap]]:
    """Return each swap with its number among those of its layout, which does not depend on their count."""
    found: dict[Layout, int] = {}
    pairs = []
    for swap in swaps:
        layout = swap.before.layout
        pairs.append((found.setdefault(layout, 0), swap))
        found[layout] += 1
    return pairs


def table(results: dict[str, list[Edit]]) -> Table:
    """Return a row for each group of swaps and each way; the last column compares the pairs of a group."""
    made = Table("", "", *COLUMNS, "only one succeeds, p")
    for title, contains in GROUPS.items():
        chosen = {way: [edit for edit in edits if contains(edit)] for way, edits in results.items()}
        for way, edits in chosen.items():
            cells: list[Any] = [column(edits) for column in COLUMNS.values()] if edits else ["-"] * len(COLUMNS)
            made.add_row(f"{title} (n = {len(edits)})", way, *cells, paired(chosen) if way == WAYS[-1] else "")
    return made


def paired(results: dict[str, list[Edit]]) -> str:
    """Return how many swaps only one way edits right, and McNemar's exact test of the difference, two-sided."""
    pairs = list(zip(*(results[way] for way in WAYS), strict=True))
    sentences = sum(one.succeeded and not other.succeeded for one, other in pairs)
    caption = sum(other.succeeded and not one.succeeded for one, other in pairs)
    p = binomtest(caption, sentences + caption).pvalue if sentences + caption else 1.0
    return f"sentences {sentences}, caption {caption}, p = {p:.2g}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], prog="python -m benchmarks.quality.concept_prompts"
    )
    parser.add_argument("--seed", type=int, default=40961)
    parser.add_argument(
        "--count", type=int, default=300, help="number of swaps; a fifth as many bowls come in addition"
    )
    parser.add_argument("--edits", type=Path, help="a file that keeps the edits")
    args = parser.parse_args()
    require_font()
    results = edit_both_ways(args.seed, args.count, KeptEdits(args.seed, args.edits))
    console = Console(width=160)
    console.print(f"seed {args.seed}, {args.count} swaps and {args.count // 5} bowls, one process of one thread")
    console.print(table(results))


if __name__ == "__main__":
    main()
