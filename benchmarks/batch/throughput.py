"""How fast the same kind of rows is made by the command, which has few jobs in flight, and submitted all at once."""

import os
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.batch.command import Command
from benchmarks.batch.rows import rows_of, write_manifest
from benchmarks.harness.environment import Environment
from diffedit import JobStatus


def all_at_once(env: Environment, folder: Path, first: int, rows: int) -> float:
    """Submit all rows, then wait for them. Return rows in a second."""
    manifest = write_manifest(folder, f"all-{first}.jsonl", first, rows)
    jobs = [env.client._submit_row({}, set(), row) for row in rows_of(manifest)]
    for job in env.client.as_completed(jobs):
        assert job.status().error is None
    return _rate([job.status() for job in jobs])


def by_the_command(env: Environment, folder: Path, first: int, rows: int) -> float:
    """Run the command. Return rows in a second."""
    manifest = write_manifest(folder, f"batch-{first}.jsonl", first, rows)
    out, started = folder / f"out-{first}", time.time()
    environment = {**os.environ, **env.stack.environment}
    command = Command([str(manifest), "--out", str(out)], environment, folder / "command.log")
    command.start()
    assert command.process and command.process.wait() == 0, (folder / "command.log").read_text()[-2000:]
    statuses = [status for status in env.client.jobs(limit=1000) if status.created_at.timestamp() >= started - 1]
    return _rate(statuses[:rows])


def _rate(statuses: Sequence[JobStatus]) -> float:
    """Return jobs in a second, from the first submission to the last end."""
    ended = [status.finished_at for status in statuses if status.finished_at]
    assert len(ended) == len(statuses)
    return len(statuses) / (max(ended) - min(status.created_at for status in statuses)).total_seconds()
