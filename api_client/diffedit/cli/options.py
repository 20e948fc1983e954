"""Options and arguments that several commands share, and the values of `--param`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from diffedit.errors import InvalidRequest
from diffedit.jobs.pages import TagFilter

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text. An error is JSON on stderr.")]
Timeout = Annotated[float, typer.Option(metavar="SECONDS", help="How long to wait until the job has ended.")]
OutDir = Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where to save result, mask, grid and manifest.")]
JobId = Annotated[str, typer.Argument(metavar="ID", help="The id of the job.")]


def parse_params(texts: Sequence[str]) -> dict[str, Any]:
    """Return `["scheduler=dpmsolver++", "num_prompts=8"]` as a dictionary.

    A value is read as JSON; a value that is not JSON is a text. Names and ranges are checked later, by `EditParams`.

    Raises:
        InvalidRequest: a text is not NAME=VALUE, or a name occurs twice.
    """
    params: dict[str, Any] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if not (name and value):
            raise InvalidRequest(f"--param {text}: write it as NAME=VALUE, for example scheduler=dpmsolver++")
        if name in params:
            raise InvalidRequest(f"--param {text}: {name} is given twice; give it once")
        params[name] = json_or_text(value)
    return params


def json_or_text(value: str) -> Any:
    """Return a value that is JSON, or else the text itself."""
    try:
        return json.loads(value)
    except ValueError:
        return value


def parse_tags(texts: Sequence[str]) -> dict[str, str]:
    """Return `["album=9", "draft"]` as a dictionary. A tag without a value has an empty one.

    Raises:
        InvalidRequest: a name occurs twice.
    """
    tags: dict[str, str] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if name in tags:
            raise InvalidRequest(f"--tag {text}: {name} is given twice; give it once")
        tags[name] = value
    return tags


def parse_tag_filter(text: str | None) -> TagFilter | None:
    """Return "album" or "album=9" as `Client.jobs` takes it."""
    name, has_value, value = (text or "").partition("=")
    return (name, value) if has_value else text


def value_text(value: object) -> str:
    """Return a value as `parse_params` reads it."""
    return value if isinstance(value, str) else json.dumps(value)
