"""How fairly owners share a lane: Jain's index over 20 owners, weights, and the wait of a small owner behind a big one.

    python -m benchmarks.fairness               (about ten minutes on two cores)
    python -m benchmarks.fairness --quick       (a tenth of the jobs)

Real Valkey, real workers with a simulated device whose stages take no time. Owners submit one after the other, the one
with the most jobs first. "First in, first out" is how jobs were served before, and are while a worker of 0.2.0 reads
the queue.
"""

import argparse
from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from benchmarks.fairness.fleet import fleet, jobs_before, serve
from benchmarks.fairness.measures import jain_index, per_weight, unequal_loads

OWNERS = 20
SMALL = 5
"""Jobs of small owners that are submitted one after the other behind those of a big one."""
WEIGHTS = {1: 1.0, 2: 2.0, 3: 4.0}
"""Which owners, in the order of their loads, have which weights in the second measurement."""


def shares(loads: Mapping[str, int], weights: Mapping[str, float], workers: int, *, fifo: bool) -> tuple[float, int]:
    """Serve while all owners wait. Return Jain's index of jobs by weight, and how many jobs ended."""
    # As many as can end while the owner that is through first still waits.
    total = sum(weights.get(owner, 1) for owner in loads)
    contended = int(0.9 * total * min(jobs / weights.get(owner, 1) for owner, jobs in loads.items()))
    with fleet(loads, weights, fifo=fifo) as made:
        served = serve(made, contended, workers)
    return jain_index(per_weight(served, weights)), sum(served.values())


def waits(jobs: int, *, fifo: bool) -> list[int]:
    """Return how many jobs of a big owner end before each job of a small one, with one worker."""
    with fleet({"big": jobs}, {}, fifo=fifo) as made:
        serve(made, 20, workers=1)
        return [jobs_before(made, f"small{number}", "big") for number in range(1 if fifo else SMALL)]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fairness")
    parser.add_argument("--quick", action="store_true", help="a tenth of the jobs")
    parser.add_argument("--workers", type=int, default=2, help="workers that serve the 20 owners")
    args = parser.parse_args()
    scale = 10 if args.quick else 1
    loads = unequal_loads(OWNERS, 30 // min(scale, 3), 2000 // scale)
    weights = {f"owner{number:02}": weight for number, weight in WEIGHTS.items()}
    table = Table("measurement", "first in, first out", "owners take turns", box=None)
    found = [shares(loads, {}, args.workers, fifo=fifo) for fifo in (True, False)]
    name = f"Jain's index, {OWNERS} owners with {min(loads.values())} to {max(loads.values())} jobs each"
    table.add_row(name, *(f"{index:.3f} (over {jobs} jobs)" for index, jobs in found))
    index, jobs = shares(loads, weights, args.workers, fifo=False)
    table.add_row("  of jobs divided by weight, three owners with 1, 2 and 4", "", f"{index:.3f} (over {jobs})")
    before, after = (waits(2000 // scale, fifo=fifo) for fifo in (True, False))
    name = f"jobs that end before that of a small owner behind {2000 // scale} of a big one, one worker"
    table.add_row(name, f"{max(before)}", f"{min(after)} to {max(after)}")
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
