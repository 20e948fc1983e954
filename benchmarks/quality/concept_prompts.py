"""Two concepts, by the caption or by sentences: the same held-out swaps edited in both ways, with a paired test.

    python -m benchmarks.quality.concept_prompts --seed 40961 --count 300

The source is named as in docs/explanation/quality.md, and the captioner writes the caption. With `--edits FILE`, each
edit is kept there, and a second run with the same file makes only those that are missing. `--texts` edits nothing; it
counts in how many swaps the caption way has the very texts of the row "ours, our defaults", and so the same edits.
"""

import argparse
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.stats import binomtest

from benchmarks.quality.components import caption_of
from benchmarks.quality.held_out_edits import CONCEPTS, Edit, Editor, Variant, held_out_swaps
from benchmarks.quality.report import COLUMNS, GROUPS
from diffedit.contract.request import Prompts
from diffedit_worker.models.loading import Models
from diffedit_worker.models.profiles import load_profiles
from diffedit_worker.stages.concepts import caption_prompts
from training.bundle import edit_texts
from training.scenes import Layout, Swap, draw, require_font

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


def make_edits(seed: int, count: int, ways: Collection[str], kept: KeptEdits) -> dict[str, list[Edit | None]]:
    """Make the edits of the swaps in these ways, but not those that were kept.

    Returns:
        the edits of the swaps by way, None for an edit that was not made.
    """
    editor: Editor | None = None
    results: dict[str, list[Edit | None]] = {way: [] for way in WAYS}
    for number, swap in track(numbered(held_out_swaps(seed, count)), transient=True):
        for way in WAYS:
            place = way, swap.before.layout, number
            if place not in kept.edits and way in ways:
                editor = editor or Editor("tiny", None)
                kept.add(way, number, editor.edit(swap, Variant(CONCEPTS, {"concept_prompts": way})))
            results[way].append(kept.edits.get(place))
    return results


def share_like_prompts(models: Models, swaps: Sequence[Swap]) -> str:
    """Return in how many swaps the caption gives exactly the two prompts of the row "ours, our defaults"."""
    count = 0
    for swap in track(swaps, transient=True):
        texts, caption = edit_texts(swap), caption_of(models, draw(swap.before))
        made = caption_prompts(caption, texts["source_concept"], texts["target_concept"])
        count += made == Prompts(source=(texts["source_prompt"],), target=(texts["target_prompt"],))
    return f"{count} of {len(swaps)}"


def numbered(swaps: Sequence[Swap]) -> list[tuple[int, Swap]]:
    """Return each swap with its number among those of its layout, which does not depend on their count."""
    found: dict[Layout, int] = {}
    pairs = []
    for swap in swaps:
        layout = swap.before.layout
        pairs.append((found.setdefault(layout, 0), swap))
        found[layout] += 1
    return pairs


def table(results: Mapping[str, Sequence[Edit | None]]) -> Table:
    """Return a row for each group of swaps and each way; the last column compares the pairs of a group."""
    made = Table("", "", *COLUMNS, "succeeds in one way only")
    for title, contains in GROUPS.items():
        for way in WAYS:
            edits = [edit for edit in results[way] if edit and contains(edit)]
            cells = [column(edits) if edits else "-" for column in COLUMNS.values()]
            comparison = paired(results, contains) if way == WAYS[-1] else ""
            made.add_row(f"{title} (n = {len(edits)})", way, *cells, comparison)
    return made


def paired(results: Mapping[str, Sequence[Edit | None]], contains: Callable[[Edit], bool]) -> str:
    """Return how many swaps only one way edits right, and McNemar's exact test of the difference, two-sided."""
    by_sentences, by_caption = (results[way] for way in WAYS)
    pairs = [
        (one.succeeded, other.succeeded)
        for one, other in zip(by_sentences, by_caption, strict=True)
        if one and other and contains(one)
    ]
    sentences, caption = pairs.count((True, False)), pairs.count((False, True))
    p = binomtest(caption, sentences + caption).pvalue if sentences + caption else 1.0
    return f"sentences {sentences}, caption {caption} of {len(pairs)}, p = {p:.2g}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], prog="python -m benchmarks.quality.concept_prompts"
    )
    parser.add_argument("--seed", type=int, default=40961)
    parser.add_argument(
        "--count", type=int, default=300, help="number of swaps; a fifth as many bowls come in addition"
    )
    parser.add_argument("--texts", action="store_true", help="edit nothing; only compare the texts of the caption way")
    parser.add_argument("--way", action="append", choices=WAYS, dest="ways", help="make edits in this way only")
    parser.add_argument("--edits", type=Path, help="a file that keeps the edits")
    args = parser.parse_args()
    require_font()
    console = Console(width=160)
    if args.texts:
        models = Models(load_profiles()["tiny"], device="cpu")
        found = share_like_prompts(models, held_out_swaps(args.seed, args.count))
        console.print(f"seed {args.seed}: the prompts by the caption equal those of two prompts in {found} swaps")
        return
    results = make_edits(args.seed, args.count, args.ways or WAYS, KeptEdits(args.seed, args.edits))
    console.print(f"seed {args.seed}, {args.count} swaps and {args.count // 5} bowls, one process of one thread")
    console.print(table(results))


if __name__ == "__main__":
    main()
