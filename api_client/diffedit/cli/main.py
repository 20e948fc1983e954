"""The Typer application, and the frame around each command: its client, its warnings, its errors, its exit code."""

import functools
import json
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from diffedit.cli.exit_codes import EXIT_CODES, INTERRUPTED, exit_code_of
from diffedit.cli.interrupts import lasting_interrupts
from diffedit.client import Client
from diffedit.errors import DiffEditError
from diffedit.text import printable


class Command(typer.core.TyperCommand):
    """A command whose usage line names its arguments without braces."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [piece.strip("{}") for piece in super().collect_usage_pieces(ctx)]


app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    epilog="\n".join(["Exit codes:", *(f"{row.code:>5}  {row.meaning}" for row in EXIT_CODES)]),
)
# Without markup, because the text comes from users and workers and may contain brackets.
out, err = Console(soft_wrap=True, markup=False), Console(stderr=True, soft_wrap=True, markup=False)

MAX_TABLE_WIDTH = 10_000
"""Columns of a row of a list. Far above what any cell needs, so that none is shortened."""


def make_client() -> Client:
    """Return a client of the services that the environment names. Tests replace this function."""
    return Client.from_env()


def command(
    panel: str, *, epilog: str | None = None, group: typer.Typer = app, name: str | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a function a subcommand of `group`, listed under `panel` in the help. Its name is the function's by default.

    An error is printed as one line on stderr, as JSON if the subcommand has an `as_json` option that is set. It ends
    the program with the exit code of its class.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        @group.command(name, cls=Command, rich_help_panel=panel, epilog=epilog)
        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> None:
            try:
                with lasting_interrupts(), _warnings_on_stderr():
                    function(*args, **kwargs)
            except DiffEditError as error:
                _print_error(error, as_json=bool(kwargs.get("as_json")))
                raise typer.Exit(exit_code_of(error)) from None
            except KeyboardInterrupt:
                err.print("interrupted")
                raise typer.Exit(INTERRUPTED) from None

        return run

    return register


def error_as_json(error: DiffEditError) -> dict[str, Any]:
    """Return `error`, `message` and `retryable`, and of a job's error also `job_id`, `stage` and `error_code`."""
    details = {name: value for name, value in vars(error).items() if name in ("job_id", "stage", "error_code")}
    return {"error": error.code, "message": str(error), "retryable": error.retryable, **details}


def print_table(table: Table) -> None:
    """Print a table with all of its text. The terminal folds a row that is wider; a pipe gets one line for each row."""
    Console(soft_wrap=True, markup=False, width=MAX_TABLE_WIDTH).print(table)


def print_json(value: object) -> None:
    """Print one JSON value on one line of stdout."""
    print(json.dumps(value), flush=True)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"diffedit {version('diffedit-service')}")
        raise typer.Exit()


@app.callback(help="Text-driven image editing as a service that you run yourself.")
def _main(
    show_version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    pass


@contextmanager
def _warnings_on_stderr() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: err.print(Text(f"warning: {printable(message)}", "yellow"))
        yield


def _print_error(error: DiffEditError, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(error_as_json(error)), file=sys.stderr)
    else:
        err.print(Text(f"{error.code}: {printable(error)}", "red"))
