"""The commands of the HTTP API: the server, and the keys of those who use it."""

from pathlib import Path
from typing import Annotated

import typer

from diffedit.api_keys import DEFAULT_RATE, MAX_RATE, ApiKey
from diffedit.cli import main
from diffedit.cli.options import AsJson
from diffedit.cli.render import keys_table
from diffedit.cli.services import WEB_PORT, LogLevel, web_server
from diffedit.errors import InvalidRequest
from diffedit.settings import Settings

PANEL = "Web"

keys_app = typer.Typer(no_args_is_help=True)
main.app.add_typer(keys_app, name="keys", rich_help_panel=PANEL, help="Make, list and revoke API keys.")


@main.command(PANEL, group=keys_app)
def add(
    owner: Annotated[str, typer.Argument(help="Whose jobs the key makes and sees.")],
    name: Annotated[str, typer.Option(help="What the key is for.")] = "",
    rate: Annotated[int, typer.Option(min=1, max=MAX_RATE, help="Requests a minute.")] = DEFAULT_RATE,
    as_json: AsJson = False,
) -> None:
    """Make an API key, and print it. It is shown only now: only its hash is stored."""
    text, key = main.make_client().add_api_key(owner, name=name, rate=rate)
    if as_json:
        main.print_json({"key": text, **_as_json(key)})
    else:
        main.err.print(f"key {key.id} of {key.owner}, {key.rate} requests a minute")
        print(text)


@main.command(PANEL, group=keys_app, name="list")
def list_keys(as_json: AsJson = False) -> None:
    """List the API keys."""
    found = main.make_client().api_keys()
    if as_json:
        main.print_json([_as_json(key) for key in found])
    else:
        main.print_table(keys_table(found))


@main.command(PANEL, group=keys_app)
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The id of the key, as `diffedit keys list` shows it.")],
    as_json: AsJson = False,
) -> None:
    """Revoke an API key. The next request with it is refused."""
    if not main.make_client().revoke_api_key(key_id):
        raise InvalidRequest(f"no API key has the id {key_id}; `diffedit keys list` shows them")
    if as_json:
        main.print_json({"id": key_id, "revoked": True})
    else:
        print("revoked")


@main.command(PANEL)
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = WEB_PORT,
    open_to_all: Annotated[
        bool, typer.Option("--open", help="No API keys: for one's own desk. Only on a loopback address.")
    ] = False,
    insecure: Annotated[bool, typer.Option("--insecure", help="Allow --open on any address.")] = False,
    links: Annotated[
        bool, typer.Option(help="Give pictures as links to the bucket. Without, this server passes the bytes on.")
    ] = True,
    proxy: Annotated[
        list[str] | None,
        typer.Option(metavar="ADDRESS", help="Believe the X-Forwarded headers of this proxy (repeatable)."),
    ] = None,
    log_level: Annotated[
        LogLevel, typer.Option(metavar="LEVEL", case_sensitive=False, help="The log level of uvicorn.")
    ] = LogLevel.INFO,
) -> None:
    """Serve the page and the HTTP API until Ctrl-C."""
    web_server().serve(
        main.make_client(),
        host=host,
        port=port,
        open_to_all=open_to_all,
        insecure=insecure,
        links=links,
        proxies=tuple(proxy or ()),
        samples=_samples(),
        log_level=log_level.value,
        log_format=Settings.from_env().log_format,
    )


def _samples() -> Path:
    """Return the directory of the bundled model's pictures. Needs none of the worker's packages."""
    from diffedit_worker.models.profiles import SAMPLES

    return SAMPLES


def _as_json(key: ApiKey) -> dict[str, object]:
    return key.model_dump(mode="json")
