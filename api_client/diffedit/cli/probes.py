"""The command that probes of a worker run."""

from typing import Annotated

import typer

from diffedit import alive as probes
from diffedit.cli import main


@main.command("Services")
def alive(
    file: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="The heartbeat file.", show_default=probes.FILE_VARIABLE),
    ] = None,
    max_age: Annotated[
        float, typer.Option(min=0.001, metavar="SECONDS", help="The largest age of the file.")
    ] = probes.MAX_AGE,
    ready: Annotated[bool, typer.Option("--ready", help="Also ask whether the worker is ready for jobs.")] = False,
) -> None:
    """Exit with 0 if the worker on this machine lives, else with 1. For probes of containers; it asks no service."""
    raise typer.Exit(probes.check(file, max_age, ready))
