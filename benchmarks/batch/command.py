"""The command as a process that the benchmark starts, measures and kills."""

import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from diffedit import Client
from diffedit_worker.local.programs import diffedit_command

SAMPLE_EVERY = 0.5


@dataclass
class Watched:
    """What was seen while the command ran.

    Attributes:
        memory: resident memory of each run of the command in MiB, one number for each half of a second.
        waiting: jobs that wait in all queues, at the same moments.
        unfinished: jobs that wait or run, at the same moments.
    """

    memory: list[list[float]] = field(default_factory=list)
    waiting: list[int] = field(default_factory=list)


class Command:
    """`diffedit batch` on one manifest. It can be killed and started again."""

    def __init__(self, words: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self._words = diffedit_command("batch", *words)
        self._environment = environment
        self._log = log
        self.watched = Watched()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(self._words, env=dict(self._environment), stdout=log, stderr=log)
        self.watched.memory.append([])

    def kill(self) -> None:
        assert self.process
        self.process.kill()
        self.process.wait()

    def sample(self) -> None:
        """Note how much memory the command takes now."""
        assert self.process
        with suppress(psutil.Error):
            self.watched.memory[-1].append(psutil.Process(self.process.pid).memory_info().rss / 2**20)


def watch_queues(client: Client, watched: Watched, over: threading.Event) -> None:
    """Note how many jobs wait, until the event is set. Nothing is noted while Valkey is away."""
    while not over.wait(SAMPLE_EVERY):
        health = client.health()
        if health.queues:
            watched.waiting.append(sum(health.queues.values()))


def until_files(folder: Path, number: int, command: Command) -> bool:
    """Wait until there are so many results. Return False if the command has ended before."""
    while sum(1 for _ in folder.glob("*.png")) < number:
        command.sample()
        if command.process and command.process.poll() is not None:
            return False
        time.sleep(SAMPLE_EVERY)
    return True
