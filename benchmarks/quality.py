"""How good the edits are: held-out swaps, edited through the worker's own stage functions, judged by what is drawn.

    make quality        (or: python -m benchmarks.quality --seed 1000 --count 300)

Every picture is drawn, so the true result and the true changed region are known. The rows are edits of the same
pictures: by diffusers' pipeline at its defaults, by ours at our defaults, with the true mask, asked by concepts (whose
sentences the prompter writes), and by the target alone (the captioner's words being the source). Two rows are no edits
and show that the judge sees what is there. Columns:

    success        the edited place is most like the target, out of everything that could be there (`judge.py`)
    still source   ... most like what was there before
    IoU            mask against the true region, both in latent cells as the edit stage uses them
    recall         share of the true region's pixels that the mask covers
    raw, composed  PSNR outside the true region, as decoded and after the original's pixels are put back

with 95 % intervals (Wilson's for shares, normal for means). `--try strength=0.6,num_maps_per_mask=20` adds a row.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from pydantic import ValidationError
from rich.console import Console
from rich.progress import track
from rich.table import Table

from api_client.contract import EditParams, Slot, explain
from api_client.pictures import Picture
from benchmarks.figures import mean, psnr, share
from benchmarks.judge import seen
from benchmarks.parts import parts
from benchmarks.sides import Reference, ours, request
from training.bundle import asked
from training.scenes import Layout, Swap, changed_region, draw, require_font, swaps
from worker.canvas import Canvas, grow_mask, shrink_mask
from worker.models import Models
from worker.profiles import load_profiles, profile_named

REFERENCE = "diffusers, its defaults"
OURS = "ours, our defaults"
TRUE_MASK = "ours, true mask"
CONCEPTS = "ours, concepts"
ALONE = "ours, target alone"
TRUTH = "control: the true result"
INPUT = "control: the input"
ROWS = (REFERENCE, OURS, TRUE_MASK, CONCEPTS, ALONE, TRUTH, INPUT)

SHEET = 24


@dataclass(frozen=True)
class Edit:
    """One edit of one swap. Errors are mean squared ones outside the true region, in 8-bit levels."""

    layout: Layout
    source: str
    target: str
    seen: str | None
    iou: float
    recall: float
    raw_error: float
    composed_error: float
    seconds: float
    picture: Image.Image
    mask: Image.Image


class Bench:
    """The models, in one process of several."""

    def __init__(self, profile: str, profiles_file: Path | None) -> None:
        # More threads wait for each other on a model this small; the cores work on different edits instead.
        torch.set_num_threads(1)
        self.models = Models(load_profiles(profiles_file)[profile], device="cpu")
        self.reference = Reference(self.models)

    def edit(self, row: str, swap: Swap, params: dict[str, Any]) -> Edit:
        """Edit the swap's picture as the row says, and measure what came out."""
        original, region = draw(swap.before), changed_region(swap)
        began = time.perf_counter()
        with decoded(self.models.vae) as raw:
            picture, mask = self._edited(row, swap, original, params)
        seconds = time.perf_counter() - began
        canvas = Canvas.fit(original.size, self.models.size, self.models.vae_scale_factor)
        cells, true_cells = (
            np.asarray(shrink_mask(each, canvas, self.models.vae_scale_factor)) > 127
            for each in (mask, Image.fromarray(region).convert("L"))
        )
        background = ~region
        return Edit(
            layout=swap.before.layout,
            source=swap.source,
            target=swap.target,
            seen=seen(swap, picture),
            iou=float((cells & true_cells).sum() / (cells | true_cells).sum()),
            recall=float((np.asarray(mask) > 127)[region].mean()),
            raw_error=_error(raw[-1] if raw else picture, original, background),
            composed_error=_error(picture, original, background),
            seconds=seconds,
            picture=picture,
            mask=mask,
        )

    def _edited(
        self, row: str, swap: Swap, original: Image.Image, params: dict[str, Any]
    ) -> tuple[Image.Image, Image.Image]:
        texts = asked(swap)
        if row == REFERENCE:
            picture, found = self.reference(original, texts["source_prompt"], texts["target_prompt"])
            canvas = Canvas.fit(original.size, self.models.size, self.models.vae_scale_factor)
            return picture, grow_mask(Image.fromarray((found[0] * 255).astype(np.uint8)), canvas)
        if row in (TRUTH, INPUT):
            return draw(swap.after if row == TRUTH else swap.before), Image.fromarray(changed_region(swap)).convert("L")
        have: dict[Slot, Any] = {Slot.IMAGE: Picture(original, None, "png")}
        if row == TRUE_MASK:
            have[Slot.MASK] = Image.fromarray(changed_region(swap)).convert("L")
        if row == CONCEPTS:
            words = {name: texts[name] for name in ("source_concept", "target_concept")}
        elif row == ALONE:
            words = {"target_prompt": texts["target_prompt"]}
        else:
            words = {name: texts[name] for name in ("source_prompt", "target_prompt")}
        profile = self.models.profile.name
        made = ours(self.models, request(profile, {"seed": 0, **params}, **words), have)
        return made[Slot.RESULT].image, made[Slot.MASK]


