"""The commands about jobs that were submitted before."""

from pathlib import Path
from typing import Annotated

import typer

from diffedit.cli import main
from diffedit.cli.options import AsJson, JobId, OutDir, Timeout, parse_tag_filter
from diffedit.cli.render import jobs_table, status_table
from diffedit.cli.results import save_result
from diffedit.contract.job import State
from diffedit.errors import InvalidRequest
from diffedit.handle import JobHandle


@main.command("Jobs")
def status(job_id: JobId, as_json: AsJson = False) -> None:
    """Show the state of a job."""
    found = _job(job_id).status(queue=True)
    if as_json:
        print(found.model_dump_json())
    else:
        main.out.print(status_table(found))


@main.command("Jobs")
def watch(job_id: JobId, timeout: Timeout = 600, as_json: AsJson = False) -> None:
    """Follow a job until it ends. With --json, print one line of JSON for each change."""
    job = _job(job_id)
    if as_json:
        for change in job.watch(timeout):
            print(change.model_dump_json(), flush=True)
    job.wait(timeout, progress=not as_json)


@main.command("Jobs")
def result(job_id: JobId, out_dir: OutDir = Path("out"), timeout: Timeout = 600, as_json: AsJson = False) -> None:
    """Save the result of a job. Wait for the job if it has not ended."""
    save_result(_job(job_id), out_dir, timeout, as_json)


@main.command("Jobs")
def cancel(job_id: JobId, as_json: AsJson = False) -> None:
    """Cancel a job. The exit code is 2 if the job had already ended."""
    job = _job(job_id)
    if not job.cancel():
        raise InvalidRequest(f"job {job_id} has already ended: {job.status().state.value}")
    if as_json:
        main.print_json({"id": job_id, "state": State.CANCELLED.value})
    else:
        print("cancelled")


@main.command("Jobs")
def delete(job_id: JobId, as_json: AsJson = False) -> None:
    """Cancel a job and delete its record, and the pictures, artifacts and results that no other job uses."""
    _job(job_id).delete()
    if as_json:
        main.print_json({"id": job_id, "deleted": True})
    else:
        print("deleted")


@main.command("Jobs")
def retry(
    job_id: JobId,
    idempotency_key: Annotated[
        str | None, typer.Option(help="The same key returns the same new job, however often the job is retried.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Submit a job that has ended again, and print the id of the new job."""
    job = _job(job_id).retry(idempotency_key=idempotency_key)
    if as_json:
        main.print_json({"id": job.id, "retry_of": job_id})
    else:
        print(job.id)


@main.command("Jobs")
def resend_webhook(job_id: JobId, as_json: AsJson = False) -> None:
    """Send the last event of a job to its webhook again."""
    _job(job_id).resend_webhook()
    if as_json:
        main.print_json({"id": job_id, "resent": True})
    else:
        print("resent")


@main.command("Jobs")
def jobs(
    state: Annotated[State | None, typer.Option(help="List only jobs in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="List at most this many jobs.")] = 50,
    owner: Annotated[str | None, typer.Option(help="List only jobs of this owner.")] = None,
    tag: Annotated[
        str | None,
        typer.Option(metavar="NAME[=VALUE]", help="List only jobs with this tag (and this value)."),
    ] = None,
    cursor: Annotated[str | None, typer.Option(help="List the jobs after those that ended with this cursor.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the newest jobs. If there are more, the cursor of the next ones is printed on stderr."""
    found = main.make_client().jobs(state, limit, owner=owner, tag=parse_tag_filter(tag), cursor=cursor)
    if as_json:
        main.print_json([each.model_dump(mode="json") for each in found])
    else:
        main.print_table(jobs_table(found))
    if found.cursor:
        main.err.print(f"more: --cursor {found.cursor}")


def _job(job_id: str) -> JobHandle:
    return main.make_client().job(job_id)
