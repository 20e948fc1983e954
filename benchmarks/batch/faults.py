"""A batch of many rows while its command, a worker and Valkey are killed: is every row made exactly once?"""

import os
import sqlite3
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.batch.command import Command, Watched, until_files, watch_queues
from benchmarks.batch.rows import write_manifest
from benchmarks.harness.environment import Environment
from diffedit import State
from diffedit_worker.local.stack import VALKEY

AWAY = 2.0
"""Seconds from the end of Valkey to its next start."""
IN_FLIGHT = 64
KILLS = ((0.15, "command"), (0.3, "worker"), (0.45, "command"), (0.6, "valkey"), (0.75, "command"))
"""What is killed after which share of the rows."""


@dataclass(frozen=True)
class Faults:
    """What came of the batch.

    Attributes:
        rows: rows of the manifest.
        seconds: from the start of the command to the end of its last run.
        killed: what was killed, in order.
        files: results that were written.
        done: rows that the state names as done.
        jobs: jobs that were recorded: as many as rows, if nothing was submitted twice.
        succeeded: those of them that succeeded.
        named: jobs that the state names, each once.
        exit_code: of the last run of the command.
        watched: memory of the command and lengths of the queues.
    """

    rows: int
    seconds: float
    killed: tuple[str, ...]
    files: int
    done: int
    jobs: int
    succeeded: int
    named: int
    exit_code: int
    watched: Watched

    @property
    def exactly_once(self) -> bool:
        counts = {self.files, self.done, self.jobs, self.succeeded, self.named}
        return counts == {self.rows} and self.exit_code == 0


def run_with_faults(env: Environment, folder: Path, rows: int) -> Faults:
    """Run a batch, kill what `KILLS` names, start the command again after each kill, and count what came of it."""
    manifest, out = write_manifest(folder, "rows.jsonl", 10**6, rows), folder / "out"
    words = [str(manifest), "--out", str(out), "--in-flight", str(IN_FLIGHT)]
    command = Command(words, {**os.environ, **env.stack.environment}, folder / "command.log")
    before, over, killed = env.redis.zcard("diffedit:jobs"), threading.Event(), list[str]()
    supervisor = threading.Thread(target=env.workers.supervise, args=[over])
    watcher = threading.Thread(target=watch_queues, args=[env.client, command.watched, over])
    supervisor.start()
    watcher.start()
    began = time.monotonic()
    command.start()
    for share, what in KILLS:
        if until_files(out, int(share * rows), command):
            _kill(env, command, what)
            killed.append(what)
    until_files(out, rows + 1, command)
    assert command.process
    exit_code, seconds = command.process.wait(), time.monotonic() - began
    over.set()
    supervisor.join()
    watcher.join()
    done, named = _state_of(out / "batch.sqlite")
    statuses = _statuses(env)[: int(env.redis.zcard("diffedit:jobs")) - int(before)]
    return Faults(
        rows=rows,
        seconds=seconds,
        killed=tuple(killed),
        files=sum(1 for _ in out.glob("*.png")),
        done=done,
        jobs=len(statuses),
        succeeded=statuses.count(State.SUCCEEDED),
        named=named,
        exit_code=exit_code,
        watched=command.watched,
    )


def _kill(env: Environment, command: Command, what: str) -> None:
    if what == "command":
        command.kill()
        command.start()
    elif what == "worker":
        env.workers.pick(0)[1].kill()
    else:
        valkey = env.stack.processes[VALKEY]
        valkey.kill()
        env.stack.stop(valkey)
        time.sleep(AWAY)
        env.stack.start_valkey()
        env.stack.wait_ready()


def _state_of(path: Path) -> tuple[int, int]:
    """Return how many rows are done, and how many different jobs they name."""
    with sqlite3.connect(path) as db:
        row = db.execute("select count(*), count(distinct job) from rows where state = 'done'").fetchone()
    return int(row[0]), int(row[1])


def _statuses(env: Environment) -> list[State]:
    """Return the states of all jobs, newest first."""
    states: list[State] = []
    page = env.client.jobs(limit=1000)
    while page:
        states += [status.state for status in page]
        page = env.client.jobs(limit=1000, cursor=page.cursor) if page.cursor else page.__class__([])
    return states
