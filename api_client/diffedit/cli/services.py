"""The commands that start services and workers. They need extras of the package."""

from enum import StrEnum
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from diffedit.cli import main
from diffedit.cli.options import OutDir
from diffedit.contract.stages import Lane, ModelGroup
from diffedit.errors import InvalidRequest
from diffedit.status_server import ALL_ADDRESSES
from diffedit.webhooks import signing

DataDir = Annotated[Path, typer.Option("--dir", metavar="FOLDER", help="Data folder of the embedded services.")]


class LogLevel(StrEnum):
    """The log levels of Celery."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


WEB_PORT = 8000
EXPORTER_PORT = 9808
REPEATABLE = " Repeat the option to serve both."


def _one_of(choices: type[StrEnum], more: str = "") -> str:
    *first, last = choices
    return f"{', '.join(first)} or {last}.{more}"


@main.command("Services")
def up(
    directory: DataDir = Path(".diffedit/up"),
    workers: Annotated[int, typer.Option(min=0, max=16, help="Worker processes. 0 starts only the services.")] = 1,
    profile: Annotated[str | None, typer.Option(help="Model profile to serve.")] = None,
    web: Annotated[
        bool, typer.Option("--web", help="Also the web page, the HTTP API without keys, and the sender of webhooks.")
    ] = False,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Port of --web. 0 takes a free one.", show_default=str(WEB_PORT)),
    ] = None,
) -> None:
    """Run Valkey, S3 and workers on this machine until Ctrl-C."""
    if port is not None and not web:
        raise InvalidRequest("--port is that of the web server; add --web")
    if web:
        web_server()  # before anything is started
    web_port = (WEB_PORT if port is None else port) if web else None
    _local_commands().up(directory, workers=workers, profile=profile, web_port=web_port)


@main.command("Services")
def env(directory: DataDir = Path(".diffedit/up")) -> None:
    """Print the environment of `diffedit up` as lines for a shell or an .env file."""
    for name, value in _local_commands().environment(directory).items():
        print(f"{name}={value}")


@main.command("Services")
def demo(out_dir: OutDir = Path("out"), directory: DataDir = Path(".diffedit/demo")) -> None:
    """Start services and a worker, edit a bundled picture, and stop everything."""
    _local_commands().demo(out_dir, directory)


@main.command("Services")
def worker(
    profile: Annotated[str | None, typer.Option(help="Model profile to serve.")] = None,
    group: Annotated[
        list[ModelGroup] | None, typer.Option(metavar="GROUP", help=_one_of(ModelGroup, REPEATABLE))
    ] = None,
    lane: Annotated[list[Lane] | None, typer.Option(metavar="LANE", help=_one_of(Lane, REPEATABLE))] = None,
    preload: Annotated[bool, typer.Option(help="Load the models before the first job.")] = True,
    batch_jobs: Annotated[
        int | None,
        typer.Option(min=1, max=64, help="Stages to run at once.", show_default="what suits the device"),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the worker, unique on its host.")] = None,
    log_level: Annotated[
        LogLevel, typer.Option(metavar="LEVEL", case_sensitive=False, help=_one_of(LogLevel))
    ] = LogLevel.INFO,
    celery_options: Annotated[
        list[str] | None,
        typer.Argument(metavar="CELERY_OPTIONS", help="Further options of `celery worker`, after --."),
    ] = None,
) -> None:
    """Run a worker until Ctrl-C. It serves all model groups and lanes unless you name some."""
    # The worker imports these with its first model, which is too late for a readable message.
    worker_command = module_of("worker", "diffedit_worker.worker_command", "torch", "diffusers", "transformers")
    exit_code = worker_command.run(
        profile=profile,
        groups=tuple(group or ModelGroup),
        lanes=tuple(lane or Lane),
        preload=preload,
        batch_jobs=batch_jobs,
        name=name,
        log_level=log_level.value,
        extra=tuple(celery_options or ()),
    )
    worker_command.leave(exit_code)


@main.command("Services")
def webhooks(
    new_secret: Annotated[bool, typer.Option("--new-secret", help="Print a new secret, and end.")] = False,
    secrets: Annotated[bool, typer.Option("--secrets", help="Print the secrets of jobs without an owner.")] = False,
    secrets_of: Annotated[str | None, typer.Option(metavar="OWNER", help="Print the secrets of this owner.")] = None,
    threads: Annotated[int, typer.Option(min=1, max=64, help="Events that are sent at the same time.")] = 8,
) -> None:
    """Send the events of jobs to their webhooks until Ctrl-C. Any number of these may run."""
    if new_secret:
        print(signing.new_secret())
    elif secrets or secrets_of is not None:
        print(*main.make_client().webhook_secrets(secrets_of), sep="\n")
    else:
        module_of("web", "diffedit.webhooks.command", "standardwebhooks").run(threads)


@main.command("Services")
def exporter(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = ALL_ADDRESSES,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on. 0 takes a free one.")] = EXPORTER_PORT,
    owners: Annotated[
        int, typer.Option(min=0, help='Owners whose usage is shown by name; the others together are "other".')
    ] = 100,
) -> None:
    """Serve the metrics of the whole fleet to Prometheus, at /metrics, until Ctrl-C. One is enough."""
    module_of("metrics", "diffedit.exporter.command").run(host=host, port=port, owners=owners)


def web_server() -> Any:
    """Return the module of the web server. Raises InvalidRequest if the extra is not installed."""
    return module_of("web", "diffedit_web.server", "fastapi", "uvicorn", "sse_starlette", "python_multipart")


def _local_commands() -> Any:
    return module_of("worker,local", "diffedit_worker.local.commands")


def module_of(extras: str, name: str, *packages: str) -> Any:
    """Import a module of another package, which needs `extras` of this package, `packages` among them.

    Raises:
        InvalidRequest: something that the module needs is not installed.
    """
    try:
        for package in packages:
            if find_spec(package) is None:
                raise ModuleNotFoundError(f"No module named {package!r}")
        return import_module(name)
    except ImportError as error:
        command = f"pip install 'diffedit-service[{extras}]'"
        raise InvalidRequest(f"this command needs packages that are not installed: {command} ({error})") from error
