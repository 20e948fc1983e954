"""The command that submits an edit."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel

from diffedit.cli import main
from diffedit.cli.options import AsJson, OutDir, Timeout, parse_params, parse_tags, value_text
from diffedit.cli.results import save_result
from diffedit.contract.job import JobOptions
from diffedit.contract.request import EditParams, EditRequest
from diffedit.contract.stages import Lane
from diffedit.errors import InvalidRequest

TextOption = functools.partial(typer.Option, rich_help_panel="What to change")
ParamOption = functools.partial(typer.Option, rich_help_panel="Parameters")
JobOption = functools.partial(typer.Option, rich_help_panel="Job options")


def _help(model: type[BaseModel], name: str) -> str:
    """Return the docstring of a field as one line."""
    return " ".join((model.model_fields[name].description or "").split())


def _parameter_list() -> str:
    """Return the parameters of an edit for the help, one on each line, as they are written after `--param`."""
    lines = ["Parameters for --param, with their defaults (a profile may have others):"]
    for name, field in EditParams.model_fields.items():
        fixed = not (field.is_required() or field.default_factory)
        lines.append(f"{name}={value_text(field.default)}" if fixed else name)
    return "\n".join(lines)


@main.command("Jobs", epilog=_parameter_list())
def edit(
    image: Annotated[Path, typer.Argument(metavar="PICTURE", help="A PNG, JPEG or WebP file.")],
    source_prompt: Annotated[
        str | None, TextOption("--source-prompt", "--source", help=_help(EditRequest, "source_prompt"))
    ] = None,
    target_prompt: Annotated[
        str | None, TextOption("--target-prompt", "--target", help=_help(EditRequest, "target_prompt"))
    ] = None,
    source_concept: Annotated[str | None, TextOption(help=_help(EditRequest, "source_concept"))] = None,
    target_concept: Annotated[str | None, TextOption(help=_help(EditRequest, "target_concept"))] = None,
    caption: Annotated[str | None, TextOption(help=_help(EditRequest, "caption"))] = None,
    negative_prompt: Annotated[
        str | None, TextOption("--negative-prompt", "--negative", help=_help(EditRequest, "negative_prompt"))
    ] = None,
    mask: Annotated[
        Path | None, TextOption(help="A picture of the same size, white where the picture may change.")
    ] = None,
    mask_only: Annotated[bool, TextOption("--mask-only", "--preview", help="Compute only the mask.")] = False,
    num_inference_steps: Annotated[
        int | None, ParamOption("--num-inference-steps", "--steps", help=_help(EditParams, "num_inference_steps"))
    ] = None,
    strength: Annotated[float | None, ParamOption(help=_help(EditParams, "strength"))] = None,
    guidance_scale: Annotated[
        float | None, ParamOption("--guidance-scale", "--guidance", help=_help(EditParams, "guidance_scale"))
    ] = None,
    seed: Annotated[int | None, ParamOption(help=_help(EditParams, "seed"))] = None,
    profile: Annotated[str | None, ParamOption(help=_help(EditParams, "profile"))] = None,
    preset: Annotated[
        str | None,
        ParamOption(help='Named parameter defaults: "guide", "default", or a preset of the profile, such as "draft".'),
    ] = None,
    param: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Set a parameter of the list below (repeatable).")
    ] = None,
    lane: Annotated[Lane, JobOption(metavar="LANE", help=_help(JobOptions, "lane"))] = Lane.INTERACTIVE,
    start_timeout: Annotated[
        float | None, JobOption(metavar="SECONDS", help=_help(JobOptions, "start_timeout"))
    ] = None,
    deadline: Annotated[float | None, JobOption(metavar="SECONDS", help=_help(JobOptions, "deadline"))] = None,
    idempotency_key: Annotated[
        str | None,
        JobOption("--idempotency-key", "--key", help="The same call with the same key returns the same job."),
    ] = None,
    owner: Annotated[str | None, JobOption(help=_help(JobOptions, "owner"))] = None,
    tags: Annotated[
        list[str] | None, JobOption("--tag", metavar="NAME=VALUE", help="A label to find the job by (repeatable).")
    ] = None,
    keep: Annotated[
        float | None,
        JobOption(metavar="SECONDS", help="How long record, pictures and result are kept after the end of the job."),
    ] = None,
    webhook: Annotated[str | None, JobOption(metavar="URL", help=_help(JobOptions, "webhook"))] = None,
    out_dir: OutDir = Path("out"),
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Print the job's id and return.")] = False,
    timeout: Timeout = 600,
    as_json: AsJson = False,
) -> None:
    """Submit an edit of PICTURE, wait for it, and save its result."""
    options: dict[str, Any] = {
        "source_prompt": source_prompt,
        "target_prompt": target_prompt,
        "source_concept": source_concept,
        "target_concept": target_concept,
        "caption": caption,
        "negative_prompt": negative_prompt,
        "mask": mask,
        "num_inference_steps": num_inference_steps,
        "strength": strength,
        "guidance_scale": guidance_scale,
        "seed": seed,
        "profile": profile,
        "preset": preset,
        "lane": lane,
        "start_timeout": start_timeout,
        "deadline": deadline,
        "idempotency_key": idempotency_key,
        "owner": owner,
        "tags": parse_tags(tags) if tags else None,
        "keep": keep,
        "webhook": webhook,
    }
    client = main.make_client()
    submit = client.preview_mask if mask_only else client.edit
    job = submit(image, **_with_params(options, parse_params(param or [])))
    if no_wait:
        main.print_json({"id": job.id}) if as_json else print(job.id)
        return
    if not as_json:
        main.err.print(f"job {job.id}")
    save_result(job, out_dir, timeout, as_json)


def _with_params(options: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments of `Client.edit`: the options that are set, and the values of `--param`.

    Raises:
        InvalidRequest: a value of `--param` names an option that is already set, or something that is not a parameter
            of the edit but another argument of `Client.edit`.
    """
    arguments = {name: value for name, value in options.items() if value is not None}
    for name in params:
        if name in arguments.keys() & EditParams.model_fields.keys():
            raise InvalidRequest(f"{name} is given twice, as an option and with --param; give it once")
        if name == "image" or name in options.keys() - EditParams.model_fields.keys():
            raise InvalidRequest(f"--param {name}: this is not a parameter but an argument of its own; see --help")
    return {**arguments, **params}
