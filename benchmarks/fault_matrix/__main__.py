"""What worker, client and `diffedit health` do at each fault of Redis and S3.

    python -m benchmarks.fault_matrix                  (all faults, about 15 minutes; benchmarks/FAULTS.md)
    python -m benchmarks.fault_matrix READONLY OOM     (some faults, only in the terminal)

A real Valkey, a real S3 server over TLS, real workers; for the fail-over Debian's Redis, with sentinels. Each fault
begins while a worker inverts a picture. The exit status is 1, and nothing is written, if a worker ended, if the same
client does not work afterwards, or if an attempt was lost although Redis was away for a short time only.
"""

import argparse
import itertools
import os
import platform
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path

from benchmarks.fault_matrix.faults import FAULTS, Fault
from benchmarks.fault_matrix.observation import SECONDS, Row, observe
from benchmarks.fault_matrix.system import S3_RETRY_TIMEOUT, running_system
from benchmarks.harness.redis_processes import missing_packages
from diffedit.errors import NoWorkerWarning

PAGE = Path(__file__).parents[1] / "FAULTS.md"
COLUMNS = (
    "server",
    "fault",
    "for example",
    "a worker that runs a job",
    "a worker that starts",
    "the client's calls",
    "longest call",
    "`diffedit health`",
)
HEAD = f"""# Faults of Redis and S3

Written by `python -m benchmarks.fault_matrix` on {os.cpu_count()} cores, Python {platform.python_version()}.

A fault begins while a worker inverts a picture. It lasts {SECONDS:g} seconds, or until a worker that starts has met it.
A worker repeats a command to Redis for 20 seconds; a longer outage may cost an attempt. A stage waits for S3 for only
{S3_RETRY_TIMEOUT:g} seconds here (`DIFFEDIT_S3_RETRY_TIMEOUT`, by default 60), so that the faults of S3 outlast it.
A row is written only if the jobs succeed after the fault, and the client that was used before goes on.

| {" | ".join(COLUMNS)} |
|{"---|" * len(COLUMNS)}
"""


def line(row: Row) -> str:
    """Return a row of the table."""
    fault = row.fault
    cells = (fault.server, fault.name, fault.cause, row.worker, row.starting, row.client, f"{row.seconds:.1f} s")
    return f"| {' | '.join((*cells, row.health))} |"


def chosen(names: Iterable[str]) -> list[Fault]:
    return [fault for fault in FAULTS if not names or fault.name in names]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        prog="python -m benchmarks.fault_matrix",
    )
    parser.add_argument("names", nargs="*", metavar="FAULT", help="; ".join(fault.name for fault in FAULTS))
    args = parser.parse_args()
    if unknown := set(args.names) - {fault.name for fault in FAULTS}:
        parser.error(f"no such fault: {', '.join(sorted(unknown))}")
    warnings.simplefilter("ignore", NoWorkerWarning)
    rows: list[Row] = []
    faults = chosen(args.names)
    if any(fault.replicated for fault in faults) and (missing := missing_packages()):
        parser.error(f"programs are missing; apt-get install --no-install-recommends {' '.join(missing)}")
    for replicated, group in itertools.groupby(faults, lambda fault: fault.replicated):
        with running_system(replicated=replicated) as system:
            for fault in group:
                rows.append(observe(system, fault))
                print(line(rows[-1]), flush=True)
    if not args.names and all(row.ok for row in rows):
        PAGE.write_text(HEAD + "".join(f"{line(row)}\n" for row in rows))
    sys.exit(not all(row.ok for row in rows))


if __name__ == "__main__":
    main()
