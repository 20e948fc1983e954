"""How good the edits are: held-out swaps, edited by the worker's own stage functions and judged by what is drawn.

    make quality        (or: python -m benchmarks.quality --seed 1000 --count 300)

Every picture is drawn, so the true result and the true changed region are known. The rows are edits of the same
pictures: by diffusers' pipeline with its defaults; by ours with our defaults, with the true mask, with concepts (as
the profile's `concept_prompts` says), and with the target alone (the captioner's text is the source). Two rows are
controls, not edits; they show that the judge recognizes what is there. Columns:

    success        the edited place is most like the target, among everything that could be there (judge.py)
    still source   ... most like the object that was there before
    IoU            overlap of the mask with the true region, in latent cells as the edit stage uses them
    recall         share of the true region's pixels that the mask covers
    raw, composed  PSNR outside of the true region, as decoded, and after the original's pixels are put back

Shares have Wilson's 95 % interval, means the normal one. `--try strength=0.6,num_maps_per_mask=20` adds a row; so does
`--try 'preset="draft"'`. `--against ROW` compares all other rows with that row, edit by edit.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from rich.console import Console

from benchmarks.quality.components import component_quality
from benchmarks.quality.held_out_edits import (
    INPUT,
    METHODS,
    OURS,
    TRUE_RESULT,
    Variant,
    edit_all,
    held_out_swaps,
)
from benchmarks.quality.report import paired_tables, save_contact_sheet, tables
from diffedit.contract.request import EditParams
from diffedit.contract.validation import explain
from diffedit_worker.models.loading import Models
from diffedit_worker.models.profiles import load_profiles, profile_named
from training.scenes import require_font


def parse_params(text: str) -> dict[str, Any]:
    """Return "strength=0.6,num_maps_per_mask=20" as parameters of an edit. Raises what argparse reports."""
    try:
        params = {name: json.loads(value) for name, value in (pair.split("=") for pair in text.split(","))}
        EditParams(profile="tiny", **{name: value for name, value in params.items() if name != "preset"})
    except ValidationError as error:
        raise argparse.ArgumentTypeError(explain(error, EditParams.model_fields)) from error
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not name=value,... with values as in JSON") from error
    return params


def format_params(params: dict[str, Any]) -> str:
    return ",".join(f"{name}={json.dumps(value)}" for name, value in params.items())


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        prog="python -m benchmarks.quality",
    )
    parser.add_argument("--seed", type=int, default=1000, help="seed of the scenes; not one that the model knows")
    parser.add_argument("--count", type=int, default=300, help="number of swaps in scenes of one and two objects")
    parser.add_argument("--row", action="append", choices=METHODS, dest="rows", help="only these rows")
    parser.add_argument("--try", action="append", type=parse_params, default=[], dest="tries", metavar="NAME=VALUE,...")
    parser.add_argument(
        "--against", metavar="ROW", help='the row to compare the others with, such as "ours, our defaults"'
    )
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--profile", default="tiny")
    parser.add_argument("--profiles", type=Path, help="a profiles file, as DIFFEDIT_PROFILES")
    parser.add_argument("--out", type=Path, default=Path("out/quality"), help="directory of the contact sheet")
    args = parser.parse_args()
    profile = profile_named(load_profiles(args.profiles), args.profile)
    card = Path(profile.diffusion.id).parent / "training.json"
    if card.exists() and args.seed in (known := json.loads(card.read_text()))["seeds"]:
        parser.error(f"the model was trained with the seeds {known['seeds']}; choose another seed")
    return args


def main() -> None:
    args = parse_arguments()
    require_font()
    held_out = held_out_swaps(args.seed, args.count)
    methods = args.rows or ([] if args.tries else METHODS)
    variants = {method: Variant(method, {}) for method in methods}
    variants |= {f"ours, {format_params(params)}": Variant(OURS, params) for params in args.tries}
    if args.against not in (None, *variants):
        raise SystemExit(f"--against {args.against!r}: there is no such row; rows: {', '.join(variants)}")

    results = edit_all(held_out, variants, processes=args.processes, profile=args.profile, profiles_file=args.profiles)

    console = Console(width=150)
    console.print(f"seed {args.seed}, {args.count} swaps; {args.processes} processes of one thread")
    if not (args.rows or args.tries):
        torch.set_num_threads(1)
        profile = profile_named(load_profiles(args.profiles), args.profile)
        console.print(component_quality(Models(profile, device="cpu"), args.seed, args.count))
    for table in tables(results) + (paired_tables(results, args.against) if args.against else []):
        console.print(table)
    args.out.mkdir(parents=True, exist_ok=True)
    edits = {name: edited for name, edited in results.items() if name not in (TRUE_RESULT, INPUT)}
    if edits:
        save_contact_sheet(held_out, edits, args.out / "sheet.png")
        console.print(f"{args.out / 'sheet.png'}: some of the edits as pictures")


if __name__ == "__main__":
    main()
