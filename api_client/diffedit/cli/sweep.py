"""The command that tries many wishes and parameters on one picture."""

from contextlib import closing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from diffedit.batch.explore import Explored, explore
from diffedit.batch.sweep import Plan, planned
from diffedit.cli import main
from diffedit.cli.batch_progress import counted
from diffedit.cli.exit_codes import SOME_FAILED
from diffedit.cli.options import AsJson, json_or_text, parse_params
from diffedit.contract.stages import Lane
from diffedit.errors import InvalidRequest

AxisOption = partial(typer.Option, rich_help_panel="What varies (give several values, separated by commas)")


@main.command("Jobs")
def sweep(
    picture: Annotated[Path, typer.Argument(metavar="PICTURE", help="A PNG, JPEG or WebP file.")],
    target_prompts: Annotated[
        list[str] | None,
        typer.Option(
            "--target-prompt", "--target", rich_help_panel="What varies", help="What it should show (repeatable)."
        ),
    ] = None,
    target_concepts: Annotated[
        list[str] | None,
        typer.Option("--target-concept", rich_help_panel="What varies", help="What replaces it (repeatable)."),
    ] = None,
    schedulers: Annotated[str, AxisOption("--scheduler", metavar="NAMES", help="ddim, dpmsolver++.")] = "",
    steps: Annotated[str, AxisOption("--steps", metavar="NUMBERS", help="num_inference_steps.")] = "",
    strength: Annotated[str, AxisOption("--strength", metavar="NUMBERS", help="strength.")] = "",
    ratio: Annotated[str, AxisOption("--ratio", metavar="NUMBERS", help="mask_thresholding_ratio.")] = "",
    guidance: Annotated[str, AxisOption("--guidance", metavar="NUMBERS", help="guidance_scale.")] = "",
    seeds: Annotated[str, AxisOption("--seed", metavar="NUMBERS", help="seed. Default: one for all.")] = "",
    as_list: Annotated[
        bool, typer.Option("--list", help="Not all combinations: the first value of each, the second of each, ...")
    ] = False,
    source_prompt: Annotated[
        str | None, typer.Option("--source-prompt", "--source", help="What the picture shows.")
    ] = None,
    source_concept: Annotated[str | None, typer.Option(help="The thing to replace.")] = None,
    caption: Annotated[str | None, typer.Option(help="A sentence that describes the whole picture.")] = None,
    preset: Annotated[str | None, typer.Option(help="Named parameter defaults.")] = None,
    profile: Annotated[str | None, typer.Option(help="The model profile.")] = None,
    param: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="A parameter of all edits (repeatable).")
    ] = None,
    lane: Annotated[Lane, typer.Option(metavar="LANE", help="interactive or batch.")] = Lane.BATCH,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where results, sheet and page are written.")] = Path(
        "sweep"
    ),
    sheet: Annotated[str, typer.Option(metavar="FORMAT", help="Format of the contact sheet: png or webp.")] = "png",
    timeout: Annotated[float, typer.Option(metavar="SECONDS", help="How long to wait for all edits.")] = 3600,
    as_json: AsJson = False,
) -> None:
    """Try wishes and parameters on PICTURE: a contact sheet, a page to compare, and each result as a file."""
    if sheet not in ("png", "webp"):
        raise InvalidRequest(f"--sheet {sheet}: png or webp")
    axes = {
        "target_prompt": target_prompts or [],
        "target_concept": target_concepts or [],
        "scheduler": _values(schedulers),
        "num_inference_steps": _values(steps),
        "strength": _values(strength),
        "mask_thresholding_ratio": _values(ratio),
        "guidance_scale": _values(guidance),
        "seed": _values(seeds),
    }
    plan = planned(axes, as_list=as_list)
    given = {
        "source_prompt": source_prompt,
        "source_concept": source_concept,
        "caption": caption,
        "preset": preset,
        "profile": profile,
        "lane": lane.value,
    }
    common = {**parse_params(param or []), **{name: value for name, value in given.items() if value is not None}}
    steps_done = explore(main.make_client(), picture, plan, common, out, sheet, timeout)
    with counted(len(plan.cells), quiet=as_json) as show, closing(steps_done):
        for explored in steps_done:
            show(explored.ended)
    _print(explored, plan, as_json)


def _values(text: str) -> list[Any]:
    return [json_or_text(part.strip()) for part in text.split(",") if part.strip()]


def _print(explored: Explored, plan: Plan, as_json: bool) -> None:
    if as_json:
        main.print_json({"edits": len(plan.cells), **asdict(explored)})
    else:
        made = ", ".join(f"{number} {name}" for name, number in explored.made.items())
        main.out.print(f"{len(plan.cells)} edits, {explored.failed} failed; made: {made or 'nothing new'}")
        for path in explored.files.values():
            main.out.print(path)
    if explored.failed:
        raise typer.Exit(SOME_FAILED)
