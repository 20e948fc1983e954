"""The commands `diffedit up`, `diffedit env` and `diffedit demo`, which use the embedded services."""

import http.client
import os
import secrets
import shlex
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from http import HTTPStatus
from pathlib import Path

from rich.console import Console

from diffedit.client import Client
from diffedit.errors import LocalError
from diffedit.handle import JobHandle
from diffedit.listening import check_address
from diffedit.progress import follow
from diffedit.settings import Settings
from diffedit_worker.local.signals import sigterm_as_interrupt
from diffedit_worker.local.stack import LocalServices, no_proxy
from diffedit_worker.local.state import HOST, WEB_PORTS, free_port
from diffedit_worker.models.profiles import SAMPLES, default_profile, load_profiles, profile_named
from diffedit_worker.settings import WorkerSettings

out = Console(highlight=False, soft_wrap=True, markup=False)

READY_TIMEOUT = 120
"""Seconds that workers and the web server have to become ready."""

PICTURE = "08.png"
SOURCE = "a photograph of a bowl of fruits on a wooden table"
TARGETS = ("a photograph of a bowl of pears on a wooden table", "a photograph of a bowl of lemons on a wooden table")


def up(directory: Path, *, workers: int, profile: str | None, web_port: int | None = None) -> None:
    """Run the services and workers until an interrupt.

    With `web_port` also the web server, on this port of loopback and without keys, and the sender of webhooks. 0 stands
    for a free port.

    Raises:
        CannotListen: the port is taken.
        LocalError: a service cannot start, or ended.
    """
    settings = WorkerSettings.from_env()
    profile = profile or settings.profile or default_profile()
    profile_named(load_profiles(settings.profiles_file), profile)
    if web_port == 0:
        web_port = free_port(secrets.choice(WEB_PORTS), WEB_PORTS)
    elif web_port is not None:
        check_address(HOST, web_port)
    with sigterm_as_interrupt(), LocalServices(directory, profile=profile) as services:
        _print_cleared(services)
        for number in range(1, workers + 1):
            services.start_worker(f"worker{number}", environment=_metrics_port(settings, number))
        if web_port is not None:
            services.start_program("web", "serve", "--open", "--host", HOST, "--port", str(web_port))
            services.start_program("webhooks", "webhooks")
        # Not the environment itself: it contains the passwords, and this output may be kept as a log.
        out.print("# Valkey and S3 are up; use them from another terminal with")
        out.print(f"export $({_program()} env --dir {shlex.quote(str(directory))})")
        logs = services.directory / "logs"
        if workers:
            _wait_for_workers(services, Client(Settings.from_env(services.environment)), workers)
            out.print(f"# {workers} worker(s) ready; logs in {logs}; Ctrl-C stops everything")
        if web_port is not None:
            _wait_for_web(services, web_port)
            out.print("# The web page and the HTTP API, without keys and for this machine only:")
            out.print(f"http://{HOST}:{web_port}/")
        while True:
            for name in services.revive():
                out.print(f"# {name} ended and was started again; see {logs / name}.log")
            services.check()
            time.sleep(0.5)


def _metrics_port(settings: WorkerSettings, number: int) -> dict[str, str]:
    """Return the variable that gives each worker, counted from 1, a port of its own if the settings name one."""
    port = settings.metrics_port
    return {"DIFFEDIT_METRICS_PORT": str(port + number - 1)} if port else {}


def environment(directory: Path) -> dict[str, str]:
    """Return the variables with which clients and workers reach the services of `up` in this directory."""
    profile = Settings.from_env().profile or default_profile()
    variables = LocalServices(directory, profile=profile).announced_environment()
    behind_proxy = any(os.environ.get(name) for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"))
    return variables | (no_proxy() if behind_proxy else {})


def demo(out_dir: Path, directory: Path) -> None:
    """Edit a bundled picture twice with embedded services and a worker, and save the results."""
    with sigterm_as_interrupt(), LocalServices(directory, fresh=True, profile="tiny") as services:
        _print_cleared(services)
        out.print(f"Valkey and S3 are up, data in {services.directory}")
        services.start_worker()
        # boto3 reads the proxy from the environment of this process.
        os.environ.update(no_proxy())
        client = Client(Settings.from_env(services.environment))
        _wait_for_workers(services, client, 1)
        out.print(f'A worker is ready. Editing "{SOURCE}"')
        jobs = [
            client.edit(SAMPLES / PICTURE, source_prompt=SOURCE, target_prompt=target, seed=0) for target in TARGETS
        ]
        for target in TARGETS:
            out.print(f'  into "{target}"')
        follow(jobs, timeout=300, console=out)
        for number, job in enumerate(jobs, start=1):
            _save(job, out_dir if number == 1 else out_dir / "second")
    out.print("Everything is stopped again.\n")
    _print_next_steps()


def _save(job: JobHandle, out_dir: Path) -> None:
    result = job.result(timeout=60)
    paths = result.save(out_dir)
    seconds = sum(result.status.timings.values())
    found = ", ".join(stage.value for stage in result.status.cache_hits) or "nothing"
    out.print(f"{paths['grid']}: original | mask | result; {seconds:.1f} s of work, already there: {found}")


def _wait_for_workers(services: LocalServices, client: Client, workers: int) -> None:
    _wait(services, lambda: len(client.health().workers) >= workers, "a worker")


def _wait_for_web(services: LocalServices, port: int) -> None:
    def answers() -> bool:
        connection = http.client.HTTPConnection(HOST, port, timeout=5)
        with suppress(OSError, http.client.HTTPException), closing(connection):
            connection.request("GET", "/v1/health")
            return connection.getresponse().status == HTTPStatus.OK
        return False

    _wait(services, answers, "the web server")


def _wait(services: LocalServices, is_ready: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + READY_TIMEOUT
    while not is_ready():
        services.check()
        if time.monotonic() > deadline:
            raise LocalError(f"{what} is not ready after {READY_TIMEOUT} s; see {services.directory / 'logs'}")
        time.sleep(0.1)


def _print_cleared(services: LocalServices) -> None:
    for sentence in services.cleared:
        out.print(sentence)


def _print_next_steps() -> None:
    program = _program()
    out.print(
        "What to try next:\n"
        f"  {program} up\n"
        "      runs services and a worker until Ctrl-C; then, in another terminal in this directory,\n"
        f"  export $({program} env)\n"
        f"  {program} edit {SAMPLES / '00.png'} --source-concept dog --target-concept grapes\n"
        f"  {program} jobs\n"
        f"  {program} up --web\n"
        "      the same with a page for your browser, the HTTP API and webhooks; prints the address"
    )


def _program() -> str:
    """Return what to type in this directory to run this program again."""
    found = shutil.which("diffedit")
    return "diffedit" if found and Path(found).absolute() == Path(sys.argv[0]).absolute() else sys.argv[0]
