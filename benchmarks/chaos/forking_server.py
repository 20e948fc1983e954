"""A server that forks after its client was used, as gunicorn with --preload, uWSGI and multiprocessing do.

    python -m benchmarks.chaos.forking_server < errands.json

Each child submits an edit, if there is one for it, and reads the result of a job again and again. The children do so
at the same time, because only then an answer can reach the wrong one. A list of `Report` goes to stdout as JSON.
"""

import json
import os
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.chaos.truth import Contents, contents_of
from benchmarks.chaos.workload import Submission
from diffedit import Client
from diffedit.errors import DiffEditError, ServiceError

READS = 3
PATIENCE = 20.0
"""Seconds for which a child repeats a call to a service that does not answer."""


@dataclass(frozen=True)
class Errand:
    """What one child does: a submission, or none, and the id of the job whose result it reads, or none."""

    submission: Submission | None
    job_id: str | None


@dataclass(frozen=True)
class Report:
    """What came of an errand.

    Attributes:
        submitted: the id of the job, None if no service answered.
        read: what the child read.
        error: the last error that was not the absence of a service.
    """

    submitted: str | None = None
    read: tuple[Contents, ...] = ()
    error: str | None = None


def main() -> None:
    errands = [_errand(fields) for fields in json.load(sys.stdin)]
    client = Client.from_env()
    _use(client, errands)
    children = [_fork(client, errand) for errand in errands]
    _use(client, errands)
    print(json.dumps([_report_of(child, reader) for child, reader in children]))


def _fork(client: Client, errand: Errand) -> tuple[int, int]:
    """Start a child. Return its process id, and where its report can be read."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        with os.fdopen(writer, "w") as pipe:
            json.dump(asdict(_run(client, errand)), pipe)
        os._exit(0)
    os.close(writer)
    return child, reader


def _report_of(child: int, reader: int) -> dict[str, Any]:
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    report: dict[str, Any] = json.loads(text or json.dumps(asdict(Report(error="the child ended without a report"))))
    return report


def _errand(fields: dict[str, Any]) -> Errand:
    submission = fields["submission"]
    return Errand(Submission(**submission) if submission else None, fields["job_id"])


def _use(client: Client, errands: list[Errand]) -> None:
    """Open the client's connections to Redis and S3."""
    client.health()
    for errand in errands:
        with suppress(DiffEditError):  # what cannot be read is the children's matter
            _read(client, errand.job_id)


def _run(client: Client, errand: Errand) -> Report:
    try:
        submitted = _submit(client, errand.submission) if errand.submission else None
        read = [contents for _ in range(READS) if (contents := _read(client, errand.job_id))]
        return Report(submitted, tuple(read))
    except DiffEditError as error:
        return Report(error=f"{type(error).__name__}: {error}")


def _submit(client: Client, submission: Submission) -> str | None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            return client.edit(submission.picture, **submission.options).id
        except ServiceError:
            time.sleep(0.2)
    return None


def _read(client: Client, job_id: str | None) -> Contents | None:
    """Return what the job has made, None if a service does not answer."""
    deadline = time.monotonic() + PATIENCE
    while job_id and time.monotonic() < deadline:
        try:
            return contents_of(client.job(job_id).result(PATIENCE))
        except ServiceError:
            time.sleep(0.2)
    return None


if __name__ == "__main__":
    main()
