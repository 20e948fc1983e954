"""How often each artifact was stored during a chaos run, counted from the workers' log files.

The workers are separate processes that faults kill at any moment. A counter in their memory would be lost with them,
and a worker that dies after an upload leaves no trace of it in the job's record. A line in the log stays.
`tests/unit/test_stored_artifacts.py` fails if the worker changes that line.
"""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

_STORED = re.compile(r": stored (artifacts/.*)")
"""The worker's log line about an upload, with the keys of the artifacts."""


def count_stored_artifacts(logs: Path) -> Counter[str]:
    """Return the number of uploads by artifact, from the log files of all workers in the directory `logs`.

    Artifacts are named by their `stem`, so that a result, its manifest and its thumbnail are one. They are
    always stored together.
    """
    return Counter(stem for log in logs.glob("worker*.log") for stem in _stored_in(log.read_text(errors="replace")))


def stem(key: str) -> str:
    """Return the key without its extension. A result, its manifest and its thumbnail have the same stem."""
    return key.rpartition(".")[0]


def _stored_in(text: str) -> Iterator[str]:
    for keys in _STORED.findall(text):
        yield from {stem(key) for key in keys.split(", ")}