@contextmanager
def decoded(vae: Any) -> Iterator[list[Image.Image]]:
    """Collects what the VAE decodes meanwhile, as pictures: the edit before the original's pixels are put back."""
    pictures: list[Image.Image] = []

    def collect(module: Any, args: Any, output: torch.Tensor) -> None:
        pixels = ((output[0].clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0)
        pictures.append(Image.fromarray(pixels.cpu().numpy()))

    hook = vae.decoder.register_forward_hook(collect)
    try:
        yield pictures
    finally:
        hook.remove()


def held_out(seed: int, count: int) -> list[Swap]:
    """`count` swaps, half of them in scenes of two objects, and a fifth as many bowls besides."""
    layouts: tuple[tuple[Layout, int], ...] = (("one", count - count // 2), ("two", count // 2), ("bowl", count // 5))
    return [swap for layout, share in layouts for swap in swaps(seed, share, layout)]


def _error(picture: Image.Image, original: Image.Image, where: np.ndarray) -> float:
    difference = np.asarray(picture.convert("RGB"), dtype=np.float64) - np.asarray(original, dtype=np.float64)
    return float(np.square(difference)[where].mean())


def succeeded(edit: Edit) -> bool:
    return edit.seen == edit.target


def report(results: dict[str, list[Edit]]) -> list[Table]:
    """The tables: rows by layout, and our defaults by kind."""
    columns = ("success %", "still source %", "mask IoU", "mask recall", "raw dB", "composed dB", "s")
    groups: dict[str, Callable[[Edit], bool]] = {
        "one and two objects": lambda edit: edit.layout != "bowl",
        "one object": lambda edit: edit.layout == "one",
        "two objects": lambda edit: edit.layout == "two",
        "bowl": lambda edit: edit.layout == "bowl",
    }
    tables = []
    for title, belongs in groups.items():
        chosen = {name: [edit for edit in edits if belongs(edit)] for name, edits in results.items()}
        if not any(chosen.values()):
            continue
        table = Table("", *columns, title=f"{title} (n = {len(next(iter(chosen.values())))})")
        for name, edits in chosen.items():
            table.add_row(
                name,
                share([succeeded(edit) for edit in edits]),
                share([edit.seen == edit.source for edit in edits]),
                mean([edit.iou for edit in edits]),
                mean([edit.recall for edit in edits]),
                psnr(edit.raw_error for edit in edits),
                psnr(edit.composed_error for edit in edits),
                f"{statistics.median(edit.seconds for edit in edits):.2f}",
            )
        tables.append(table)
    if OURS in results:
        plain = [edit for edit in results[OURS] if edit.layout != "bowl"]
        by_kind = Table("kind", "as target, success %", "as source, success %", title=OURS)
        for kind in sorted({edit.target for edit in plain}):
            sides = [
                [succeeded(edit) for edit in plain if getattr(edit, side) == kind] for side in ("target", "source")
            ]
            by_kind.add_row(kind, *(share(hits) if hits else "-" for hits in sides))
        tables.append(by_kind)
    return tables


def contact_sheet(held: list[Swap], results: dict[str, list[Edit]], path: Path) -> None:
    """Evenly chosen swaps: the picture, the mask with the rest darkened, every row's result, the true result."""
    side, gap, head = 128, 4, 30
    numbers = range(0, len(held), max(1, len(held) // SHEET))
    names = ["before", f"mask of {OURS}", *results, "true result"]
    sheet = Image.new("RGB", (len(names) * (side + gap), head + len(numbers) * (side + gap + head)), "white")
    pen = ImageDraw.Draw(sheet)
    for column, name in enumerate(names):
        pen.text((column * (side + gap) + 2, 2), name, fill="black")
    for row, number in enumerate(numbers):
        swap, top = held[number], head + row * (side + gap + head)
        before = draw(swap.before)
        mask = (results.get(OURS) or next(iter(results.values())))[number].mask
        overlay = Image.composite(before, Image.eval(before, lambda level: level // 4), mask)
        pictures = [before, overlay, *(edits[number].picture for edits in results.values()), draw(swap.after)]
        for column, picture in enumerate(pictures):
            sheet.paste(picture.resize((side, side), Image.Resampling.BICUBIC), (column * (side + gap), top))
        verdicts = ", ".join("yes" if succeeded(edits[number]) else "NO" for edits in results.values())
        pen.text((2, top + side + 2), f"{number}: {swap.source} -> {swap.target}; judged: {verdicts}", fill="black")
    sheet.save(path)


_bench: Bench


def _start(profile: str, profiles_file: Path | None) -> None:
    global _bench
    _bench = Bench(profile, profiles_file)


def _work(task: tuple[str, Swap, dict[str, Any]]) -> Edit:
    return _bench.edit(*task)


def _params(text: str) -> dict[str, Any]:
    """ "strength=0.6,num_maps_per_mask=20" as parameters of an edit; what is wrong with them is argparse's to tell."""
    try:
        params = {name: json.loads(value) for name, value in (pair.split("=") for pair in text.split(","))}
        EditParams(model="tiny", **params)
    except ValidationError as error:
        raise argparse.ArgumentTypeError(explain(error)) from error
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not name=value,... with values as in JSON") from error
    return params


def _named(params: dict[str, Any]) -> str:
    return ",".join(f"{name}={json.dumps(value)}" for name, value in params.items())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, prog="benchmarks.quality"
    )
    parser.add_argument("--seed", type=int, default=1000, help="of the scenes; never the one that the model knows")
    parser.add_argument("--count", type=int, default=300, help="swaps of one object in scenes of one and two")
    parser.add_argument("--row", action="append", choices=ROWS, help="only these rows")
    parser.add_argument("--try", action="append", type=_params, default=[], dest="tries", metavar="NAME=VALUE,...")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--profile", default="tiny")
    parser.add_argument("--profiles", type=Path, help="a profiles file, as DIFFEDIT_PROFILES")
    parser.add_argument("--out", type=Path, default=Path("out/quality"))
    args = parser.parse_args()

    require_font()
    profile = profile_named(load_profiles(args.profiles), args.profile)
    card = Path(profile.diffusion.id).parent / "training.json"
    if card.exists() and args.seed in (known := json.loads(card.read_text()))["seeds"]:
        parser.error(f"the model was made with the seeds {known['seeds']}; take another")
    held = held_out(args.seed, args.count)
    rows: dict[str, tuple[str, dict[str, Any]]] = {
        name: (name, {}) for name in args.row or ([] if args.tries else ROWS)
    }
    rows |= {f"ours, {_named(params)}": (OURS, params) for params in args.tries}

    results: dict[str, list[Edit]] = {}
    start = (args.profile, args.profiles)
    with ProcessPoolExecutor(args.processes, initializer=_start, initargs=start) as pool:
        for name, (row, params) in rows.items():
            tasks = [(row, swap, params) for swap in held]
            results[name] = list(track(pool.map(_work, tasks), total=len(tasks), description=name, transient=True))

    console = Console(width=150)
    console.print(f"seed {args.seed}, {args.count} swaps; {args.processes} processes of one thread")
    if not (args.row or args.tries):
        torch.set_num_threads(1)
        console.print(parts(Models(profile, device="cpu"), args.seed, args.count))
    for table in report(results):
        console.print(table)
    args.out.mkdir(parents=True, exist_ok=True)
    edits = {name: made for name, made in results.items() if name not in (TRUTH, INPUT)}
    if edits:
        contact_sheet(held, edits, args.out / "sheet.png")
        console.print(f"{args.out / 'sheet.png'}: some of them to look at")


if __name__ == "__main__":
    main()
