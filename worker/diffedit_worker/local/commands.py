"""What `diffedit up`, `diffedit env` and `diffedit demo` do with the embedded stack."""

import shlex
import shutil
import sys
import time
from pathlib import Path

from rich.console import Console

from diffedit.client import Client
from diffedit.handle import JobHandle
from diffedit.progress import follow
from diffedit.settings import Settings
from diffedit_worker.local.stack import LocalError, LocalServices, sigterm_as_interrupt
from diffedit_worker.models.profiles import SAMPLES, default_profile, load_profiles, profile_named

out = Console(highlight=False, soft_wrap=True, markup=False)

PICTURE = "08.png"
SOURCE = "a photograph of a bowl of fruits on a wooden table"
TARGETS = ("a photograph of a bowl of pears on a wooden table", "a photograph of a bowl of lemons on a wooden table")


def up(directory: Path, *, workers: int, profile: str | None) -> None:
    """Run services and workers until interrupted."""
    settings = Settings.from_env()
    name = profile or settings.profile or default_profile()
    profile_named(load_profiles(settings.profiles_file), name)
    with sigterm_as_interrupt(), LocalServices(directory, profile=name) as stack:
        _report_cleared(stack)
        for number in range(1, workers + 1):
            stack.start_worker(f"worker{number}")
        # Not the environment itself: it holds the passwords, and what is printed here may be kept as a log.
        out.print("# Valkey and S3 are up; use them from another terminal with")
        out.print(f"export $({_program()} env --dir {shlex.quote(str(directory))})")
        if workers:
            _wait_for_worker(stack, Client(Settings.from_env(stack.environment)), workers)
            out.print(f"# {workers} worker(s) ready; logs in {stack.directory / 'logs'}; Ctrl-C stops everything")
        while True:
            for name in stack.revive_workers():
                out.print(f"# {name} ended and is started again; see {stack.directory / 'logs' / name}.log")
            stack.check()
            time.sleep(0.5)


def environment(directory: Path) -> dict[str, str]:
    """What reaches the services of `up` in this directory, running or not."""
    return LocalServices(directory, profile=Settings.from_env().profile or default_profile()).announced_environment()


def demo(out_dir: Path, directory: Path) -> None:
    """Edit a bundled picture twice through embedded services and a worker, and save what comes out."""
    with sigterm_as_interrupt(), LocalServices(directory, fresh=True, profile="tiny") as stack:
        _report_cleared(stack)
        out.print(f"Valkey and S3 are up, data in {stack.directory}")
        stack.start_worker()
        client = Client(Settings.from_env(stack.environment))
        _wait_for_worker(stack, client, 1)
        out.print(f'A worker is ready. Editing "{SOURCE}"')
        jobs = [
            client.edit(SAMPLES / PICTURE, source_prompt=SOURCE, target_prompt=target, seed=0) for target in TARGETS
        ]
        for target in TARGETS:
            out.print(f'  into "{target}"')
        follow(jobs, timeout=300, console=out)
        for number, job in enumerate(jobs, start=1):
            _tell(job, out_dir if number == 1 else out_dir / "second")
    out.print("Everything is stopped again.\n")
    program = _program()
    out.print(
        "What to try next:\n"
        f"  {program} up\n"
        "      services and a worker, until Ctrl-C; then, in another terminal here,\n"
        f"  export $({program} env)\n"
        f"  {program} edit {SAMPLES / '00.png'} --source-concept dog --target-concept grapes\n"
        f"  {program} jobs"
    )


def _tell(job: JobHandle, out_dir: Path) -> None:
    result = job.result(timeout=60)
    paths = result.save(out_dir)
    seconds = sum(result.status.timings.values())
    found = ", ".join(stage.value for stage in result.status.cache_hits) or "nothing"
    out.print(f"{paths['grid']}: original | mask | result; {seconds:.1f} s of work, already there: {found}")


def _wait_for_worker(stack: LocalServices, client: Client, workers: int) -> None:
    deadline = time.monotonic() + 120
    while len(client.health().workers) < workers:
        stack.check()
        if time.monotonic() > deadline:
            raise LocalError(f"the worker does not come up; see {stack.directory / 'logs'}")
        time.sleep(0.1)


def _program() -> str:
    """What to type to run this program again from here."""
    found = shutil.which("diffedit")
    return "diffedit" if found and Path(found).absolute() == Path(sys.argv[0]).absolute() else sys.argv[0]


def _report_cleared(stack: LocalServices) -> None:
    for sentence in stack.cleared:
        out.print(sentence)
