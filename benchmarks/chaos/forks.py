"""Forks in a client: what forked children of a process with a used client submit and read."""

import json
import random
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from benchmarks.chaos.forking_server import Errand, Report
from benchmarks.chaos.system import System
from benchmarks.chaos.truth import Contents
from benchmarks.chaos.workload import Submission
from benchmarks.harness.waiting import wait_until
from diffedit import State

CHILDREN = 4
NO_JOB = "-"
TIMEOUT = 180.0
"""Seconds that a fork may take, and may wait for results to read. Each call of a child gives up earlier."""


@dataclass(frozen=True)
class Fork:
    """A process with a used client that forks a child for each submission, `at` seconds from the start."""

    at: float
    submissions: Sequence[Submission]


@dataclass
class ForkedReads:
    """What forked processes have read: pairs of a job's id and what was read, or of its id (or "-") and an error."""

    read: list[tuple[str, Contents]] = field(default_factory=list)
    errors: list[tuple[str, str]] = field(default_factory=list)


def schedule_forks(submissions: Sequence[Submission]) -> list[Fork]:
    """Return the forks that make those of the submissions that are marked as forked, each as soon as all are due."""
    forked = sorted((each for each in submissions if each.forked), key=lambda each: each.at)
    groups = [forked[start : start + CHILDREN] for start in range(0, len(forked), CHILDREN)]
    return [Fork(group[-1].at, group) for group in groups]


def fork(system: System, environment: Mapping[str, str], event: Fork, reads: ForkedReads) -> list[Submission]:
    """Run the fork. Return the submissions that it could not make because a service did not answer."""
    # A child without a result to read opens no connection to S3 that another could share.
    wait_until(lambda: _enough_to_read(system), TIMEOUT)
    readable = _readable(system)
    chosen = random.Random(event.at).sample(readable, min(CHILDREN, len(readable)))
    jobs = [*chosen, *([None] * (CHILDREN - len(chosen)))]
    left = [*event.submissions, *([None] * (CHILDREN - len(event.submissions)))]
    errands = [Errand(submission, job_id) for submission, job_id in zip(left, jobs, strict=True)]
    try:
        reports = _reports_of(errands, environment)
    except (subprocess.SubprocessError, ValueError) as error:
        reads.errors += [(job_id, type(error).__name__) for job_id in chosen]
        return list(event.submissions)
    submitted = set()
    for errand, report in zip(errands, reports, strict=True):
        if errand.submission and report.submitted:
            system.observer.add_job(errand.submission.idempotency_key, report.submitted)
            submitted.add(errand.submission.idempotency_key)
        job_id = errand.job_id or NO_JOB
        reads.read += [(job_id, contents) for contents in report.read]
        reads.errors += [(job_id, report.error)] if report.error else []
    return [each for each in event.submissions if each.idempotency_key not in submitted]


def _enough_to_read(system: System) -> bool:
    """Return whether there is a result for each child, or no more are being made."""
    return len(_readable(system)) >= CHILDREN or not system.observer.unfinished_jobs


def _readable(system: System) -> list[str]:
    statuses = [status for status in list(system.observer.statuses.values()) if status]
    return [each.id for each in statuses if each.state is State.SUCCEEDED and not system.is_damaged(each)]


def _reports_of(errands: Sequence[Errand], environment: Mapping[str, str]) -> list[Report]:
    """Let forked children run the errands. Raises SubprocessError or ValueError if their parent does not report."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.chaos.forking_server"],
        input=json.dumps([asdict(errand) for errand in errands]),
        stdout=subprocess.PIPE,
        text=True,
        env=dict(environment),
        check=True,
        timeout=TIMEOUT,
    )
    return [Report(**fields) for fields in json.loads(done.stdout)]
