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
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from benchmarks.figures import mean, psnr, share
from benchmarks.held_out import INPUT, OURS, ROWS, TRUTH, Edit, Row, edited, held_out
from benchmarks.parts import parts
from diffedit.contract.request import EditParams
from diffedit.contract.validation import explain
from diffedit_worker.models.loading import Models
from diffedit_worker.models.profiles import load_profiles, profile_named
from training.scenes import Swap, draw, require_font

SHEET = 24


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
                share([edit.succeeded for edit in edits]),
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
            sides = [[edit.succeeded for edit in plain if getattr(edit, side) == kind] for side in ("target", "source")]
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
        verdicts = ", ".join("yes" if edits[number].succeeded else "NO" for edits in results.values())
        pen.text((2, top + side + 2), f"{number}: {swap.source} -> {swap.target}; judged: {verdicts}", fill="black")
    sheet.save(path)


def _params(text: str) -> dict[str, Any]:
    """ "strength=0.6,num_maps_per_mask=20" as parameters of an edit; what is wrong with them is argparse's to tell."""
    try:
        params = {name: json.loads(value) for name, value in (pair.split("=") for pair in text.split(","))}
        EditParams(profile="tiny", **params)
    except ValidationError as error:
        raise argparse.ArgumentTypeError(explain(error, EditParams.model_fields)) from error
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
    rows: dict[str, Row] = {name: (name, {}) for name in args.row or ([] if args.tries else ROWS)}
    rows |= {f"ours, {_named(params)}": (OURS, params) for params in args.tries}

    results = edited(held, rows, processes=args.processes, profile=args.profile, profiles_file=args.profiles)

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
