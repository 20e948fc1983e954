"""`diffedit alive`: whether the worker that writes a heartbeat file lives, for probes that start a command.

A probe starts it every few seconds, on every worker. So it imports as little as it can, and it asks nobody: it reads
the file that the worker writes every few seconds (`diffedit_worker.runtime.heartbeat_file`).
"""

import json
import os
import sys
import time

FILE_VARIABLE = "DIFFEDIT_HEARTBEAT_FILE"
MAX_AGE = 30.0
"""Seconds since the file was written, by default. A worker writes it every five."""
MAX_BYTES = 65536
"""What is read of a file at most. A worker writes less than 2,000 bytes."""


def check(file: str | None = None, max_age: float = MAX_AGE, ready: bool = False) -> int:
    """Print in one line whether the worker lives, or is ready for jobs, and why not. Return the exit code, 0 or 1."""
    reason = why_not(file or os.environ.get(FILE_VARIABLE), max_age, ready)
    if reason is None:
        print("ready" if ready else "alive")
        return 0
    print(f"not {'ready' if ready else 'alive'}: {reason}", file=sys.stderr)
    return 1


def why_not(file: str | None, max_age: float, ready: bool) -> str | None:
    """Return why the worker does not live, or is not ready; None if it does, or is."""
    if not file:
        return f"no heartbeat file is named; set {FILE_VARIABLE}, or add --file"
    try:
        # A probe must not wait, not for the writer of a pipe either. Nor does it read a device to its end.
        with open(file, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK)) as opened:
            said = json.loads(opened.read(MAX_BYTES) or b"")
        written_at, live, reasons = float(said["written_at"]), said["live"] is True, list(said["why"])
        is_ready = said["ready"] is True
    except OSError as error:
        return f"{file} cannot be read ({error.strerror})"
    except (ValueError, LookupError, TypeError, RecursionError):
        return f"{file} is not the heartbeat file of a worker"
    # The monotonic clock of the machine: it never jumps, and it starts again when the machine does.
    age = time.monotonic() - written_at
    if not 0 <= age <= max_age:
        return f"the worker has not written {file} for {age:.0f} s" if age > 0 else f"{file} is of an earlier start"
    if live and (is_ready or not ready):
        return None
    why = "; ".join(str(reason) for reason in reasons) or "the worker says so"
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in why)


def quick_arguments(words: list[str]) -> tuple[str | None, float, bool] | None:
    """Return the arguments of `check` that a command line gives; None if it is none that this short reader knows.

    Then the `diffedit` command reads it, explains what is wrong, or shows its help.
    """
    file, max_age, ready = None, MAX_AGE, False
    left = list(words)
    while left:
        option, equals, value = left.pop(0).partition("=")
        if option == "--ready" and not equals:
            ready = True
            continue
        if option not in ("--file", "--max-age") or not (equals or left):
            return None
        value = value if equals else left.pop(0)
        if option == "--file":
            file = value
            continue
        try:
            max_age = float(value)
        except ValueError:
            return None
        if not 0 < max_age < float("inf"):
            return None
    return file, max_age, ready
